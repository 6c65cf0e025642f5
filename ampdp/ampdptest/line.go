package ampdptest

import (
	"fmt"
	"regexp"
	"strings"
)

// escapedInName and escapedInField are the expressions of
// Amavis::Util::proto_encode, as tables: they are about bytes, and Go's regular
// expressions about UTF-8.
var (
	escapedInName  = table(`[^0-9a-zA-Z._+-]`)
	escapedInField = table(`[^\x21-\x24\x26-\x7e]`)
)

func table(expression string) (escaped [256]bool) {
	re := regexp.MustCompile(expression)
	for b := range escaped {
		escaped[b] = b >= 0x80 || re.MatchString(string(rune(b)))
	}
	return escaped
}

// Line encodes one attribute of a reply as amavisd does, without a line end: the
// fields one by one, separated by spaces.
func Line(name string, fields ...string) string {
	encoded := make([]string, len(fields))
	for i, field := range fields {
		encoded[i] = encode(escapedInField, field)
	}
	return encode(escapedInName, name) + "=" + strings.Join(encoded, " ")
}

func encode(escaped [256]bool, s string) string {
	var b strings.Builder
	for i := range len(s) {
		if escaped[s[i]] {
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
