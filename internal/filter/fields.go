package filter

import (
	"errors"
	"fmt"
	"strings"
	"sync"
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
	inAll   *namesInAll // nil for none
	xHeader string      // the name of ours
	table   nameTable
	usual   *usualTable     // what the table began in, until it grows
	text    strings.Builder // the latest names of the table, one behind the other
	fields  int
	bytes   int
	names   int64 // bytes of memory that the names take
	taken   int64 // of them counted in inAll
	full    bool  // inAll has refused it
}

// usualFields is how many names the header of nearly every mail has at most.
const usualFields = 32

// usualTable is the memory of a table with room for so many. It goes from message to message.
type usualTable struct {
	entries [usualFields]nameEntry
	slots   [2 * usualFields]uint32
}

var usualTables = sync.Pool{New: func() any { return new(usualTable) }}

// nameText is how many bytes of names lie in one piece of memory. A longer name has
// its own; what stays unused because a name does not fit is less than that name.
const nameText = 512

// add counts one field. Its error wraps errHeaderTooLarge and tells the limit that was
// passed; the field is not counted then.
func (h *headerFields) add(name, value string) error {
	if h.fields+1 > MaxHeaderFields {
		return fmt.Errorf("%w: more than %d fields", errHeaderTooLarge, MaxHeaderFields)
	}
	if h.bytes+len(name)+len(value) > MaxHeaderBytes {
		return fmt.Errorf("%w: more than %d bytes", errHeaderTooLarge, MaxHeaderBytes)
	}
	hash := hashName(name)
	f := h.table.findHash(name, hash)
	if f == nil {
		if !h.hold(int64(2*len(name) + nameCost)) {
			return errNamesInAll
		}
		if h.table.slots == nil {
			h.usual = usualTables.Get().(*usualTable)
			h.table = nameTable{entries: h.usual.entries[:0], slots: h.usual.slots[:]}
		}
		f = h.table.insert(h.keep(name), hash)
		if len(h.table.entries) > usualFields {
			h.giveUsual() // it has moved
		}
	}
	if f.count == MaxDeletions && h.isMark(name) {
		return fmt.Errorf("%w: more than %d fields of it are forged marks", errHeaderTooLarge, MaxDeletions)
	}
	f.count++
	h.fields++
	h.bytes += len(name) + len(value)
	return nil
}

// isMark reports whether fields of that name do not pass as they came. Of these no more
// need be taken than can be deleted.
func (h *headerFields) isMark(name string) bool {
	return equalNames(name, UnscannedHeader) || equalNames(name, h.xHeader)
}

// keep returns a copy of a name: the session's buffer, of which it is a part, must not
// live as long as the message.
func (h *headerFields) keep(name string) string {
	if len(name) > nameText {
		return strings.Clone(name)
	}
	if h.text.Cap()-h.text.Len() < len(name) {
		h.text = strings.Builder{}
		h.text.Grow(nameText)
	}
	start := h.text.Len()
	h.text.WriteString(name)
	return h.text.String()[start:]
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
	h.giveUsual()
	h.table, h.text = nameTable{}, strings.Builder{}
	h.names, h.taken = 0, 0
}

// giveUsual gives the memory back that the table began in.
func (h *headerFields) giveUsual() {
	if h.usual != nil {
		*h.usual = usualTable{}
		usualTables.Put(h.usual)
		h.usual = nil
	}
}

// count returns how many fields of that name, in any spelling, the message has.
func (h *headerFields) count(name string) int {
	if f := h.table.find(name); f != nil {
		return int(f.count)
	}
	return 0
}

// spelling returns the name as the message spelled it first; name itself where the
// message has no such field. amavisd sends names in lower case.
func (h *headerFields) spelling(name string) string {
	if f := h.table.find(name); f != nil {
		return f.name
	}
	return name
}
