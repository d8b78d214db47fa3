package winrm

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/powershell"
)

// Transfers are lines of text, in both directions the same:
//
//	D path           a folder, made when missing
//	F path length    a file is opened; -1: emptied first, else set to length
//	S offset         where the next bytes go
//	R data, G data   bytes as they are, or compressed with gzip
//	.                the end; without it something was cut off
//
// path and data are base64, paths UTF-8.

// fileChunk is how many bytes of a file go into one line. As base64 in base64
// it must fit into one envelope.
const fileChunk = 240 << 10

// receiver is the script on the guest that writes what it is sent. It gets its
// input line by line from PowerShell, which reads it anyway.
const receiver = `# ingot receive
begin{
$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
$f=$null;$done=$false;$fail=$null
function path($s){$p=[Environment]::ExpandEnvironmentVariables([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($s)));$ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($p)}
}
process{
if(-not $fail){try{
$w=([string]$_).TrimStart([char]0xFEFF).Split(' ')
switch -CaseSensitive ($w[0]){
'D'{[void][IO.Directory]::CreateDirectory((path $w[1]))}
'F'{
if($f){$f.Close();$f=$null}
$p=path $w[1]
$d=[IO.Path]::GetDirectoryName($p)
if($d){[void][IO.Directory]::CreateDirectory($d)}
if([IO.File]::Exists($p)){[IO.File]::SetAttributes($p,'Normal')}
$n=[long]$w[2]
if($n -lt 0){$f=[IO.File]::Open($p,'Create','Write','ReadWrite')}else{$f=[IO.File]::Open($p,'OpenOrCreate','Write','ReadWrite');$f.SetLength($n)}
}
'S'{[void]$f.Seek([long]$w[1],'Begin')}
'R'{$b=[Convert]::FromBase64String($w[1]);$f.Write($b,0,$b.Length)}
'G'{
$g=New-Object IO.Compression.GZipStream((New-Object IO.MemoryStream(,[Convert]::FromBase64String($w[1]))),[IO.Compression.CompressionMode]::Decompress)
$b=New-Object byte[] 65536
while(($n=$g.Read($b,0,$b.Length)) -gt 0){$f.Write($b,0,$n)}
}
'.'{$done=$true}
}
}catch{$fail=$_.Exception.Message}}
}
end{
if($f){try{$f.Close()}catch{if(-not $fail){$fail=$_.Exception.Message}}}
if(-not $fail -and -not $done){$fail='the transfer was cut off'}
if($fail){[Console]::Error.WriteLine($fail);exit 1}
}`

// sender is the script on the guest that writes a file or a folder to its
// output. The line before it sets $p and $tree.
const sender = `# ingot send
$ErrorActionPreference='Stop';$ProgressPreference='SilentlyContinue'
$o=[Console]::Out
function b64($s){[Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes($s))}
function send($path,$name){
$r=[IO.File]::Open($path,'Open','Read','ReadWrite')
try{
$o.WriteLine('F '+(b64 $name)+' -1')
$b=New-Object byte[] 262144
while(($n=$r.Read($b,0,$b.Length)) -gt 0){
$m=New-Object IO.MemoryStream
$g=New-Object IO.Compression.GZipStream($m,[IO.Compression.CompressionMode]::Compress,$true)
$g.Write($b,0,$n);$g.Close()
if($m.Length -lt $n){$o.WriteLine('G '+[Convert]::ToBase64String($m.ToArray()))}else{$o.WriteLine('R '+[Convert]::ToBase64String($b,0,$n))}
}
}finally{$r.Close()}
}
try{
$p=$ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath([Environment]::ExpandEnvironmentVariables($p))
if($tree){
$root=(Get-Item -LiteralPath $p -Force).FullName.TrimEnd('\','/')
Get-ChildItem -LiteralPath $root -Recurse -Force|ForEach-Object{
$name=$_.FullName.Substring($root.Length+1)
if($_.PSIsContainer){$o.WriteLine('D '+(b64 $name))}else{send $_.FullName $name}
}
}else{send $p ([IO.Path]::GetFileName($p))}
$o.WriteLine('.')
}catch{[Console]::Error.WriteLine($_.Exception.Message);exit 1}`

// An upload is one receiver at work.
type upload struct {
	sh    *shell
	id    string
	ended chan error // how it ended, once
	said  *strings.Builder
	err   error // set once ended was read
	over  bool
}

// upload starts a receiver in a shell of its own.
func (c *Conn) upload(ctx context.Context) (*upload, error) {
	sh, err := c.reach(ctx)
	if err != nil {
		return nil, err
	}
	u, err := sh.upload(ctx)
	if err != nil {
		sh.close()
	}
	return u, err
}

