package bench

import (
	"bytes"
	"fmt"
)

// edits are many changes that the scanner asks for, one for each of what a message has
// many of.
type edits struct {
	lines  []string     // of the scanner's reply
	frames map[byte]int // what the milter has to answer, by kind
}

// changeFields has each of the header fields changed. amavisd names a field in lower case
// and which of that name it means.
func changeFields(m Mail) *edits {
	e := &edits{frames: map[byte]int{ansChgHeader: len(m.Header)}}
	for i, h := range m.Header {
		e.lines = append(e.lines, fmt.Sprintf("chgheader=1 %s %s", encode(h[0]), encode(fmt.Sprintf("changed, %d", i))))
	}
	return e
}

// changeRecipients has each of the recipients replaced.
func changeRecipients(m Mail) *edits {
	n := max(1, m.Recipients)
	e := &edits{frames: map[byte]int{ansDelRcpt: n, ansAddRcpt: n}}
	for i := range n {
		e.lines = append(e.lines, "delrcpt="+encode(recipient(i)))
	}
	for i := range n {
		e.lines = append(e.lines, "addrcpt="+encode(fmt.Sprintf("<other%d@example.org>", i)))
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
// edits of its own it is that. Of many edits it counts the kinds and looks at no more, so
// that the load costs less than what it measures.
func (e *edits) take(a *answer, data []byte, t terms) string {
	if e == nil {
		return a.take(data, t)
	}
	switch kind := data[0]; {
	case e.frames[kind] > 0:
		a.told++
		return ""
	case kind == ansAccept || kind == ansContinue:
		a.verdict = kind
		want := 0
		for _, n := range e.frames {
			want += n
		}
		// A milter may set its own mark by one more edit.
		if a.told < want || a.told > want+1 {
			return fmt.Sprintf("%d edits, want %d", a.told, want)
		}
		return ""
	case kind == ansAddHeader || kind == ansInsHeader || kind == ansChgHeader:
		if !bytes.Contains(data, []byte(mark+"\x00")) && !bytes.Contains(data, []byte(unscanned+"\x00")) {
			return fmt.Sprintf("an edit that nobody told: %q", data)
		}
		return ""
	}
	return a.take(data, t)
}
