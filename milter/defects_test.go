package milter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gomilter "github.com/d--j/go-milter"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestBareLibrary keeps an eye on the library's defects that do not end the
// process. Each subtest fails when its defect is gone; what the server makes of
// the same thing is tested in the test named behind it.
func TestBareLibrary(t *testing.T) {
	for name, test := range map[string]func(t *testing.T){
		"OPTNEG after a second is dropped":             bareLateNegotiation,  // TestLateNegotiation
		"half a packet is held for ever":               bareHalfPacket,       // TestHalfAFrame
		"a length is an allocation":                    bareAllocation,       // TestClaimedLength
		"version 7 is refused":                         bareRefusesVersion,   // TestOneMessage
		"an action not offered is refused":             bareRefusesOffer,     // TestOneMessage, TestNotOffered
		"progress is refused to version 4":             bareProgress,         // TestProgress
		"the tail of the body in the end packet":       bareEndWithData,      // TestEndOfBodyWithData
		"two writes a packet":                          bareWrites,           // TestOneWrite
		"two reads a packet":                           bareReads,            // TestReadAhead
		"Serve ends on EMFILE":                         bareAccept,           // TestAcceptFails
		"Shutdown waits for idle connections":          bareShutdown,         // TestShutdownIdle
		"an error of a callback drops the connection":  bareCallbackError,    // TestOutOfOrder
		"a header frame of three strings, no log line": bareHeaderOfThree,    // TestMalformedFrames
		"a hidden address drops the connection":        bareHiddenAddress,    // TestHiddenAddress
		"a macro is found by its exact name only":      bareMacroName,        // TestQueueIDInBraces
		"a bare CR in a value becomes a line end":      bareCarriageReturn,   // TestHeaderValues
		"ABORT wipes the macros of HELO":               bareAbortWipesMacros, // TestFactsLast
	} {
		t.Run(name, test)
	}
}

// bareConn serves the bare library on one end of a pipe and returns the other.
func bareConn(t *testing.T, eom func(m gomilter.Modifier, body []byte), options ...gomilter.Option) *net.UnixConn {
	setLibraryLog(slog.New(slog.DiscardHandler))
	ours, theirs := socketPair()
	t.Cleanup(func() { ours.Close() })
	options = append(options, gomilter.WithMilter(func() gomilter.Milter { return &bareMilter{eom: eom} }))
	go gomilter.NewServer(options...).Serve(&oneShot{conn: theirs})
	return ours
}

func bareMTA(t *testing.T, o miltertest.Offer, eom func(m gomilter.Modifier, body []byte)) *miltertest.MTA {
	t.Helper()
	m, err := miltertest.New(bareConn(t, eom,
		gomilter.WithActions(gomilter.OptAddHeader), gomilter.WithNegotiationCallback(negotiate)), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func bareLateNegotiation(t *testing.T) {
	conn := bareConn(t, nil)
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
}

func bareHalfPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go bareServer(0).Serve(&oneShot{conn: theirs})
		m, err := miltertest.New(ours, miltertest.Sendmail817)
		if err != nil {
			t.Fatal(err)
		}
		m.SendRaw([]byte{0, 0, 0})
		time.Sleep(24 * time.Hour) // fake time
		if err := m.SendRaw([]byte{1}); err != nil {
			t.Errorf("a day later: %v", err)
		}
		m.Conn.Close()
	})
}

func bareAllocation(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	conn := bareConn(t, nil)
	conn.Write(binary.BigEndian.AppendUint32(nil, 256<<20))
	until(t, "256 MiB are allocated", func() bool {
		runtime.ReadMemStats(&after)
		return after.TotalAlloc-before.TotalAlloc > 255<<20
	})
}

func bareRefusesVersion(t *testing.T) {
	if _, err := miltertest.New(bareConn(t, nil), miltertest.Offer{Version: 7, Actions: 0x1ff, Protocol: 0x1fffff}); err == nil {
		t.Error("version 7 is served")
	}
}

func bareRefusesOffer(t *testing.T) {
	conn := bareConn(t, nil, gomilter.WithActions(gomilter.OptQuarantine))
	if _, err := miltertest.New(conn, miltertest.Version2); err == nil {
		t.Error("an MTA without quarantine is served")
	}
}