func (sh *shell) upload(ctx context.Context) (*upload, error) {
	id, err := sh.start(ctx, powershell.Command(receiver))
	if err != nil {
		return nil, lost(err)
	}
	u := &upload{sh: sh, id: id, ended: make(chan error, 1), said: &strings.Builder{}}
	go func() { u.ended <- sh.receive(ctx, id, nil, u.said) }()
	return u, nil
}

// send sends lines. What the receiver says against them shows in finish.
func (u *upload) send(ctx context.Context, lines []byte) error {
	if u.over {
		return u.err
	}
	err := u.sh.send(ctx, u.id, lines, false)
	if err == nil {
		return nil
	}
	if context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	return u.result(ctx, err)
}

// result is how the receiver ended, which tells more than that it takes no
// input.
func (u *upload) result(ctx context.Context, sendErr error) error {
	var f *Fault
	if !errors.As(sendErr, &f) {
		return &communicator.DisconnectError{Err: sendErr}
	}
	_ = u.sh.send(ctx, u.id, nil, true)
	if err := u.wait(ctx); err != nil {
		return err
	}
	return fmt.Errorf("send to the guest: %w", sendErr)
}

func (u *upload) wait(ctx context.Context) error {
	if u.over {
		return u.err
	}
	select {
	case err := <-u.ended:
		u.over = true
		var exit *communicator.ExitError
		if errors.As(err, &exit) {
			err = errors.New(firstLine(u.said.String(), exit))
		}
		u.err = err
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finish says that this was all and returns nil when it is on the guest.
func (u *upload) finish(ctx context.Context) error {
	if u.over {
		return u.err
	}
	if err := u.sh.send(ctx, u.id, []byte(".\r\n"), true); err != nil {
		if context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		return u.result(ctx, err)
	}
	return u.wait(ctx)
}

func (u *upload) close() { u.sh.close() }

func firstLine(said string, exit error) string {
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return exit.Error()
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// A packer turns bytes into lines. It keeps its buffers for the next.
type packer struct {
	z   bytes.Buffer
	w   *gzip.Writer
	buf []byte // of a file's chunk
}

// line appends what brings p to the guest, compressed where that is shorter.
func (k *packer) line(dst, p []byte) ([]byte, error) {
	k.z.Reset()
	if k.w == nil {
		w, err := gzip.NewWriterLevel(&k.z, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		k.w = w
	} else {
		k.w.Reset(&k.z)
	}
	if _, err := k.w.Write(p); err != nil {
		return nil, err
	}
	if err := k.w.Close(); err != nil {
		return nil, err
	}
	kind := byte('R')
	if k.z.Len() < len(p) {
		kind, p = 'G', k.z.Bytes()
	}
	dst = append(dst, kind, ' ')
	dst = base64.StdEncoding.AppendEncode(dst, p)
	return append(dst, '\r', '\n'), nil
}

func (k *packer) chunk() []byte {
	if k.buf == nil {
		k.buf = make([]byte, fileChunk)
	}
	return k.buf
}

// An entry is one thing of a download.
type entry struct {
	kind byte // 'D', 'F' or 0: more bytes of the last file
	name string
	data []byte
}

var errCut = errors.New("what the guest sent was cut off")

// maxLine bounds a line of a download: a chunk as base64, with room.
const maxLine = 1 << 20

// entries reads a download and calls each for everything in it.
func entries(r io.Reader, each func(entry) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), maxLine)
	file := false
	for sc.Scan() {
		text := strings.TrimPrefix(strings.TrimSuffix(sc.Text(), "\r"), "\ufeff")
		if text == "" {
			continue
		}
		kind, rest, _ := strings.Cut(text, " ")
		arg, _, _ := strings.Cut(rest, " ")
		if kind == "." {
			return nil
		}
		p, err := base64.StdEncoding.DecodeString(arg)
		if err != nil {
			return fmt.Errorf("what the guest sent is not base64: %w", err)
		}
		e := entry{data: p}
		switch kind {
		case "D", "F":
			e = entry{kind: kind[0], name: string(p)}
			file = kind == "F"
		case "R":
		case "G":
			if e.data, err = gunzip(p); err != nil {
				return err
			}
		default:
			return fmt.Errorf("what the guest sent begins with %.20q", text)
		}
		if e.kind == 0 && !file {
			return errors.New("the guest sent bytes of no file")
		}
		if err := each(e); err != nil {
			return err
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("read what the guest sent: %w", err)
	}
	return errCut
}

// gunzip decompresses one chunk, which is never larger than maxLine.
func gunzip(p []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, fmt.Errorf("what the guest sent is not gzip: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(z, maxLine+1))
	if err == nil && len(out) > maxLine {
		err = errors.New("a chunk is too long")
	}
	if err != nil {
		return nil, fmt.Errorf("decompress what the guest sent: %w", err)
	}
	return out, nil
}
