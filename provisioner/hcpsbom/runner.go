package hcpsbom

// unixRunner lists what package managers have installed below its last
// argument. It needs what a POSIX system has, and awk for Alpine.
const unixRunner = `#!/bin/sh
export LC_ALL=C
for path; do :; done
root=${path%/}
id= version=
if [ -r "$root/etc/os-release" ]; then
	id=$(. "$root/etc/os-release" && printf %s "$ID")
	version=$(. "$root/etc/os-release" && printf %s "$VERSION_ID")
fi
printf 'os\t%s\t%s\n' "${id:-$(uname -s)}" "$version"
if [ -r "$root/var/lib/dpkg/status" ] && command -v dpkg-query >/dev/null; then
	dpkg-query --admindir="$root/var/lib/dpkg" -W -f 'pkg\tdeb\t${Package}\t${Version}\t${Architecture}\t\t${db:Status-Status}\n' |
		sed -n 's/\tinstalled$//p'
fi
if [ -d "$root/var/lib/rpm" -o -d "$root/usr/lib/sysimage/rpm" ] && command -v rpm >/dev/null; then
	rpm --root "${root:-/}" -qa --qf 'pkg\trpm\t%{NAME}\t%|EPOCH?{%{EPOCH}}:{0}|:%{VERSION}-%{RELEASE}\t%{ARCH}\t%{LICENSE}\n'
fi
if [ -r "$root/lib/apk/db/installed" ]; then
	awk -F: 'function out() { if (p != "") printf "pkg\tapk\t%s\t%s\t%s\t%s\n", p, v, a, l; p = v = a = l = "" }
		/^$/ { out() } /^P:/ { p = substr($0, 3) } /^V:/ { v = substr($0, 3) } /^A:/ { a = substr($0, 3) } /^L:/ { l = substr($0, 3) }
		END { out() }' "$root/lib/apk/db/installed"
fi
if [ -d "$root/var/lib/pacman/local" ] && command -v pacman >/dev/null; then
	pacman --root "${root:-/}" -Q | while read -r name version; do printf 'pkg\talpm\t%s\t%s\t\t\n' "$name" "$version"; done
fi
`

// windowsRunner lists what the installer and the system's updates have in the
// registry. Windows has them in one place, so the path says nothing.
const windowsRunner = `$ErrorActionPreference='Stop'
$ProgressPreference='SilentlyContinue'
function row($kind,$name,$version,$arch){
$out=@('pkg',$kind,$name,$version,$arch,'')|ForEach-Object{([string]$_) -replace '[\t\r\n]',' '}
[Console]::Out.WriteLine($out -join [char]9)
}
$v=Get-ItemProperty 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
$rev=[string]$v.CurrentBuild
if($v.UBR){$rev=$rev+'.'+$v.UBR}
[Console]::Out.WriteLine('os'+[char]9+(([string]$v.ProductName) -replace '[\t\r\n]',' ')+[char]9+$rev)
foreach($k in @('HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\*','HKLM:\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall\*')){
$arch='x86_64'
if($k -like '*WOW6432Node*'){$arch='x86'}
Get-ItemProperty $k -ErrorAction SilentlyContinue|Where-Object{$_.DisplayName}|ForEach-Object{row 'generic' $_.DisplayName $_.DisplayVersion $arch}
}
Get-HotFix -ErrorAction SilentlyContinue|ForEach-Object{row 'generic' $_.HotFixID '' ''}
`
