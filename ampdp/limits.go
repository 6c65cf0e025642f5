package ampdp

// The protocol sets no limit to lines or replies ("unreasonably long lines" may be
// cut, README.protocol); these bounds are ours.
const (
	// MaxReplyLine is the default of Limits.Line, in bytes. amavisd may send back
	// a whole header field, which can be far over 64 KiB before its encoding, and
	// up to three times as long after it.
	MaxReplyLine = 4 << 20

	// MaxReplyBytes is the default of Limits.Bytes, in bytes.
	MaxReplyBytes = 16 << 20

	// MaxReplyAttributes is the default of Limits.Attributes.
	MaxReplyAttributes = 100_000

	// MaxUnknown is how many unknown attributes of a reply are kept, the first
	// ones; the others are checked and forgotten.
	MaxUnknown = 64

	// MaxUnknownName and MaxUnknownValue are how much is kept of the name and of
	// the value of an unknown attribute, in bytes.
	MaxUnknownName  = 128
	MaxUnknownValue = 1 << 10

	// MaxRequestBytes bounds an encoded request, in bytes. A recipient takes some
	// 280 bytes at most if it is ASCII, three times that if it is not.
	MaxRequestBytes = 16 << 20
)

// Limits bounds what a reply may make its reader hold. A field that is zero or
// negative stands for its default. Memory grows with what has been received, never
// with what might come.
type Limits struct {
	Line       int // longest line, in bytes without its line end (MaxReplyLine)
	Bytes      int // longest reply, in bytes with all line ends (MaxReplyBytes)
	Attributes int // most attributes, unknown ones included (MaxReplyAttributes)
}

func (l Limits) withDefaults() Limits {
	if l.Line <= 0 {
		l.Line = MaxReplyLine
	}
	if l.Bytes <= 0 {
		l.Bytes = MaxReplyBytes
	}
	if l.Attributes <= 0 {
		l.Attributes = MaxReplyAttributes
	}
	return l
}
