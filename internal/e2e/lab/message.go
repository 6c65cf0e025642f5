package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Field is one header field as it stands in a message.
type Field struct {
	Name  string
	Value string // what follows the colon, leading space included, folds as CR LF, without the last CR LF
}

// String returns the field as a line, or several.
func (f Field) String() string { return f.Name + ":" + f.Value }

// SplitMessage splits a message with CR LF line ends into its header fields, in
// order, and its body. A line that is no field begins the body, as with the MTAs.
func SplitMessage(raw []byte) (header []Field, body []byte) {
	for len(raw) > 0 {
		line, rest, _ := bytes.Cut(raw, []byte("\r\n"))
		if len(line) == 0 {
			return header, rest
		}
		if last := len(header) - 1; last >= 0 && (line[0] == ' ' || line[0] == '\t') {
			header[last].Value += "\r\n" + string(line)
			raw = rest
			continue
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			return header, raw
		}
		header = append(header, Field{name, value})
		raw = rest
	}
	return header, nil
}

// Hash is the SHA-256 of a body, hexadecimal.
func Hash(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Delivery is one message as the sink took it.
type Delivery struct {
	Sender     string   // argument of MAIL, with its angle brackets
	Recipients []string // arguments of RCPT, in order, with their angle brackets
	Raw        []byte   // header and body with CR LF line ends, dots unstuffed
}

// Header returns the header fields in order.
func (d *Delivery) Header() []Field {
	header, _ := SplitMessage(d.Raw)
	return header
}

// Body returns the body.
func (d *Delivery) Body() []byte {
	_, body := SplitMessage(d.Raw)
	return body
}

// Values returns the values of all fields of a name, spaces around them removed.
func (d *Delivery) Values(name string) []string {
	var values []string
	for _, field := range d.Header() {
		if strings.EqualFold(field.Name, name) {
			values = append(values, strings.TrimSpace(field.Value))
		}
	}
	return values
}
