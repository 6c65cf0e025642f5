package ampdp

import (
	"bytes"
	"errors"
	"fmt"
)

// Attribute is one line of a request or reply: name=value, both decoded.
type Attribute struct{ Name, Value string }

const hexDigits = "0123456789abcdef"

// literalInName and literalInValue tell which bytes stand for themselves;
// README.protocol gives both as Perl expressions. A space is not among them: it
// separates the fields of a value.
var literalInName, literalInValue = literalBytes()

func literalBytes() (name, value [256]bool) {
	for b := '!'; b <= '~'; b++ {
		value[b] = b != '%'
		name[b] = b >= '0' && b <= '9' || b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b == '_' || b == '-'
	}
	return name, value
}

// appendEscaped appends s with every byte that is not literal as %xx.
func appendEscaped(dst []byte, s string, literal *[256]bool) []byte {
	start := 0
	for i := range len(s) {
		if b := s[i]; !literal[b] {
			dst = append(dst, s[start:i]...)
			dst = append(dst, '%', hexDigits[b>>4], hexDigits[b&15])
			start = i + 1
		}
	}
	return append(dst, s[start:]...)
}

// appendAttribute appends one line, CR LF included. The fields are encoded one by
// one and separated by the single literal space that nothing else can produce.
func appendAttribute(dst []byte, name string, fields ...string) []byte {
	dst = appendEscaped(dst, name, &literalInName)
	dst = append(dst, '=')
	for i, field := range fields {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = appendEscaped(dst, field, &literalInValue)
	}
	return append(dst, '\r', '\n')
}

var errEscape = errors.New("a % without two hex digits")

// appendDecoded appends src with each %xx (hex digits in either case) turned back
// into its byte. All other bytes stand for themselves, whatever they are: a
// sender may leave alone what this package would have escaped. dst may be the
// beginning of src.
func appendDecoded(dst, src []byte) ([]byte, error) {
	for {
		i := bytes.IndexByte(src, '%')
		if i < 0 {
			return append(dst, src...), nil
		}
		dst = append(dst, src[:i]...)
		if i+2 >= len(src) {
			return dst, errEscape
		}
		hi, lo := unhex(src[i+1]), unhex(src[i+2])
		if hi < 0 || lo < 0 {
			return dst, fmt.Errorf("%w: %q", errEscape, src[i:i+3])
		}
		dst = append(dst, byte(hi<<4|lo))
		src = src[i+3:]
	}
}

func unhex(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}