func bareProgress(t *testing.T) {
	got := make(chan error, 1)
	m := bareMTA(t, miltertest.Offer{Version: 4, Actions: 0x3f, Protocol: 0x3ff}, func(m gomilter.Modifier, _ []byte) { got <- m.Progress() })
	if _, err := m.EOM(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !errors.Is(err, gomilter.ErrVersionTooLow) {
		t.Errorf("progress: %v", err)
	}
}

func bareEndWithData(t *testing.T) {
	got := make(chan string, 1)
	m := bareMTA(t, miltertest.Sendmail817, func(_ gomilter.Modifier, body []byte) { got <- string(body) })
	m.Body([]byte("head "))
	m.Send('E', []byte("tail"))
	m.Answer()
	if body := <-got; body != "head " {
		t.Errorf("body %q", body)
	}
}

// bareCounted negotiates over a connection that counts the library's calls.
func bareCounted(t *testing.T) (*miltertest.MTA, *countingConn) {
	ours, theirs := socketPair()
	t.Cleanup(func() { ours.Close() })
	counted := &countingConn{Conn: theirs}
	srv := gomilter.NewServer(gomilter.WithActions(gomilter.OptAddHeader),
		gomilter.WithProtocols(gomilter.OptNoReplies), gomilter.WithMilter(func() gomilter.Milter {
			return &bareMilter{eom: func(m gomilter.Modifier, _ []byte) {
				for i := range 10 {
					m.AddHeader(fmt.Sprint("X-", i), "v")
				}
			}}
		}))
	go srv.Serve(&oneShot{conn: counted})
	m, err := miltertest.New(ours, miltertest.Sendmail817)
	if err != nil {
		t.Fatal(err)
	}
	return m, counted
}

func bareWrites(t *testing.T) {
	m, counted := bareCounted(t)
	before := counted.writes.Load()
	if _, err := m.EOM(); err != nil {
		t.Fatal(err)
	}
	if n := counted.writes.Load() - before; n < 20 {
		t.Errorf("%d writes for 10 changes and an answer", n)
	}
}

func bareReads(t *testing.T) {
	m, counted := bareCounted(t)
	before := counted.reads.Load()
	if err := sendBurst(m); err != nil {
		t.Fatal(err)
	}
	// The first read may have been under way before they were counted.
	if n := counted.reads.Load() - before; n < 2*burstFrames-1 {
		t.Errorf("%d reads for %d packets in one burst", n, burstFrames)
	}
}

// burstFrames is the number of frames of sendBurst.
const burstFrames = 26

// sendBurst sends 25 header fields and the end of the message in one write.
func sendBurst(m *miltertest.MTA) error {
	var burst []byte
	for range burstFrames - 1 {
		burst = append(burst, miltertest.Frame('L', []byte("Subject\x00 x\x00"))...)
	}
	if err := m.SendRaw(append(burst, miltertest.Frame('E', nil)...)); err != nil {
		return err
	}
	_, err := m.Answer()
	return err
}

func bareAccept(t *testing.T) {
	inner, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	ln := &failingListener{Listener: inner}
	ln.failures.Store(1)
	if err := bareServer(0).Serve(ln); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("serve: %v", err)
	}
}

func bareShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		srv := bareServer(0)
		go srv.Serve(&oneShot{conn: theirs})
		if _, err := miltertest.New(ours, miltertest.Sendmail817); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown with an idle connection: %v", err)
		}
	})
}

func bareCallbackError(t *testing.T) {
	m := bareMTA(t, miltertest.Version2, nil)
	if _, err := m.Helo("x"); err == nil {
		t.Error("the connection lives on")
	}
}

func bareHeaderOfThree(t *testing.T) {
	m := bareMTA(t, miltertest.Sendmail817, nil)
	m.Send('L', []byte("a\x00b\x00c\x00"))
	if _, _, err := m.Receive(); err == nil {
		t.Error("the connection lives on")
	}
}

func bareHiddenAddress(t *testing.T) {
	m := bareMTA(t, miltertest.Version2, nil)
	if _, err := m.Connect("unknown", '4', 0, "unknown"); err == nil {
		t.Error("the connection lives on")
	}
}

func bareMacroName(t *testing.T) {
	got := make(chan string, 1)
	m := bareMTA(t, miltertest.Sendmail817, func(m gomilter.Modifier, _ []byte) { got <- m.Get("i") })
	m.Macros('E', "{i}", "ID")
	m.EOM()
	if id := <-got; id != "" {
		t.Errorf("i is found as {i}: %q", id)
	}
}

func bareCarriageReturn(t *testing.T) {
	m := bareMTA(t, miltertest.Sendmail817, func(m gomilter.Modifier, _ []byte) { m.AddHeader("X-A", "a\rX-Injected: b") })
	a, err := m.EOM()
	mustAnswer(t, a, err, "addheader \"X-A\" \"a\\nX-Injected: b\"\naccept")
}

func bareAbortWipesMacros(t *testing.T) {
	got := make(chan string, 2)
	m := bareMTA(t, miltertest.Sendmail817, func(m gomilter.Modifier, _ []byte) { got <- m.Get("{cipher}") })
	m.Macros('H', "{cipher}", "X")
	for range 2 {
		if _, err := m.EOM(); err != nil {
			t.Fatal(err)
		}
		m.Abort()
	}
	if first, second := <-got, <-got; first != "X" || second != "" {
		t.Errorf("of two messages the first sees %q, the second %q", first, second)
	}
}
