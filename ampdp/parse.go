package ampdp

import (
	"bytes"
	"fmt"
	"strconv"
)

const (
	// maxFields is the most fields that any known value has.
	maxFields = 3

	// indexBits makes an index fit the signed 32-bit numbers of libmilter
	// (smfi_insheader, smfi_chgheader).
	indexBits = 31

	// usualEdits is the first capacity of Reply.Edits: the half a dozen X-Spam
	// fields of a usual reply and some more.
	usualEdits = 8

	// quotedBytes is how much of a peer's words an error repeats, in bytes.
	quotedBytes = 64

	// usualName is for how many bytes of a decoded name there is room from the start.
	usualName = 32
)

// parser turns the lines of a reply into a Reply.
type parser struct {
	reply *Reply
	share *share // counts what the edits take
	name  []byte // of the line, decoded
}

func newParser(s *share) parser {
	return parser{reply: &Reply{VersionServer: 1}, share: s, name: make([]byte, 0, usualName)}
}

// line takes in one attribute. The value is decoded where it stands: a long one needs
// no second buffer.
func (p *parser) line(line []byte) error {
	rawName, value, found := bytes.Cut(line, []byte{'='})
	if !found {
		return malformed("there is no = in %q", quoted(line))
	}
	var err error
	if p.name, err = appendDecoded(p.name[:0], rawName); err != nil {
		return malformed("name %q: %w", quoted(rawName), err)
	}
	if err := p.attribute(value); err != nil {
		return fmt.Errorf("%q: %w", quoted(p.name), err)
	}
	return nil
}

// attribute reads the value of the attribute p.name.
func (p *parser) attribute(value []byte) (err error) {
	switch name := string(p.name); name {
	case "version_server":
		return p.versionServer(value)
	case "log_id":
		p.reply.LogID, err = p.text(value)
		return err
	case "setreply":
		return p.setReply(value)
	case "return_value":
		return p.returnValue(value)
	case "delrcpt", "addrcpt", "delheader", "chgheader", "insheader", "addheader", "quarantine":
		return p.addEdit(name, value)
	case "exit_code": // legacy: clients are to go by return_value
		_, err = decode(value)
		return err
	}
	return p.unknown(value)
}

func (p *parser) addEdit(name string, value []byte) error {
	if err := p.share.take(editCost); err != nil {
		return err
	}
	edit, err := p.edit(name, value)
	if err != nil {
		return err
	}
	if p.reply.Edits == nil {
		p.reply.Edits = make([]Edit, 0, usualEdits)
	}
	p.reply.Edits = append(p.reply.Edits, edit)
	return nil
}

// versionServer never fails for a version that is no number of this protocol:
// nothing depends on it, and a later server may count in another way.
func (p *parser) versionServer(value []byte) error {
	value, err := decode(value)
	if err != nil {
		return err
	}
	version, err := strconv.ParseUint(string(value), 10, indexBits)
	if err != nil {
		p.keepUnknown(value)
		return nil
	}
	p.reply.VersionServer = int(version)
	return nil
}

func (p *parser) returnValue(value []byte) error {
	f, err := fields(value, 1)
	if err != nil {
		return err
	}
	v := ReturnValue(f[0])
	switch {
	case !v.valid():
		return malformed("%q is none that the protocol knows", quoted(f[0]))
	case p.reply.ReturnValue != "":
		return malformed("it is there twice")
	}
	p.reply.ReturnValue = v
	return nil
}

func (p *parser) setReply(value []byte) error {
	f, err := fields(value, 3)
	if err != nil {
		return err
	}
	code, err := strconv.ParseUint(f[0], 10, indexBits)
	if err != nil || code < 100 || code > 599 {
		return malformed("%q is no reply code", quoted(f[0]))
	}
	p.reply.SetReply = &SetReply{Code: int(code), Enhanced: f[1], Text: f[2]}
	return nil
}

// edit reads the value of one of the attributes that stand for an Edit.
func (p *parser) edit(name string, value []byte) (Edit, error) {
	switch name {
	case "delrcpt", "addrcpt":
		return p.recipientEdit(name, value)
	case "quarantine":
		f, err := fields(value, 1)
		return Quarantine{f[0]}, err
	case "addheader":
		f, err := fields(value, 2)
		if err != nil {
			return nil, err
		}
		return AddHeader{f[0], f[1]}, checkFieldName(f[0])
	}
	return p.indexedEdit(name, value)
}

