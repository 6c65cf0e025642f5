package filter

import (
	"encoding/binary"
	"hash/maphash"
)

// fewNames is how many names a table has room for to begin with, if nobody says.
const fewNames = 8

// namePiece is how many bytes of a name are hashed at once.
const namePiece = 56

// nameSeed keeps strangers, who choose the names, from choosing ones that get in
// each other's way.
var nameSeed = maphash.MakeSeed()

// nameTable knows something about each of some header fields by name. Names compare
// as asciiLower has them; a look-up makes no copy of one. The zero value is an empty
// table.
type nameTable struct {
	entries []nameEntry // in the order in which they came
	slots   []uint32    // 1 + an index of entries, at its hash or behind; 0: none. A power of 2, at least twice as many as entries
}

// nameEntry is one name with what its table knows.
type nameEntry struct {
	name  string // as it was spelled when it came
	hash  uint32
	count uint32 // of fields
	marks nameMarks
}

// newNameTable returns an empty table with room for n names, a power of 2.
func newNameTable(n int) nameTable {
	return nameTable{entries: make([]nameEntry, 0, n), slots: make([]uint32, 2*n)}
}

// find returns the entry of a name, or nil. It is valid until the next insert.
func (t *nameTable) find(name string) *nameEntry {
	if len(t.entries) == 0 {
		return nil
	}
	return t.findHash(name, hashName(name))
}

func (t *nameTable) findHash(name string, hash uint32) *nameEntry {
	if len(t.entries) == 0 {
		return nil
	}
	for at := t.slot(hash); t.slots[at] != 0; at = t.behind(at) {
		if e := &t.entries[t.slots[at]-1]; e.hash == hash && equalNames(e.name, name) {
			return e
		}
	}
	return nil
}

// insert adds a name that is not there yet. The table keeps this very string.
func (t *nameTable) insert(name string, hash uint32) *nameEntry {
	if 2*len(t.entries) == len(t.slots) {
		t.grow()
	}
	t.entries = append(t.entries, nameEntry{name: name, hash: hash})
	t.place(len(t.entries) - 1)
	return &t.entries[len(t.entries)-1]
}

// grow doubles the room.
func (t *nameTable) grow() {
	if t.slots == nil {
		*t = newNameTable(fewNames)
		return
	}
	t.slots = make([]uint32, 2*len(t.slots))
	for i := range t.entries {
		t.place(i)
	}
}

// place enters an entry into the first free slot for its hash.
func (t *nameTable) place(index int) {
	at := t.slot(t.entries[index].hash)
	for t.slots[at] != 0 {
		at = t.behind(at)
	}
	t.slots[at] = uint32(index) + 1
}

func (t *nameTable) slot(hash uint32) int { return int(hash) & (len(t.slots) - 1) }
func (t *nameTable) behind(at int) int    { return (at + 1) & (len(t.slots) - 1) }

// hashName is the same for all spellings of a name.
func hashName(name string) uint32 {
	var hash uint64
	var piece [8 + namePiece]byte
	for {
		binary.NativeEndian.PutUint64(piece[:], hash) // of the pieces before
		n := min(len(name), namePiece)
		for i := range n {
			piece[8+i] = lowerByte(name[i])
		}
		hash = maphash.Bytes(nameSeed, piece[:8+n])
		if name = name[n:]; name == "" {
			return uint32(hash)
		}
	}
}

// equalNames reports whether two names differ at most in the case of ASCII letters.
func equalNames(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lowerByte(a[i]) != lowerByte(b[i]) {
			return false
		}
	}
	return true
}

// asciiLower lower-cases ASCII letters only, as the MTAs do to compare names
// (strcasecmp). strings.ToLower would make different invalid bytes equal.
func asciiLower(s string) string {
	for i := range len(s) {
		if lowerByte(s[i]) != s[i] {
			b := []byte(s)
			for ; i < len(b); i++ {
				b[i] = lowerByte(b[i])
			}
			return string(b)
		}
	}
	return s
}

func lowerByte(b byte) byte {
	if b >= 'A' && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}
