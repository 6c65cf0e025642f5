package ampdptest

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// Request is a request as amavisd would read it.
type Request struct {
	Raw        []byte            // everything up to and with the empty line
	Attributes []ampdp.Attribute // decoded, in order
	Invalid    []string          // lines that amavisd would log as invalid and ignore
	Complaints []string          // what README.protocol does not allow, though amavisd does
}

// Get returns the value of the first attribute of that name, or "".
func (r *Request) Get(name string) string {
	for _, a := range r.Attributes {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// Values returns the values of all attributes of that name, in order.
func (r *Request) Values(name string) []string {
	var values []string
	for _, a := range r.Attributes {
		if a.Name == name {
			values = append(values, a.Value)
		}
	}
	return values
}

// The expressions of Amavis::In::AMPDP::process_policy_request and of
// Amavis::Util::proto_decode.
var (
	endOfRequest  = regexp.MustCompile(`^\r?\n$`)
	attributeLine = regexp.MustCompile(`(?s)^([^=\x00\n]*?)(=|:[ \t]*)([^\n]*?)\r?\n$`)
	escape        = regexp.MustCompile(`%[0-9a-fA-F]{2}`)
	// properLine is what README.protocol asks of a line.
	properLine = regexp.MustCompile(`^([0-9a-zA-Z_-]|%[0-9a-fA-F]{2})+=([!-$&-~ ]|%[0-9a-fA-F]{2})*\r\n$`)
)

// DecodeRequest takes one whole request apart, its empty line included. It is an
// error if there is no empty line, or if anything follows it.
func DecodeRequest(raw []byte) (*Request, error) {
	r := &Request{Raw: raw}
	for line := range bytes.Lines(raw) {
		raw = raw[len(line):]
		if endOfRequest.Match(line) {
			if len(raw) > 0 {
				return r, fmt.Errorf("%d bytes behind the end of the request", len(raw))
			}
			r.complainOrder()
			return r, nil
		}
		if !properLine.Match(line) {
			r.Complaints = append(r.Complaints, fmt.Sprintf("improper line %q", line))
		}
		m := attributeLine.FindSubmatch(line)
		if m == nil {
			r.Invalid = append(r.Invalid, string(line))
			continue
		}
		r.Attributes = append(r.Attributes, ampdp.Attribute{Name: unescape(m[1]), Value: unescape(m[3])})
	}
	return r, errors.New("the request has no end")
}

// complainOrder holds against r that request=AM.PDP has to come first.
func (r *Request) complainOrder() {
	if len(r.Attributes) == 0 || r.Attributes[0] != (ampdp.Attribute{Name: "request", Value: "AM.PDP"}) {
		r.Complaints = append(r.Complaints, "the first attribute is not request=AM.PDP")
	}
}

// unescape leaves a % without two hex digits as it is, like amavisd.
func unescape(b []byte) string {
	return string(escape.ReplaceAllFunc(b, func(m []byte) []byte {
		n, err := strconv.ParseUint(string(m[1:]), 16, 8)
		if err != nil {
			panic(err) // the expression lets only hex digits through
		}
		return []byte{byte(n)}
	}))
}
