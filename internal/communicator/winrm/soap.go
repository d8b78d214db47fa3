package winrm

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
)

const (
	shellURI   = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
	cmdURI     = shellURI + "/cmd"
	createURI  = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create"
	deleteURI  = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete"
	commandURI = shellURI + "/Command"
	receiveURI = shellURI + "/Receive"
	sendURI    = shellURI + "/Send"
	signalURI  = shellURI + "/Signal"
	endURI     = shellURI + "/signal/terminate"
	doneURI    = shellURI + "/CommandState/Done"
)

const (
	// maxEnvelope is the size in bytes of the largest answer we take: what
	// Windows allows by default since 2012. Older ones cut their answers to
	// what they allow themselves.
	maxEnvelope = 512000
	// pollSeconds is how long the guest waits for output before it says that
	// there is none.
	pollSeconds = 20
)

// envelope returns a request. action says what is asked of the shell, "" for
// a new one; body is XML.
func envelope(to, id, action, shell string, options [][2]string, body string) []byte {
	var b bytes.Buffer
	b.WriteString(`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"` +
		` xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"` +
		` xmlns:rsp="` + shellURI + `"><s:Header><a:To>` + escape(to) + `</a:To>` +
		`<a:ReplyTo><a:Address s:mustUnderstand="true">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>` +
		`<w:MaxEnvelopeSize s:mustUnderstand="true">` + strconv.Itoa(maxEnvelope) + `</w:MaxEnvelopeSize>` +
		`<a:MessageID>uuid:` + id + `</a:MessageID>` +
		`<w:Locale s:mustUnderstand="false" xml:lang="en-US"/><p:DataLocale s:mustUnderstand="false" xml:lang="en-US"/>` +
		`<w:OperationTimeout>PT` + strconv.Itoa(pollSeconds) + `S</w:OperationTimeout>` +
		`<w:ResourceURI s:mustUnderstand="true">` + cmdURI + `</w:ResourceURI>` +
		`<a:Action s:mustUnderstand="true">` + action + `</a:Action>`)
	if shell != "" {
		b.WriteString(`<w:SelectorSet><w:Selector Name="ShellId">` + escape(shell) + `</w:Selector></w:SelectorSet>`)
	}
	if len(options) > 0 {
		b.WriteString(`<w:OptionSet>`)
		for _, o := range options {
			b.WriteString(`<w:Option Name="` + o[0] + `">` + o[1] + `</w:Option>`)
		}
		b.WriteString(`</w:OptionSet>`)
	}
	b.WriteString(`</s:Header><s:Body>` + body + `</s:Body></s:Envelope>`)
	return b.Bytes()
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a builder takes everything
	return b.String()
}

// Bodies of requests.
const shellBody = `<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>`

func commandBody(line string) string {
	return `<rsp:CommandLine><rsp:Command>` + escape(line) + `</rsp:Command></rsp:CommandLine>`
}

func receiveBody(command string) string {
	return `<rsp:Receive><rsp:DesiredStream CommandId="` + escape(command) + `">stdout stderr</rsp:DesiredStream></rsp:Receive>`
}

func sendBody(command string, p []byte, end bool) string {
	last := ""
	if end {
		last = ` End="true"`
	}
	return `<rsp:Send><rsp:Stream Name="stdin" CommandId="` + escape(command) + `"` + last + `>` +
		base64.StdEncoding.EncodeToString(p) + `</rsp:Stream></rsp:Send>`
}

func signalBody(command string) string {
	return `<rsp:Signal CommandId="` + escape(command) + `"><rsp:Code>` + endURI + `</rsp:Code></rsp:Signal>`
}

// An answer is what the guest may say, whatever it was asked.
type answer struct {
	ShellID   string `xml:"Body>Shell>ShellId"`
	Created   string `xml:"Body>ResourceCreated>ReferenceParameters>SelectorSet>Selector"`
	CommandID string `xml:"Body>CommandResponse>CommandId"`
	Streams   []struct {
		Name string `xml:"Name,attr"`
		Data string `xml:",chardata"`
	} `xml:"Body>ReceiveResponse>Stream"`
	State struct {
		State string `xml:"State,attr"`
		Exit  string `xml:"ExitCode"`
	} `xml:"Body>ReceiveResponse>CommandState"`
	Fault *struct {
		Subcode string `xml:"Code>Subcode>Value"`
		Reason  string `xml:"Reason>Text"`
		WSMan   struct {
			Code string `xml:"Code,attr"`
			Text string `xml:"Message"`
		} `xml:"Detail>WSManFault"`
	} `xml:"Body>Fault"`
}

func (a answer) shell() string {
	if a.ShellID != "" {
		return a.ShellID
	}
	return a.Created
}

func parseAnswer(p []byte) (answer, error) {
	var env struct {
		XMLName xml.Name `xml:"http://www.w3.org/2003/05/soap-envelope Envelope"`
		answer
	}
	if err := xml.Unmarshal(p, &env); err != nil {
		return answer{}, fmt.Errorf("the guest's answer is not SOAP: %w", err)
	}
	f := env.Fault
	if f == nil {
		return env.answer, nil
	}
	code, _ := strconv.ParseUint(f.WSMan.Code, 10, 32)
	fault := &Fault{Code: uint32(code), Subcode: f.Subcode, Reason: strings.TrimSpace(f.Reason)}
	if text := strings.TrimSpace(f.WSMan.Text); text != "" {
		fault.Reason = text
	}
	return env.answer, fault
}

// Codes of WSManFault.
const (
	codeTimeout   = 2150858793 // 0x80338029: no output within the operation's time
	codeNoShell   = 2150858843 // 0x8033805B: the shell is gone, as after a restart
	codeQuota     = 2150859174 // 0x803381A6: too many shells of this user
	codeNoCommand = 2150858845 // 0x8033805D: no such command in this shell
	codeAborted   = 995        // the operation was ended, as while the service stops
)

// A Fault is what the WinRM service itself says is wrong.
type Fault struct {
	Code    uint32 // of WSManFault, 0 without
	Subcode string
	Reason  string
}

func (f *Fault) Error() string {
	if f.Code == 0 {
		return fmt.Sprintf("the WinRM service refused: %s (%s)", f.Reason, f.Subcode)
	}
	return fmt.Sprintf("the WinRM service refused: %s (%#x)", f.Reason, f.Code)
}

func isFault(err error, codes ...uint32) bool {
	var f *Fault
	if !errors.As(err, &f) {
		return false
	}
	for _, c := range codes {
		if f.Code == c {
			return true
		}
	}
	return false
}

// explain adds the remedy for a fault that is known.
func explain(err error) error {
	if isFault(err, codeQuota) {
		return diag.WithHint(err, "raise the quota on the guest: winrm set winrm/config/winrs @{MaxShellsPerUser=\"30\"}")
	}
	return err
}
