package milter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// tellTale writes down all that it is asked, a line each.
type tellTale struct{ lines []string }

func (h *tellTale) note(format string, args ...any) {
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

func (h *tellTale) Begin(env *Envelope) Transaction {
	h.note("begin %s, %d recipients, id %s", env.Sender, len(env.Recipients), env.QueueID)
	return &tellTaleTransaction{h, env}
}

type tellTaleTransaction struct {
	*tellTale
	env *Envelope
}

func (tx *tellTaleTransaction) Header(name, value string) { tx.note("header %q %q", name, value) }
func (tx *tellTaleTransaction) EndHeader()                { tx.note("end of header") }
func (tx *tellTaleTransaction) Body(chunk []byte)         { tx.note("body %q", chunk) }
func (tx *tellTaleTransaction) End(o Outcome)             { tx.note("end: %v, %v", o.Sent.Disposition(), o.Err) }
func (tx *tellTaleTransaction) Verdict(context.Context) Verdict {
	tx.note("verdict for %s, %d recipients, id %s", tx.env.Sender, len(tx.env.Recipients), tx.env.QueueID)
	return Accept()
}

// told returns what the handler is asked on one connection with that offer.
func told(t *testing.T, protocol uint32, frames []byte) []string {
	h := &tellTale{}
	srv := NewServer(h, newTestLog(&logBuffer{}), DefaultTimes())
	ours, theirs := socketPair()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, ours)
	}()
	go srv.serveConn(theirs)
	offer := append([]byte{0, 0, 0, 6, 0, 0, 0x1, 0xff}, byte(protocol>>24), byte(protocol>>16), byte(protocol>>8), byte(protocol))
	for _, p := range [][]byte{miltertest.Frame('O', offer), frames, miltertest.Frame('Q', nil)} {
		if _, err := ours.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	<-done // it is closed when all is done
	ours.Close()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h.lines
}

// TestContentBothWays: whatever comes in whatever order, the handler is asked the same
// whether header fields and body take the short way or the library's, which is the way
// of those that the MTA wants an answer to.
func TestContentBothWays(t *testing.T) {
	type step struct {
		name   string
		frames []byte
	}
	frame := func(code byte, data string) []byte { return miltertest.Frame(code, []byte(data)) }
	steps := []step{
		{"MAIL", frame('M', "<two@x>\x00")}, {"RCPT", frame('R', "<c@y>\x00")}, {"DATA", frame('T', "")},
		{"header", frame('L', "A\x00 b\x00")}, {"end of header", frame('N', "")}, {"body", frame('B', "text")},
		{"end", frame('E', "")}, {"end with a tail", frame('E', "tail")}, {"ABORT", frame('A', "")}, {"unknown", frame('U', "X\x00")},
		{"macros for a header", frame('D', "Li\x00of-header\x00")}, {"macros for the body", frame('D', "Bi\x00of-body\x00")},
		{"macros for the end", frame('D', "Ei\x00of-end\x00")},
	}
	var frames []byte
	names := map[string]string{}
	n := 0
	var add func(name string, sequence []byte, more int)
	add = func(name string, sequence []byte, more int) {
		if more == 0 {
			sender := fmt.Sprintf("<%d@x>", n)
			names[sender] = name
			n++
			frames = append(frames, frame('M', sender+"\x00")...)
			frames = append(frames, frame('R', "<b@y>\x00")...)
			frames = append(frames, sequence...)
			frames = append(frames, frame('A', "")...)
			return
		}
		for _, s := range steps {
			add(name+", "+s.name, append(slices.Clone(sequence), s.frames...), more-1)
		}
	}
	add("header", frame('L', "A\x00 b\x00"), 3)
	add("DATA, header", append(frame('T', ""), frame('L', "A\x00 b\x00")...), 3)
	add("DATA, body", append(frame('T', ""), frame('B', "text")...), 3)
	add("DATA", frame('T', ""), 2)

	const all = 0x1fffff
	short := told(t, all, frames)
	for _, waits := range []uint32{miltertest.NRHeader, miltertest.NRBody, miltertest.NRHeader | miltertest.NRBody} {
		long := told(t, all&^waits, frames)
		last := ""
		for i := range max(len(short), len(long)) {
			if i < len(short) && strings.HasPrefix(short[i], "begin <") {
				last = names[strings.TrimPrefix(strings.Split(short[i], ",")[0], "begin ")]
			}
			if i >= len(short) || i >= len(long) || short[i] != long[i] {
				t.Fatalf("after MAIL, RCPT, %s: the handler is asked %q by the short way, %q by the long one", last,
					strings.Join(short[min(i, len(short)):min(i+5, len(short))], "; "), strings.Join(long[min(i, len(long)):min(i+5, len(long))], "; "))
			}
		}
	}
	if n < 4000 || len(short) < 2*n {
		t.Errorf("%d sequences, %d lines", n, len(short))
	}
}

// TestContentTakesTheShortWay: the library does not see what it need not.
func TestContentTakesTheShortWay(t *testing.T) {
	var seen []byte
	g := newGuard(nil, DefaultTimes())
	g.content = func(command byte, data []byte) bool { return true }
	for _, command := range []byte("MRTLLLNBBEALMRTLTLNLB") {
		if g.admitted = nil; !g.serve(command, nil) {
			g.handOn(command, nil, miltertest.Frame(command, nil))
			for rest := g.admitted; len(rest) > 0; rest = rest[frameHeaderBytes+int(rest[3]):] {
				seen = append(seen, rest[4])
			}
		}
	}
	// The ABORT (A) before the second DATA of a message is for what the library has not seen.
	if want := []byte("MRTNEALMRTATNL"); !bytes.Equal(seen, want) {
		t.Errorf("the library sees %s, want %s", seen, want)
	}
}
