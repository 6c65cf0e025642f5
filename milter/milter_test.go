package milter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// testTransaction records what a message was and gives a verdict made up by the
// test.
type testTransaction struct {
	env     *Envelope
	header  []string // name:value
	eoh     int
	body    bytes.Buffer
	verdict func(ctx context.Context) Verdict
	ended   chan Outcome
}

func (tx *testTransaction) Header(name, value string) {
	tx.header = append(tx.header, name+":"+value)
}
func (tx *testTransaction) EndHeader()                          { tx.eoh++ }
func (tx *testTransaction) Body(p []byte)                       { tx.body.Write(p) }
func (tx *testTransaction) Verdict(ctx context.Context) Verdict { return tx.verdict(ctx) }
func (tx *testTransaction) End(o Outcome)                       { tx.ended <- o }

// testHandler hands out test transactions.
type testHandler struct {
	mu      sync.Mutex
	begun   []*testTransaction
	verdict func(ctx context.Context) Verdict
	begin   func(env *Envelope) // if set, called first
}

func (h *testHandler) Begin(env *Envelope) Transaction {
	if h.begin != nil {
		h.begin(env)
	}
	tx := &testTransaction{env: env, ended: make(chan Outcome, 2), verdict: h.verdict}
	if tx.verdict == nil {
		tx.verdict = func(context.Context) Verdict { return Accept() }
	}
	h.mu.Lock()
	h.begun = append(h.begun, tx)
	h.mu.Unlock()
	return tx
}

func (h *testHandler) transaction(t *testing.T, i int) *testTransaction {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if i >= len(h.begun) {
		t.Fatalf("transaction %d was never begun", i)
	}
	return h.begun[i]
}

func (h *testHandler) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.begun)
}

// logBuffer is a log for tests to read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// bench is a server on a local socket.
type bench struct {
	*Server
	handler *testHandler
	log     *logBuffer
	network string
	address string
	served  chan error
}

func quickTimes() Times {
	times := DefaultTimes()
	times.Negotiate, times.Frame, times.Watch = 5*time.Second, 5*time.Second, 20*time.Millisecond
	return times
}

func startServer(t *testing.T, handler *testHandler, times Times) *bench {
	t.Helper()
	return startServerOn(t, "unix", handler, times)
}

func startServerOn(t *testing.T, network string, handler *testHandler, times Times, prepare ...func(*Server)) *bench {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	log := &logBuffer{}
	b := &bench{
		Server:  NewServer(handler, newTestLog(log), times),
		handler: handler, log: log, network: network, address: ln.Addr().String(), served: make(chan error, 1),
	}
	for _, p := range prepare {
		p(b.Server)
	}
	go func() { b.served <- b.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = b.Shutdown(ctx)
	})
	return b
}