func (p *parser) recipientEdit(name string, value []byte) (Edit, error) {
	f, err := fields(value, 1)
	if err != nil {
		return nil, err
	}
	address := withBrackets(f[0])
	if address == "<>" {
		return nil, malformed("it has no address")
	}
	if name == "delrcpt" {
		return DeleteRecipient{address}, nil
	}
	return AddRecipient{address}, nil
}

// indexedEdit reads delheader, chgheader and insheader, whose first field is an
// index and whose second is a header field's name.
func (p *parser) indexedEdit(name string, value []byte) (Edit, error) {
	want := 3
	if name == "delheader" {
		want = 2
	}
	f, err := fields(value, want)
	if err != nil {
		return nil, err
	}
	// ParseUint takes digits only: neither a sign nor a space.
	n, err := strconv.ParseUint(f[0], 10, indexBits)
	if err != nil {
		return nil, malformed("index %q is no decimal number below 2^%d", quoted(f[0]), indexBits)
	}
	if err := checkFieldName(f[1]); err != nil {
		return nil, err
	}
	switch name {
	case "delheader":
		return DeleteHeader{int(n), f[1]}, nil
	case "chgheader":
		return ChangeHeader{int(n), f[1], f[2]}, nil
	}
	return InsertHeader{int(n), f[1], f[2]}, nil
}

// unknown keeps an attribute that is to be ignored (README.protocol: "should
// ignore any attributes that it does not care about"). Its escapes are checked all
// the same, for they tell a damaged reply from a newer server.
func (p *parser) unknown(value []byte) error {
	value, err := decode(value)
	if err == nil {
		p.keepUnknown(value)
	}
	return err
}

// keepUnknown keeps one with its decoded value.
func (p *parser) keepUnknown(value []byte) {
	if len(p.reply.Unknown) < MaxUnknown {
		p.reply.Unknown = append(p.reply.Unknown, Attribute{
			Name:  string(cut(p.name, MaxUnknownName)),
			Value: string(cut(value, MaxUnknownValue)),
		})
	}
}

// text decodes a value in which spaces have no meaning.
func (p *parser) text(value []byte) (string, error) {
	value, err := decode(value)
	return string(value), err
}

// decode decodes such a value where it stands, which it never grows out of.
func decode(value []byte) ([]byte, error) {
	decoded, err := appendDecoded(value[:0], value)
	if err != nil {
		return nil, malformed("%w", err)
	}
	return decoded, nil
}

// fields splits a value into exactly want fields at its literal spaces first, and
// decodes each second, where they stand: an escaped space belongs to a field. They
// share one string, for a reply has many small ones.
func fields(value []byte, want int) (f [maxFields]string, err error) {
	if n := bytes.Count(value, []byte{' '}) + 1; n != want {
		return f, malformed("it has %d fields instead of %d", n, want)
	}
	var ends [maxFields]int
	decoded := value[:0]
	for i := range want {
		raw, rest, _ := bytes.Cut(value, []byte{' '})
		if decoded, err = appendDecoded(decoded, raw); err != nil {
			return f, malformed("%w", err)
		}
		value, ends[i] = rest, len(decoded)
	}
	all, start := string(decoded), 0
	for i := range want {
		f[i] = all[start:ends[i]]
		start = ends[i]
	}
	return f, nil
}

// checkFieldName wants a name that can stand before the colon of a header field
// (RFC 5322 section 3.6.8): anything else could smuggle a second field in.
func checkFieldName(name string) error {
	if name == "" {
		return malformed("the header field has no name")
	}
	for i := range len(name) {
		if b := name[i]; b <= ' ' || b >= 0x7f || b == ':' {
			return malformed("%q is no name of a header field", quoted(name))
		}
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

func quoted[T string | []byte](s T) string { return string(cut(s, quotedBytes)) }

func cut[T string | []byte](s T, n int) T {
	if len(s) > n {
		return s[:n]
	}
	return s
}
