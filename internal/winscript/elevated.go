package winscript

import (
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/powershell"
	"github.com/ingot-build/ingot/internal/secret"
)

// elevated runs a command as a task of the Task Scheduler (its scripting
// objects are on Microsoft Learn under "Task Scheduler scripting objects"),
// hands on what it writes, and ends with its exit code. Logon type 1 is a
// password, 5 a service account; state 3 is "ready", result 267011 "has not
// run" and 267009 "is running".
const elevated = `
$ErrorActionPreference='Stop'
$ProgressPreference='SilentlyContinue'
$log=[IO.Path]::Combine($env:SystemRoot,'Temp',$name+'.out')
$out=[Console]::OpenStandardOutput()
$at=[long]0
function tail{
if(-not [IO.File]::Exists($log)){return}
$r=[IO.File]::Open($log,'Open','Read','ReadWrite')
try{
[void]$r.Seek($script:at,'Begin')
$b=New-Object byte[] 65536
while(($n=$r.Read($b,0,$b.Length)) -gt 0){$out.Write($b,0,$n);$script:at+=$n}
$out.Flush()
}finally{$r.Close()}
}
$code=1
try{
$s=New-Object -ComObject 'Schedule.Service'
$s.Connect()
$t=$s.NewTask(0)
$t.Principal.RunLevel=1
$t.Settings.Enabled=$true
$t.Settings.AllowDemandStart=$true
$t.Settings.DisallowStartIfOnBatteries=$false
$t.Settings.StopIfGoingOnBatteries=$false
$t.Settings.ExecutionTimeLimit='PT0S'
$t.Settings.Priority=4
$a=$t.Actions.Create(0)
$a.Path='cmd.exe'
$a.Arguments='/c "'+$command+' > "'+$log+'" 2>&1"'
$logon=1
$secret=$password
if(-not $password){$logon=5;$secret=$null}
$f=$s.GetFolder('\')
$r=$f.RegisterTaskDefinition($name,$t,6,$user,$secret,$logon,$null)
try{
[void]$r.Run($null)
do{
Start-Sleep -Milliseconds 200
tail
}until($r.State -eq 3 -and $r.LastTaskResult -ne 267011 -and $r.LastTaskResult -ne 267009)
tail
$code=$r.LastTaskResult
}finally{
$f.DeleteTask($name,0)
if([IO.File]::Exists($log)){[IO.File]::Delete($log)}
}
}catch{
[Console]::Error.WriteLine('run as '+$user+': '+$_.Exception.Message)
exit 1
}
exit $code
`

// Elevated returns a script that runs command as user, and the line that runs
// the script. Without a password user is a service account, as SYSTEM is. The
// script holds the password and is to be removed.
func Elevated(user string, password secret.String, command string) (communicator.ScriptFile, string) {
	name := "ingot-elevated-" + Random()
	q := powershell.Quote
	body := "# ingot elevated\n$user=" + q(user) + "\n$password=" + q(password.Reveal()) + "\n$name=" + q(name) +
		"\n$command=" + q(command) + "\n" + elevated
	path := "c:/Windows/Temp/" + name + ".ps1"
	return communicator.ScriptFile{Path: path, Mode: 0o600, Body: Text(body)},
		powershell.Program + ` -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -File "` + path + `"`
}

// Text returns a script as Windows PowerShell reads it: with a byte order
// mark where it is more than ASCII.
func Text(s string) []byte {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return append([]byte{0xef, 0xbb, 0xbf}, s...)
		}
	}
	return []byte(s)
}
