package awswire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"time"
)

// TimeForm is how EC2 writes times.
const TimeForm = "2006-01-02T15:04:05.000Z"

// Time returns t as EC2 writes it, "" for the zero time.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(TimeForm)
}

// WriteEC2 writes the reply of an EC2 action: the fields of out, which carry
// xml tags, in the element <Action>Response.
func WriteEC2(w http.ResponseWriter, c *Call, out any) error {
	return writeXML(w, c, "http://ec2.amazonaws.com/doc/2016-11-15/", func(b *bytes.Buffer) error {
		if err := element(b, "requestId", c.RequestID); err != nil || isNil(out) {
			return err
		}
		var inner bytes.Buffer
		if err := element(&inner, "r", out); err != nil {
			return err
		}
		b.Write(bytes.TrimSuffix(bytes.TrimPrefix(inner.Bytes(), []byte("<r>")), []byte("</r>")))
		return nil
	})
}

// WriteQuery writes the reply of an action of the AWS query protocol (STS,
// IAM): out in <Action>Result, then the request id.
func WriteQuery(w http.ResponseWriter, c *Call, namespace string, out any) error {
	return writeXML(w, c, namespace, func(b *bytes.Buffer) error {
		if !isNil(out) {
			if err := element(b, c.Action+"Result", out); err != nil {
				return err
			}
		}
		return element(b, "ResponseMetadata", struct{ RequestId string }{c.RequestID})
	})
}

func writeXML(w http.ResponseWriter, c *Call, namespace string, body func(*bytes.Buffer) error) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s<%sResponse xmlns=%q>", xml.Header, c.Action, namespace)
	if err := body(&b); err != nil {
		return fmt.Errorf("reply of %s: %w", c.Action, err)
	}
	fmt.Fprintf(&b, "</%sResponse>", c.Action)
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.Header().Set("X-Amzn-Requestid", c.RequestID)
	_, err := w.Write(b.Bytes())
	return err
}

func element(b *bytes.Buffer, name string, v any) error {
	return xml.NewEncoder(b).EncodeElement(v, xml.StartElement{Name: xml.Name{Local: name}})
}

// WriteEC2Error writes an error in EC2's form.
func WriteEC2Error(w http.ResponseWriter, requestID string, err error) {
	e := AsError(err)
	var b bytes.Buffer
	b.WriteString(xml.Header)
	_ = xml.NewEncoder(&b).Encode(struct { // into memory: cannot fail
		XMLName   xml.Name `xml:"Response"`
		Code      string   `xml:"Errors>Error>Code"`
		Message   string   `xml:"Errors>Error>Message"`
		RequestID string   `xml:"RequestID"`
	}{Code: e.Code, Message: e.Message, RequestID: requestID})
	writeError(w, requestID, "text/xml;charset=UTF-8", e, b.Bytes())
}

// WriteQueryError writes an error in the form of the AWS query protocol.
func WriteQueryError(w http.ResponseWriter, requestID string, err error) {
	e := AsError(err)
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	var b bytes.Buffer
	_ = xml.NewEncoder(&b).Encode(struct { // into memory: cannot fail
		XMLName   xml.Name `xml:"ErrorResponse"`
		Type      string   `xml:"Error>Type"`
		Code      string   `xml:"Error>Code"`
		Message   string   `xml:"Error>Message"`
		RequestID string   `xml:"RequestId"`
	}{Type: kind, Code: e.Code, Message: e.Message, RequestID: requestID})
	writeError(w, requestID, "text/xml", e, b.Bytes())
}

func writeError(w http.ResponseWriter, requestID, contentType string, e *Error, body []byte) {
	status := e.Status
	if status == 0 {
		status = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Amzn-Requestid", requestID)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone: nobody to tell
}
