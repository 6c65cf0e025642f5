package milter

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// strictHandler keeps what it is given, says what the content tells it to, and notes
// all that a Transaction must not be asked.
type strictHandler struct {
	late <-chan struct{} // verdicts wait for it

	mu     sync.Mutex
	begun  int
	ended  []*strictTransaction
	wrongs []string
}

type strictTransaction struct {
	h       *strictHandler
	env     *Envelope
	content *content
	asked   bool
	over    bool
	outcome Outcome
}

func (h *strictHandler) wrong(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrongs = append(h.wrongs, what)
}

func (h *strictHandler) Begin(env *Envelope) Transaction {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.begun++
	return &strictTransaction{h: h, env: env, content: newContent(env)}
}

// open notes a call that comes after the message was complete.
func (tx *strictTransaction) open(call string) {
	if tx.asked || tx.over {
		tx.h.wrong(call + " after the end of the message")
	}
}

func (tx *strictTransaction) Header(name, value string) {
	tx.open("Header")
	if name == panicField {
		panic(provoked)
	}
	tx.content.header = append(tx.content.header, name+":"+value)
}

func (tx *strictTransaction) EndHeader() {
	tx.open("EndHeader")
	tx.content.eoh++
}

func (tx *strictTransaction) Body(p []byte) {
	tx.open("Body")
	tx.content.body = append(tx.content.body, p...)
}

func (tx *strictTransaction) Verdict(context.Context) Verdict {
	tx.open("Verdict")
	tx.asked = true
	if now := newContent(tx.env); !slices.Equal(now.recipients, tx.content.recipients) || now.sender != tx.content.sender {
		tx.h.wrong("the envelope has changed since Begin")
	}
	<-tx.h.late
	return tx.content.verdict()
}

func (tx *strictTransaction) End(o Outcome) {
	if tx.over {
		tx.h.wrong("End twice")
	}
	tx.over, tx.outcome = true, o
	tx.h.mu.Lock()
	defer tx.h.mu.Unlock()
	tx.h.ended = append(tx.h.ended, tx)
}

// panicCount is a log that counts the panics in it.
type panicCount struct {
	mu sync.Mutex
	n  int
}

func (c *panicCount) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += bytes.Count(line, []byte("please report this"))
	return len(line), nil
}

// meter is the guard's end of a connection. It notes a buffer that is larger than
// what has been received can explain.
type meter struct {
	net.Conn
	received int
	wasted   int // bytes
}

func (m *meter) Read(p []byte) (int, error) {
	m.wasted = max(m.wasted, len(p)-4*m.received-readAheadBytes)
	n, err := m.Conn.Read(p)
	m.received += n
	return n, err
}

// FuzzDialogue changes valid dialogues: frames left out, doubled, swapped and put in,
// lengths, data, the negotiation, the writes in which they come, and where the MTA
// hangs up. A model, which reads the same bytes in the simplest way, says what each
// event must be answered and what the handler must see: each end of message has one
// answer, and what is accepted is what was sent. Transactions end once, no panic is
// ours, and no memory is taken that was not sent.
func FuzzDialogue(f *testing.F) {
	valid := dialogues()
	for i := range valid {
		f.Add([]byte{byte(i), 0})
		f.Add([]byte{byte(i), modeLate | modeDrip})
		f.Add([]byte{byte(i), modeRefused})
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		p := readProgram(valid, input)
		raw := p.wire()
		written := make(chan struct{})
		h := &strictHandler{late: written}
		if p.mode&modeLate == 0 {
			now := make(chan struct{})
			close(now)
			h.late = now
		}
		log := &panicCount{}
		srv := NewServer(h, newTestLog(log), quickTimes())
		if p.mode&modeRefused != 0 {
			srv.Limit(Limits{Sessions: 1})
			srv.sessions++ // as if there were another one
		}
		if len(input)%4 == 0 {
			srv.dormitory.after = 20 * time.Microsecond
		}
		ours, theirs := socketPair()
		guarded := &meter{Conn: theirs}
		if len(input)%2 == 0 {
			go srv.serveConn(theirs) // as it is read in service
		} else {
			go srv.serveConn(guarded)
		}
		var got []string
		if p.mode&modeHangUp != 0 {
			send(ours, p.pieces(raw))
			ours.Close()
			close(written)
		} else {
			go func() {
				send(ours, p.pieces(raw))
				ours.CloseWrite()
				close(written)
			}()
			got = answers(t, ours)
		}
		ours.Close()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Fatalf("shutdown: %v", err)
		}
		h.check(t)
		if p.mode&modeHangUp == 0 {
			m := &model{refused: p.mode&modeRefused != 0}
			compare(t, raw, got, m, h, log)
		}
		if p.mode&modeRefused != 0 {
			srv.sessions--
		}
		srv.crowd.check(t)
		if guarded.wasted > 0 {
			t.Errorf("a buffer had %d bytes more than what was received explains", guarded.wasted)
		}
	})
}

