package bench

import (
	"bytes"
	"fmt"
)

// edits are many changes that the scanner asks for, one for each of what a message has
// many of.
type edits struct {
	lines []string // of the scanner's reply

	// frames are what the milter has to answer, in this order; spaced has them as one does
	// that has the leading space told.
	frames, spaced [][]byte
}

// add adds a change: what the scanner says, and what the milter has to answer.
func (e *edits) add(line string, kind byte, plain, spaced []byte) {
	e.lines = append(e.lines, line)
	e.frames = append(e.frames, append([]byte{kind}, plain...))
	e.spaced = append(e.spaced, append([]byte{kind}, spaced...))
}

// changeFields has each of the header fields changed. amavisd names a field in lower case
// and which of that name it means.
func changeFields(m Mail) *edits {
	e := &edits{}
	first := []byte{0, 0, 0, 1} // the first of its name
	for i, h := range m.Header {
		value := fmt.Sprintf("changed, %d", i)
		e.add(fmt.Sprintf("chgheader=1 %s %s", encode(h[0]), encode(value)), ansChgHeader,
			append(first[:4:4], cstrings(h[0], value)...), append(first[:4:4], cstrings(h[0], " "+value)...))
	}
	return e
}

// changeRecipients has each of the recipients replaced.
func changeRecipients(m Mail) *edits {
	e := &edits{}
	n := max(1, m.Recipients)
	for i := range n {
		old := cstrings(recipient(i))
		e.add("delrcpt="+encode(recipient(i)), ansDelRcpt, old, old)
	}
	for i := range n {
		other := fmt.Sprintf("<other%d@example.org>", i)
		e.add("addrcpt="+encode(other), ansAddRcpt, cstrings(other), cstrings(other))
	}
	return e
}

// Frames of changed recipients (libmilter mfdef.h SMFIR_*).
const (
	ansAddRcpt = '+'
	ansDelRcpt = '-'
)

// reply is what amavisd says.
func (e *edits) reply() []byte {
	text := "version_server=2\r\nlog_id=00042-07\r\nsetreply=250 2.5.0 Ok,%20id=00042-07,%20continue%20delivery\r\n"
	for _, line := range e.lines {
		text += line + "\r\n"
	}
	return []byte(text + "return_value=continue\r\nexit_code=0\r\n\r\n")
}

// take takes one frame of the answer to the end of a message, as answer.take does; without
// edits of its own it is that. Each frame is compared with the one that is due, whole.
func (e *edits) take(a *answer, data []byte, t terms) string {
	if e == nil {
		return a.take(data, t)
	}
	due := e.frames
	if t.protocol&hdrLeadSpc != 0 {
		due = e.spaced
	}
	switch kind := data[0]; {
	case a.told < len(due) && bytes.Equal(data, due[a.told]):
		a.told++
		return ""
	case kind == ansAccept || kind == ansContinue:
		a.verdict = kind
		if a.told != len(due) {
			return fmt.Sprintf("%d edits, want %d", a.told, len(due))
		}
		return ""
	case kind == ansAddHeader || kind == ansInsHeader || kind == ansChgHeader:
		name, value, _, wrong := parseEdit(data, t)
		if wrong == "" && !ownMark(kind, name, value) {
			wrong = fmt.Sprintf("an edit that nobody told: %q", data)
		}
		return wrong
	}
	return a.take(data, t)
}
