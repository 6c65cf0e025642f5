package filter

import (
	"fmt"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

// receivedName is the field of which the spool file holds one more than the MTA's
// message: ours, at the top. amavisd counts it, the MTA does not know it.
const receivedName = "received"

// MaxDeletions is how many header fields of one message are deleted at most, of all
// names together. Postfix looks for each from the beginning of its queue file, so that
// a header full of forged marks would cost it the square of their number. Mail that
// went through a hundred filters has fewer.
const MaxDeletions = 1000

// acceptChanges returns the changes of a message that amavisd let pass: its edits
// in the order given, then ours to the marks that we own. Its error is that of
// editMapper.done.
func acceptChanges(edits []ampdp.Edit, recipients []milter.Path, fields *headerFields, xHeader HeaderField) ([]milter.Change, error) {
	m := editMapper{fields: fields, recipients: recipients, changes: make([]milter.Change, 0, len(edits)+1)}
	for _, edit := range edits {
		m.edit(edit)
	}
	// Nobody outside may claim that we let a message pass unscanned, nor take the
	// mark's room.
	m.deleteField(UnscannedHeader)
	m.xHeader(xHeader)
	return m.done()
}

// editMapper turns amavisd's edits of one message into milter changes.
type editMapper struct {
	fields     *headerFields
	recipients []milter.Path // of the message
	changes    []milter.Change
	deletions  int                      // of header fields, those beyond MaxDeletions too
	told       map[string][]milter.Path // recipients by what amavisd was told of them
	marks      nameTable                // what was done to the fields of a name
}

// nameMarks are what an editMapper remembers of the fields of one name.
type nameMarks uint8

const (
	markDeleted nameMarks = 1 << iota // nothing is left of those that came with the message
	markSet                           // amavisd gave one a value
)

func (m *editMapper) edit(edit ampdp.Edit) {
	switch e := edit.(type) {
	case ampdp.DeleteRecipient:
		m.deleteRecipient(milter.PathOf(e.Address))
	case ampdp.AddRecipient:
		m.add(milter.AddRecipient{Recipient: milter.PathOf(e.Address)})
	case ampdp.DeleteHeader:
		m.deleteHeader(e)
	case ampdp.ChangeHeader:
		m.changeHeader(e)
	case ampdp.InsertHeader:
		m.mark(e.Name, markSet)
		m.add(milter.InsertHeader{Index: e.Index, Name: e.Name, Value: e.Value})
	case ampdp.AddHeader:
		m.append(e.Name, e.Value)
		m.mark(e.Name, markSet)
	case ampdp.Quarantine:
		m.add(milter.Quarantine{Reason: e.Reason})
	}
}

func (m *editMapper) add(c milter.Change) { m.changes = append(m.changes, c) }

// delete deletes one header field.
func (m *editMapper) delete(index int, name string) {
	if m.deletions++; m.deletions <= MaxDeletions {
		m.add(milter.DeleteHeader{Index: index, Name: name})
	}
}

// done returns the changes. Its error is a *failure: to leave some deletions out would
// let forged fields pass.
func (m *editMapper) done() ([]milter.Change, error) {
	if m.deletions > MaxDeletions {
		return nil, &failure{causeHeader, fmt.Errorf("%w: %d fields of it would have to be deleted, more than %d", errHeaderTooLarge, m.deletions, MaxDeletions)}
	}
	return m.changes, nil
}

// deleteRecipient deletes all recipients of whom amavisd was told what it names: they
// were typed in several ways, and the MTA finds each by his own. amavisd names each of
// them in turn; all go the first time, and after that it is the first of them, so that
// not every one is named for every other.
func (m *editMapper) deleteRecipient(named milter.Path) {
	if m.told == nil {
		m.told = make(map[string][]milter.Path, len(m.recipients))
		seen := make(map[milter.Path]bool, len(m.recipients))
		for _, r := range m.recipients {
			if !seen[r] {
				seen[r] = true
				m.told[r.String()] = append(m.told[r.String()], r)
			}
		}
	}
	meant := m.told[named.String()]
	if len(meant) == 0 {
		meant = []milter.Path{named}
	}
	for _, r := range meant {
		m.add(milter.DeleteRecipient{Recipient: r})
	}
	m.told[named.String()] = meant[:1]
}

// append adds a field at the end of the header. Where there is one of its name
// already, sendmail would put it in front of that one: several that amavisd adds would
// arrive in the opposite order.
func (m *editMapper) append(name, value string) {
	if m.has(name, markSet) || m.fields.count(name) > 0 {
		m.add(milter.InsertHeader{Index: milter.AtEnd, Name: name, Value: value})
		return
	}
	m.add(milter.AddHeader{Name: name, Value: value})
}

// mark remembers what was done to the fields of a name.
func (m *editMapper) mark(name string, mark nameMarks) {
	hash := hashName(name)
	e := m.marks.findHash(name, hash)
	if e == nil {
		e = m.marks.insert(name, hash)
	}
	e.marks |= mark
}

func (m *editMapper) has(name string, mark nameMarks) bool {
	e := m.marks.find(name)
	return e != nil && e.marks&mark != 0
}

// deleteHeader deletes all fields of the name, whatever the index: AM.PDP names
// only the first occurrence where amavisd's own SMTP path removes every one, and
// who sends a forged field twice would keep the second. Received is another
// matter: the others of that name are the history of the message.
func (m *editMapper) deleteHeader(e ampdp.DeleteHeader) {
	if !equalNames(e.Name, receivedName) {
		m.deleteField(e.Name)
		return
	}
	if index := e.Index - 1; index >= 1 && index <= m.fields.count(e.Name) {
		m.delete(index, m.fields.spelling(e.Name))
	}
}

// deleteField deletes all fields of the name that came with the message, once, from
// the last to the first: Postfix moves the later indexes up after each deletion,
// sendmail does not, and this order suits both.
func (m *editMapper) deleteField(name string) {
	if m.has(name, markDeleted) {
		return
	}
	m.mark(name, markDeleted)
	spelling := m.fields.spelling(name)
	for i := m.fields.count(name); i >= 1; i-- {
		m.delete(i, spelling)
	}
}

// changeHeader passes a change on. A field that the message does not have, or no
// longer has, is added, which is what smfi_chgheader does with one: said plainly
// it comes out alike on every MTA.
func (m *editMapper) changeHeader(e ampdp.ChangeHeader) {
	index := e.Index
	if equalNames(e.Name, receivedName) {
		if index--; index < 1 {
			return // ours, which the MTA has never seen
		}
	}
	index = max(index, 1)
	defer m.mark(e.Name, markSet)
	if index > m.fields.count(e.Name) || m.has(e.Name, markDeleted) {
		m.append(e.Name, e.Value)
		return
	}
	m.add(milter.ChangeHeader{Index: index, Name: m.fields.spelling(e.Name), Value: e.Value})
}

// xHeader makes sure that exactly one field of the X-header's name is there, and
// that it is ours, unless amavisd has set that field itself.
func (m *editMapper) xHeader(x HeaderField) {
	if x.Name == "" || m.has(x.Name, markSet) {
		return
	}
	n := m.fields.count(x.Name)
	if n == 0 || m.has(x.Name, markDeleted) {
		m.add(milter.AddHeader{Name: x.Name, Value: x.Value})
		return
	}
	spelling := m.fields.spelling(x.Name)
	for i := n; i > 1; i-- {
		m.delete(i, spelling)
	}
	m.add(milter.ChangeHeader{Index: 1, Name: spelling, Value: x.Value})
}

// unscannedChanges marks a message that passes without a scan: it bears the field
// X-Amavis-Milter-Unscanned, once, and no X-header, not even one that came with it
// and would now be a lie. Its error is that of editMapper.done.
func unscannedChanges(c Cause, fields *headerFields, xHeader HeaderField) ([]milter.Change, error) {
	m := editMapper{fields: fields}
	m.deleteField(UnscannedHeader)
	m.deleteField(DefaultXHeader.Name)
	if xHeader.Name != "" {
		m.deleteField(xHeader.Name)
	}
	m.add(milter.AddHeader{Name: UnscannedHeader, Value: string(c)})
	return m.done()
}