func send(conn net.Conn, pieces [][]byte) {
	for _, piece := range pieces {
		if _, err := conn.Write(piece); err != nil {
			return
		}
	}
}

// check wants that the handler was left with nothing and asked nothing odd.
func (h *strictHandler) check(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.begun != len(h.ended) {
		t.Errorf("%d transactions begun, %d ended", h.begun, len(h.ended))
	}
	if len(h.wrongs) > 0 {
		t.Errorf("the handler was asked wrong: %q", h.wrongs)
	}
	for _, tx := range h.ended {
		if o := tx.outcome; o.Err == nil && o.Sent.Disposition() == DispositionAccept && !tx.asked {
			t.Error("a message was accepted without its handler's verdict")
		}
	}
}

// check wants that no connection has left anything.
func (c *crowd) check(t *testing.T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.conns)+c.sessions+c.refusing+len(c.perAddress) != 0 || c.buffered.Load() != 0 || c.large.Load() != 0 || c.envelopes.Load() != 0 {
		t.Errorf("%d connections are left, counted are %d and %d refused, from %d addresses, %d bytes in buffers and %d in paths",
			len(c.conns), c.sessions, c.refusing, len(c.perAddress), c.buffered.Load(), c.envelopes.Load())
	}
}

// answers reads all answers to the end of the connection, that to the offer first, as
// its bytes.
func answers(t *testing.T, conn net.Conn) (all []string) {
	mta := &miltertest.MTA{Conn: conn}
	code, data, err := mta.Receive()
	if err == nil {
		all = append(all, string(code)+string(data))
	}
	for err == nil {
		var a miltertest.Answer
		if a, err = mta.Answer(); err == nil {
			all = append(all, a.String())
		}
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("neither an answer nor the end of the connection")
	}
	return all
}

// compare wants the answers, the messages and the panics that the model says.
func compare(t *testing.T, raw []byte, got []string, m *model, h *strictHandler, log *panicCount) {
	if negotiates(raw) {
		if len(got) == 0 || got[0][0] != 'O' || len(got[0]) < 13 {
			t.Fatalf("the offer was answered %.1q", got)
		}
		chosen := []byte(got[0][1:])
		m.actions, m.protocol = binary.BigEndian.Uint32(chosen[4:]), binary.BigEndian.Uint32(chosen[8:])
		if m.actions&^binary.BigEndian.Uint32(raw[9:]) != 0 || m.protocol&^binary.BigEndian.Uint32(raw[13:]) != 0 {
			t.Fatalf("the offer % x was answered % x", raw[5:17], chosen)
		}
		m.run(raw)
		got = got[1:]
	}
	if !slices.Equal(got, m.answers) {
		t.Errorf("answers %q, want %q", got, m.answers)
	}
	if len(h.ended) != len(m.ended) {
		t.Errorf("%d messages ended, want %d", len(h.ended), len(m.ended))
	}
	for i, tx := range h.ended[:min(len(h.ended), len(m.ended))] {
		if tx.content.digest() != m.ended[i].digest() {
			t.Errorf("message %d: got %+v, want %+v", i, tx.content, m.ended[i])
		}
	}
	if log.n != m.panics {
		t.Errorf("%d panics in the log, want %d", log.n, m.panics)
	}
}
