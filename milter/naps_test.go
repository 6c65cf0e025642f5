package milter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// This file holds that dozing, and how the bytes of a dialogue are cut, change nothing of
// what the handler is told and the MTA is answered.

// record is a handler that writes down what it is told.
type record struct {
	lines   []string
	verdict time.Duration // that a Verdict takes
}

func (r *record) add(format string, a ...any) { r.lines = append(r.lines, fmt.Sprintf(format, a...)) }

func (r *record) Begin(env *Envelope) Transaction {
	r.add("begin %+v", *env)
	return &recorded{r, env}
}

type recorded struct {
	*record
	env *Envelope
}

func (x *recorded) Header(name, value string) { x.add("header %q %q", name, value) }
func (x *recorded) EndHeader()                { x.add("end of header") }
func (x *recorded) Body(chunk []byte)         { x.add("body %q", chunk) }
func (x *recorded) End(o Outcome)             { x.add("end %v %v", o.Sent.Disposition(), o.Err) }
func (x *recorded) Verdict(context.Context) Verdict {
	x.add("verdict %+v", *x.env)
	if x.verdict > 0 {
		<-time.After(x.verdict)
	}
	return Accept(AddHeader{"X-Queue", x.env.QueueID})
}

// dialogue is what an MTA sends, frame by frame, and what it has negotiated.
type dialogue struct {
	frames   [][]byte
	protocol uint32
}

// randomDialogue makes frames that mostly are in order, each with values of its own.
func randomDialogue(r *rand.Rand) dialogue {
	n := 0
	frame := func(code byte, data ...string) func() []byte {
		return func() []byte {
			n++
			return miltertest.Frame(code, []byte(strings.ReplaceAll(strings.Join(data, "\x00"), "%", fmt.Sprint("v", n))))
		}
	}
	frames := []func() []byte{
		frame('C', "host%", "4\x00\x19192.0.2.1", ""), frame('H', "%", ""), frame('M', "<%@x>", ""), frame('R', "<%@y>", ""),
		frame('T'), frame('L', "A", " %", ""), frame('N'), frame('B', "%"), frame('E'), // in order until here
		frame('E', "%"), frame('R', "% x@y", ""), frame('A'), frame('U', "x", ""), frame('K'),
		frame('D', "Cj", "%", "{client_name}", "%", "{daemon_name}", "d", ""), frame('D', "H{tls_version}", "%", ""),
		frame('D', "Mi", "%", "{auth_authen}", "%", "{mail_addr}", "m@x", ""), frame('D', "R{rcpt_addr}", "%@z", ""),
		frame('D', "Ti", "%", ""), frame('D', "Li", "%", ""), frame('D', "Ei", "%", ""), frame('D', "Ui", "%", ""),
	}
	protocols := []uint32{0x1fffff, 0x1fffff, 0x7f, 0x1fffff &^ miltertest.NRBody}
	d := dialogue{protocol: protocols[r.IntN(len(protocols))]}
	at := 0
	for range 60 {
		if r.IntN(3) == 0 {
			d.frames = append(d.frames, frames[r.IntN(len(frames))]())
			continue
		}
		d.frames = append(d.frames, frames[at]())
		if at++; at == 9 {
			at = r.IntN(4)
		}
	}
	return d
}

// offer is the frame before the others.
func (d dialogue) offer() []byte {
	p := d.protocol
	return miltertest.Frame('O', []byte{0, 0, 0, 6, 0, 0, 1, 0xff, byte(p >> 24), byte(p >> 16), byte(p >> 8), byte(p)})
}

// run sends pieces to a server, each after a pause, and returns what its handler was told,
// what came back, and how often the connection dozed.
func (d dialogue) run(pieces [][]byte, pause func() time.Duration, h *record, doze time.Duration) (told, answers string, naps uint64) {
	times := DefaultTimes()
	times.Watch = time.Millisecond
	srv := NewServer(h, newTestLog(io.Discard), times)
	srv.dormitory.after = doze
	ours, theirs := socketPair()
	defer ours.Close()
	var back []byte
	var reading sync.WaitGroup
	reading.Go(func() { back, _ = io.ReadAll(ours) })
	go srv.serveConn(theirs)
	for _, p := range append([][]byte{d.offer()}, pieces...) {
		ours.Write(p)
		if wait := pause(); wait > 0 {
			<-time.After(wait)
		}
	}
	ours.Write(miltertest.Frame('Q', nil))
	reading.Wait()
	srv.Shutdown(context.Background())
	return strings.Join(h.lines, "\n"), string(back), srv.dormitory.last
}

// cut cuts frames into pieces of any size.
func (d dialogue) cut(r *rand.Rand) (pieces [][]byte) {
	for rest := bytes.Join(d.frames, nil); len(rest) > 0; {
		n := min(1+r.IntN(300), len(rest))
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	return pieces
}

// TestNapsChangeNothing: the same dialogues in one go, with a nap wherever there may be one,
// and cut anywhere while verdicts take their time and somebody watches.
func TestNapsChangeNothing(t *testing.T) {
	const dialogues, atOnce = 200, 16
	var all sync.WaitGroup
	var mu sync.Mutex
	var naps uint64
	room := make(chan struct{}, atOnce)
	for seed := range uint64(dialogues) {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			r := rand.New(rand.NewPCG(seed, 0))
			d := randomDialogue(r)
			awake, answers, _ := d.run(d.frames, func() time.Duration { return 0 }, &record{}, time.Hour)
			now := func() time.Duration { return time.Duration(r.IntN(2)) * 2 * time.Millisecond }
			napping, nappingAnswers, n := d.run(d.frames, now, &record{}, 100*time.Microsecond)
			any := func() time.Duration { return time.Duration(r.IntN(3000)) * time.Microsecond }
			pieces, piecesAnswers, m := d.run(d.cut(r), any, &record{verdict: 3 * time.Millisecond}, 300*time.Microsecond)
			mu.Lock()
			naps += n + m
			mu.Unlock()
			if napping != awake || nappingAnswers != answers {
				t.Errorf("seed %d, awake:\n%s\nwith naps:\n%s\nanswers %q\n%q", seed, awake, napping, answers, nappingAnswers)
			}
			if pieces != awake || piecesAnswers != answers {
				t.Errorf("seed %d, awake:\n%s\nin pieces:\n%s\nanswers %q\n%q", seed, awake, pieces, answers, piecesAnswers)
			}
		})
	}
	all.Wait()
	if naps < dialogues {
		t.Errorf("only %d naps", naps)
	}
}