func (b *bench) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial(b.network, b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (b *bench) mta(t *testing.T, o miltertest.Offer) *miltertest.MTA {
	t.Helper()
	m, err := miltertest.New(b.dial(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// greeted starts an MTA on a connection and has it greet.
func greeted(t *testing.T, conn net.Conn, o miltertest.Offer) *miltertest.MTA {
	t.Helper()
	m, err := miltertest.New(conn, o)
	if err == nil {
		err = m.Greet()
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var plainMessage = miltertest.Message{
	QueueID: "4XyZ12", Sender: "<a@example.net>", Recipients: []string{"<b@example.org>", "<c@example.org>"},
	Header: [][2]string{{"From", " a@example.net"}, {"Subject", "  two spaces"}},
	Body:   []byte("one\r\ntwo\r\n"),
}

func outcome(t *testing.T, tx *testTransaction) Outcome {
	t.Helper()
	select {
	case o := <-tx.ended:
		return o
	case <-time.After(10 * time.Second):
		t.Fatal("the transaction was not ended")
	}
	return Outcome{}
}

// mustAnswer wants an exact answer.
func mustAnswer(t *testing.T, a miltertest.Answer, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatalf("answer: %v", err)
	}
	if a.String() != want {
		t.Fatalf("answer\n%s\nwant\n%s", a, want)
	}
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestOneMessage(t *testing.T) {
	offers := map[string]miltertest.Offer{
		"sendmail": miltertest.Sendmail817, "postfix": miltertest.Postfix37, "version 2": miltertest.Version2,
		"version 7":        {Version: 7, Actions: 0xffff, Protocol: 0x1fffff},
		"no reply bits":    {Version: 6, Actions: 0x1ff, Protocol: 0x7f | miltertest.HdrLeadSpc},
		"version 4":        {Version: 4, Actions: 0x3f, Protocol: 0x3ff},
		"nothing optional": {Version: 6},
	}
	for name, o := range offers {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, o)
			if err := m.Greet(); err != nil {
				t.Fatal(err)
			}
			m.Waits = 0
			a, err := m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
			if m.Protocol&miltertest.NoReplies == miltertest.NoReplies && m.Waits != 1 {
				t.Errorf("the MTA waited %d times for one message, want 1", m.Waits)
			}
			tx := b.handler.transaction(t, 0)
			if o := outcome(t, tx); o.Err != nil || o.Sent.Disposition() != DispositionAccept {
				t.Errorf("outcome %+v", o)
			}
			env := tx.env
			if env.QueueID != "4XyZ12" || env.Sender.String() != "<a@example.net>" || len(env.Recipients) != 2 || env.Recipients[1].String() != "<c@example.org>" {
				t.Errorf("envelope %+v", env)
			}
			if env.CanQuarantine != (o.Actions&miltertest.Quarantine != 0) {
				t.Errorf("quarantine is offered: %t", env.CanQuarantine)
			}
			want := Client{Helo: "helo.example.net", Name: "client.example.net", Address: "192.0.2.1", Port: 40000}
			if env.Client != want || env.Hostname != "mx.example.org" || env.DaemonName != "MTA" {
				t.Errorf("client %+v host %q daemon %q", env.Client, env.Hostname, env.DaemonName)
			}
			if got := strings.Join(tx.header, "|"); got != "From: a@example.net|Subject:  two spaces" {
				t.Errorf("header %q", got)
			}
			if tx.eoh != 1 || tx.body.String() != "one\r\ntwo\r\n" {
				t.Errorf("end of header %d times, body %q", tx.eoh, &tx.body)
			}
			if s := b.log.String(); strings.Contains(s, "level=ERROR") || strings.Contains(s, "milter library") {
				t.Errorf("log:\n%s", s)
			}
		})
	}
}

func TestNegotiation(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	if want := uint32(wantedActions) | miltertest.SetSymList; m.Actions != want {
		t.Errorf("actions %#x, want %#x", m.Actions, want)
	}
	if m.Protocol != miltertest.NoReplies|miltertest.HdrLeadSpc|miltertest.NoUnknown {
		t.Errorf("protocol %#x", m.Protocol)
	}
	lists := map[uint32]string{
		0: "j {client_name} {client_port} {client_resolve} {daemon_name}",
		1: "{tls_version} {cipher} {cipher_bits} {verify}",
		2: "i r {auth_type} {auth_authen} {auth_ssf} {tls_version} {cipher} {cipher_bits} {verify} {mail_addr}",
		3: "{rcpt_addr}",
		4: "i", 5: "i", 6: "i",
	}
	if fmt.Sprint(m.MacroLists) != fmt.Sprint(lists) {
		t.Errorf("macro lists %v", m.MacroLists)
	}
	if m := b.mta(t, miltertest.Offer{Version: 6, Actions: 0x3f, Protocol: 0x1fffff}); len(m.MacroLists) != 0 {
		t.Errorf("macro lists %v although SETSYMLIST was not offered", m.MacroLists)
	}
}

// TestSeveralMessages sends messages over one connection with everything that may
// lie between two of them.
func TestSeveralMessages(t *testing.T) {
	between := map[string]func(m *miltertest.MTA) error{
		"nothing":     func(*miltertest.MTA) error { return nil },
		"abort":       func(m *miltertest.MTA) error { return m.Abort() },
		"two aborts":  func(m *miltertest.MTA) error { return errors.Join(m.Abort(), m.Abort()) },
		"new helo":    func(m *miltertest.MTA) error { _, err := m.Helo("helo.example.net"); return err },
		"quit_nc":     func(m *miltertest.MTA) error { return errors.Join(m.Send('K', nil), m.Greet()) },
		"half a mail": func(m *miltertest.MTA) error { return errors.Join(m.SendUpTo(plainMessage, "body"), m.Abort()) },
		"unknown":     func(m *miltertest.MTA) error { return errors.Join(m.Send('U', []byte("FOO\x00")), nil) },
	}
	for name, do := range between {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, miltertest.Postfix37)
			if err := m.Greet(); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				msg := plainMessage
				msg.QueueID = fmt.Sprintf("Q%d", i)
				a, err := m.SendMessage(msg)
				mustAnswer(t, a, err, "accept")
				if err := do(m); err != nil {
					t.Fatal(err)
				}
			}
			m.Quit()
			complete := 0
			until(t, "all transactions ended", func() bool { return b.handler.count() >= 3 })
			for i := range b.handler.count() {
				tx := b.handler.transaction(t, i)
				o := outcome(t, tx)
				if o.Err == nil {
					if want := fmt.Sprintf("Q%d", complete); tx.env.QueueID != want || tx.env.Client.Helo != "helo.example.net" || tx.env.Client.Address != "192.0.2.1" {
						t.Errorf("message %d: %+v", complete, tx.env)
					}
					complete++
				} else if !errors.Is(o.Err, ErrAborted) {
					t.Errorf("outcome %v", o.Err)
				}
			}
			if complete != 3 {
				t.Errorf("%d messages complete, want 3", complete)
			}
		})
	}
}

// TestLateQueueID: Postfix sends the queue id at DATA, or only at the end.
func TestLateQueueID(t *testing.T) {
	for _, stage := range []byte{'T', 'N', 'E'} {
		b := startServer(t, &testHandler{}, quickTimes())
		m := b.mta(t, miltertest.Postfix37)
		m.Greet()
		m.Mail("<>")
		m.Rcpt("<b@y>")
		for _, step := range []struct {
			code byte
			do   func() (miltertest.Answer, error)
		}{{'T', m.Data}, {'N', m.EOH}, {'E', m.EOM}} {
			if step.code == stage {
				m.Macros(stage, "i", "LATE")
			}
			if _, err := step.do(); err != nil {
				t.Fatal(err)
			}
		}
		tx := b.handler.transaction(t, 0)
		outcome(t, tx)
		if tx.env.QueueID != "LATE" || tx.env.Sender != NullSender {
			t.Errorf("id told at %q: %+v", stage, tx.env)
		}
	}
}

func TestQueueIDInBraces(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	m.Greet()
	m.Macros('M', "{i}", "BRACED")
	m.Mail("<a@x>")
	m.Rcpt("<b@y>")
	a, err := m.EOM()
	mustAnswer(t, a, err, "accept")
	if id := b.handler.transaction(t, 0).env.QueueID; id != "BRACED" {
		t.Errorf("queue id %q", id)
	}
}

func newTestLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
