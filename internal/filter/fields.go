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
// need to know, and no more. Values are not kept. The zero value is an empty header
// that counts for itself alone. What is told to inAll is given back by release.
type headerFields struct {
	inAll  *namesInAll           // nil for none
	byName map[string]*fieldName // by asciiLower(name)
	fields int
	bytes  int
	names  int64 // bytes of memory that the names take
	taken  int64 // of them counted in inAll
	full   bool  // inAll has refused it
}

// fieldName is one name among the header fields of a message.
type fieldName struct {
	spelling string // as its first occurrence spelled it
	count    int
}

// add counts one field. Its error wraps errHeaderTooLarge and tells the limit that was
// passed; the field is not counted then.
func (h *headerFields) add(name, value string) error {
	if h.fields+1 > MaxHeaderFields {
		return fmt.Errorf("%w: more than %d fields", errHeaderTooLarge, MaxHeaderFields)
	}
	if h.bytes+len(name)+len(value) > MaxHeaderBytes {
		return fmt.Errorf("%w: more than %d bytes", errHeaderTooLarge, MaxHeaderBytes)
	}
	key := asciiLower(name)
	f := h.byName[key]
	if f == nil && !h.hold(int64(2*len(name)+nameCost)) {
		return errNamesInAll
	}
	h.fields++
	h.bytes += len(name) + len(value)
	if f != nil {
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

// hold counts n bytes of names more, the first ownNames for the message alone. Once
// the message has been refused for them it is not asked, nor told, again.
func (h *headerFields) hold(n int64) bool {
	if h.full {
		return false
	}
	beyond := max(h.names+n-ownNames, 0) - h.taken
	if h.inAll != nil && beyond > 0 {
		if !h.inAll.take(beyond) {
			h.full = true
			return false
		}
		h.taken += beyond
	}
	h.names += n
	return true
}

// release forgets all names and gives back what they took of inAll. It is called at
// the end of the message, or when it will not pass whatever is in its header.
func (h *headerFields) release() {
	if h.taken > 0 {
		h.inAll.give(h.taken)
	}
	h.byName, h.names, h.taken = nil, 0, 0
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
