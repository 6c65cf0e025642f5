package filter

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of what a message's header may hold. They bound the memory of one
// message: names are kept until its end. Both MTAs stop far below them (sendmail
// MaxHeadersLength 32 KiB, Postfix header_size_limit 100 KiB for each field).
const (
	MaxHeaderBytes  = 8 << 20 // bytes of all names and values together
	MaxHeaderFields = 10_000  // fields of one message
)

// errHeaderTooLarge is wrapped by every complaint about these limits.
var errHeaderTooLarge = errors.New("the header of the message is too large")

// headerFields knows which header fields a message brought with it: what the edits
// need to know, and no more. Values are not kept.
type headerFields struct {
	byName map[string]*fieldName // by asciiLower(name)
	fields int
	bytes  int
}

// fieldName is one name among the header fields of a message.
type fieldName struct {
	spelling string // as its first occurrence spelled it
	count    int
}

// add counts one field. Its error is errHeaderTooLarge with the limit that was
// passed; the field is not counted then.
func (h *headerFields) add(name, value string) error {
	if h.fields+1 > MaxHeaderFields {
		return fmt.Errorf("%w: more than %d fields", errHeaderTooLarge, MaxHeaderFields)
	}
	if h.bytes+len(name)+len(value) > MaxHeaderBytes {
		return fmt.Errorf("%w: more than %d bytes", errHeaderTooLarge, MaxHeaderBytes)
	}
	h.fields++
	h.bytes += len(name) + len(value)
	key := asciiLower(name)
	if f := h.byName[key]; f != nil {
		f.count++
		return nil
	}
	if h.byName == nil {
		h.byName = make(map[string]*fieldName)
	}
	// The copies keep the session's buffer, of which name is a part, from living
	// as long as the message.
	h.byName[strings.Clone(key)] = &fieldName{spelling: strings.Clone(name), count: 1}
	return nil
}

// count returns how many fields of that name, in any spelling, the message has.
func (h *headerFields) count(name string) int {
	if f := h.byName[asciiLower(name)]; f != nil {
		return f.count
	}
	return 0
}

// spelling returns the name as the message spelled it first; name itself where the
// message has no such field. amavisd sends names in lower case.
func (h *headerFields) spelling(name string) string {
	if f := h.byName[asciiLower(name)]; f != nil {
		return f.spelling
	}
	return name
}

// asciiLower lower-cases ASCII letters only, as the MTAs do to compare names
// (strcasecmp). strings.ToLower would make different invalid bytes equal.
func asciiLower(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
