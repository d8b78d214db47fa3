package winrm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/ingot-build/ingot/internal/communicator/winrm/ntlm"
)

// wrap seals a message as MS-WSMV 2.2.9.1 says.
func wrap(s *ntlm.Session, p []byte) []byte {
	sealed, sig := s.Seal(p)
	var b bytes.Buffer
	b.WriteString("--" + boundary + "\r\nContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n" +
		"OriginalContent: type=" + soapType + ";Length=" + strconv.Itoa(len(p)) + "\r\n" +
		"--" + boundary + "\r\nContent-Type: application/octet-stream\r\n")
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(sig))))
	b.Write(sig)
	b.Write(sealed)
	b.WriteString("--" + boundary + "--\r\n")
	return b.Bytes()
}

var errSealed = errors.New("the guest's sealed message is malformed")

// unwrap opens a message of the other end.
func unwrap(s *ntlm.Session, p []byte) ([]byte, error) {
	head := []byte("application/octet-stream\r\n")
	i := bytes.Index(p, head)
	j := bytes.LastIndex(p, []byte("--"+boundary+"--"))
	if i < 0 || j < i+len(head)+4 {
		return nil, errSealed
	}
	p = p[i+len(head) : j]
	n := binary.LittleEndian.Uint32(p)
	if n != ntlm.SignatureSize || len(p) < 4+ntlm.SignatureSize {
		return nil, errSealed
	}
	return s.Open(p[4+n:], p[4:4+n])
}
