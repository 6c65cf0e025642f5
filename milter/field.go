package milter

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// This file writes the changes of the header, and not the library, which sends each
// value through converters that find nothing to do.

// Commands of these changes (libmilter mfdef.h, SMFIR_*).
const (
	changeAdd    = 'h' // SMFIR_ADDHEADER
	changeInsert = 'i' // SMFIR_INSHEADER
	changeChange = 'm' // SMFIR_CHGHEADER
)

// indexedField writes a change of a field that is found by its index.
func (s *session) indexedField(command byte, index int, name, value string) error {
	position, err := position(index)
	if err != nil {
		return err
	}
	return s.field(command, position, name, value)
}

// deleteField writes that a field is to go: it gets the empty value.
func (s *session) deleteField(index int, name string) error {
	position, err := position(index)
	if err != nil {
		return err
	}
	switch {
	case !isFieldName(name):
		return errNotAName
	case len(name) > MaxHeaderField:
		return errLongField
	}
	s.g.out = appendFrame(s.g.out, changeChange, append(append(position, name...), 0, 0))
	return nil
}

// position writes an index as the protocol does.
func position(index int) ([]byte, error) {
	if index < 0 || index > math.MaxInt32 {
		return nil, fmt.Errorf("%d is no index of a header field", index)
	}
	return binary.BigEndian.AppendUint32(nil, uint32(index)), nil
}

// field writes a change with the value as it is to be sent; a field that would be cut on
// its way is an error.
func (s *session) field(command byte, position []byte, name, value string) error {
	if !isFieldName(name) {
		return errNotAName
	}
	out := s.g.out
	start := len(out)
	out = append(appendFrame(out, command, position), name...)
	out = append(out, 0)
	begin := len(out)
	out = s.appendValue(out, value)
	if len(name)+len(":")+len(out)-begin > MaxHeaderField {
		return errLongField
	}
	out = append(out, 0)
	binary.BigEndian.PutUint32(out[start:], uint32(len(out)-start-frameHeaderBytes))
	s.g.out = out
	return nil
}

// isFieldName reports whether name can stand before the colon of a header field (RFC
// 5322 section 3.6.8).
func isFieldName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ':' })
}

// appendValue appends a value that stays inside its field. With SMFIP_HDR_LEADSPC
// the space behind the colon is ours to send, and without it the MTA's. An empty
// value would delete the field, so it is at least that space.
func (s *session) appendValue(dst []byte, value string) []byte {
	value = strings.ReplaceAll(value, "\r\n", "\n")
	value = strings.TrimRight(value, "\n")
	if (s.hasLeadingSpace() && !strings.HasPrefix(value, "\n")) || value == "" {
		dst = append(dst, ' ')
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; c {
		case 0, '\r':
			dst = append(dst, ' ')
		case '\n':
			dst = append(dst, c)
			if next := value[i+1]; next != ' ' && next != '\t' {
				dst = append(dst, '\t')
			}
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
