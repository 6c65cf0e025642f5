package ampdptest

import (
	"fmt"
	"regexp"
	"strings"
)

// The expressions of Amavis::Util::proto_encode.
var (
	escapedInName  = regexp.MustCompile(`[^0-9a-zA-Z._+-]`)
	escapedInField = regexp.MustCompile(`[^\x21-\x24\x26-\x7e]`)
)

// Line encodes one attribute of a reply as amavisd does, without a line end: the
// fields one by one, separated by spaces.
func Line(name string, fields ...string) string {
	encoded := make([]string, len(fields))
	for i, field := range fields {
		encoded[i] = encode(escapedInField, field)
	}
	return encode(escapedInName, name) + "=" + strings.Join(encoded, " ")
}

// encode works on bytes: an expression would take UTF-8 for letters.
func encode(escaped *regexp.Regexp, s string) string {
	var b strings.Builder
	for i := range len(s) {
		if s[i] >= 0x80 || escaped.MatchString(s[i:i+1]) {
			fmt.Fprintf(&b, "%%%02x", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// Lines puts CR LF behind each line and an empty line at the end: a whole reply.
func Lines(lines ...string) string {
	return strings.Join(append(lines[:len(lines):len(lines)], "", ""), "\r\n")
}
