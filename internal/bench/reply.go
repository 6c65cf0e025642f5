package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// Told are the header edits that the scanner asks for with each message, in this order:
// what amavisd's are most often.
var Told = [][2]string{
	{"X-Spam-Score", "-1.902"},
	{"X-Spam-Status", "No, score=-1.902 tagged_above=-999 required=6.31\n\ttests=[BAYES_00=-1.9, RCVD_IN_DNSWL_NONE=-0.0001, SPF_PASS=-0.001]\n\tautolearn=ham autolearn_force=no"},
}

// mark is the field that a milter may set by itself on what passed, and unscanned the
// one that it may remove.
const (
	mark      = "X-Virus-Scanned"
	unscanned = "X-Amavis-Milter-Unscanned"
)

// answer is what a milter has answered to the end of a message so far.
type answer struct {
	told    int // how many of Told it has made
	verdict byte
}

// frame returns the first frame of p, without its length, and the bytes that it takes;
// none if it is not whole yet.
func frame(p []byte) (data []byte, n int, err error) {
	if len(p) < 4 {
		return nil, 0, nil
	}
	const most = 1 << 20 // bytes; longer than any answer
	size := binary.BigEndian.Uint32(p)
	if size == 0 || size > most {
		return nil, 0, fmt.Errorf("a frame of %d bytes", size)
	}
	if len(p)-4 < int(size) {
		return nil, 0, nil
	}
	return p[4 : 4+size], 4 + int(size), nil
}

// take takes one frame of the answer to the end of a message. It returns the kind of
// error, or nothing.
func (a *answer) take(data []byte, t terms) string {
	switch data[0] {
	case ansProgress:
		return ""
	case ansAccept, ansContinue:
		a.verdict = data[0]
		if a.told != len(Told) {
			return "an edit is missing"
		}
		return ""
	case ansReject, ansTempfail, ansDiscard:
		a.verdict = data[0]
		return "verdict " + string(data[0])
	case ansReply:
		a.verdict = data[0]
		return "verdict " + string(bytes.TrimRight(data[1:], "\x00"))
	case ansAddHeader, ansInsHeader, ansChgHeader:
		return a.edit(data, t)
	}
	return fmt.Sprintf("answer %q", data[0])
}

// edit checks one header edit: it is the next that was told, or the milter's own mark.
func (a *answer) edit(data []byte, t terms) string {
	kind := data[0]
	name, value, appends, wrong := parseEdit(data, t)
	switch {
	case wrong != "":
		return wrong
	case a.told < len(Told) && string(name) == Told[a.told][0] && string(value) == Told[a.told][1] && appends:
		a.told++
		return ""
	case ownMark(kind, name, value):
		return ""
	}
	return fmt.Sprintf("an edit that nobody told: %q %s: %s", kind, name, value)
}

// ownMark reports whether an edit is one that a milter may make by itself.
func ownMark(kind byte, name, value []byte) bool {
	return string(name) == mark || string(name) == unscanned && kind == ansChgHeader && len(value) == 0
}

// parseEdit takes a header edit apart; appends says that it puts a field at the end.
func parseEdit(data []byte, t terms) (name, value []byte, appends bool, wrong string) {
	kind, data := data[0], data[1:]
	appends = kind == ansAddHeader
	if kind != ansAddHeader {
		if len(data) < 4 {
			return nil, nil, false, "an edit is too short"
		}
		// A field that is inserted as far down as there is goes to the end: so amavisd-milter
		// adds one.
		appends = kind == ansInsHeader && binary.BigEndian.Uint32(data) == math.MaxInt32
		data = data[4:]
	}
	name, rest, ok := bytes.Cut(data, []byte{0})
	value, rest, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 || len(rest) > 0 {
		return nil, nil, false, "an edit is malformed"
	}
	// Who has the leading space told as it was sent gives it himself.
	if t.protocol&hdrLeadSpc != 0 && len(value) > 0 {
		if value[0] != ' ' {
			return nil, nil, false, "an edit lacks its leading space"
		}
		value = value[1:]
	}
	return name, value, appends, ""
}
