package filter

import (
	"bytes"
	"errors"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// hugeReply is a reply of edits that an MTA takes, of some n bytes.
func hugeReply(n int) []byte {
	const field = 59_000
	lines := []string{"log_id=01234-01", "return_value=continue"}
	for size := 100; size+field+100 < n; size += field + len("addheader=X-Long \r\n") {
		lines = append(lines, "addheader=X-Long "+strings.Repeat("x", field))
	}
	return []byte(ampdptest.Lines(lines...))
}

// rawBytes is ampdptest.Raw without a copy of the reply for each connection.
func rawBytes(reply []byte) ampdptest.Handler {
	return func(c *ampdptest.Conn) {
		if _, err := c.ReadRequest(); err == nil {
			c.Write(reply)
			c.WaitClosed()
		}
	}
}

// serveMilter serves a filter and returns where.
func (b *bench) serveMilter() (address string) {
	b.t.Helper()
	ln, err := net.Listen("unix", filepath.Join(workDir(b.t), "milter"))
	if err != nil {
		b.t.Fatal(err)
	}
	srv := milter.NewServer(b.Filter, b.opt.Log, milter.DefaultTimes())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	b.t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return ln.Addr().String()
}

// live returns the bytes that are in use in the heap.
func live() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Twenty replies just below MaxReplyBytes at once, for MTAs that do not read what came
// of them: all together take no more than twice what is counted, for what is read is
// copied once, and what is copied is forgotten; and as much again that is garbage of
// those that were refused while it was measured. Most messages are put off, and none is
// half edited.
func TestLyingReplies(t *testing.T) {
	const (
		messages = 20
		most     = 4 * (maxReplies + messages*ownReply)
	)
	reply := hugeReply(ampdp.MaxReplyBytes)
	fields := bytes.Count(reply, []byte("addheader"))
	b := newBench(t, rawBytes(reply), func(o *Options) { o.XHeader = HeaderField{} })
	address := b.serveMilter()
	before := live()
	var mtas []*miltertest.MTA
	for range messages {
		conn, err := net.Dial("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		m, err := miltertest.New(conn, miltertest.Postfix37)
		if err != nil {
			t.Fatal(err)
		}
		m.Timeout = time.Minute
		if err := m.SendUpTo(miltertest.Message{Sender: "<a@example.net>", Recipients: []string{"<b@example.org>"}}, "eom"); err != nil {
			t.Fatal(err)
		}
		mtas = append(mtas, m)
	}
	for _, m := range mtas {
		if err := m.Send('E', nil); err != nil {
			t.Fatal(err)
		}
	}
	peak := 0
	for end := time.Now().Add(time.Minute); b.amavisd.Accepted() < messages || b.amavisd.Open() > 0; peak = max(peak, live()-before) {
		if time.Now().After(end) {
			t.Fatalf("only %d messages were asked about", b.amavisd.Accepted())
		}
	}
	peak = max(peak, live()-before)
	t.Logf("%d messages took %d KiB at most, of %d KiB", messages, peak>>10, most>>10)
	if peak > most {
		t.Errorf("%d messages took %d bytes, want %d at most", messages, peak, most)
	}
	passed := 0
	for _, m := range mtas {
		a, err := m.Answer()
		switch {
		case err != nil:
			t.Fatal(err)
		case a.Code == 'a' && len(a.Changes) == fields:
			passed++
		case a.String() != "reply "+genericReply:
			t.Errorf("answered %d changes and %c %q", len(a.Changes), a.Code, a.Reply)
		}
	}
	b.awaitRoom()
	if lines := b.logged.lines("level=WARN"); len(lines) > 1 {
		t.Errorf("%d of %d passed, logged: %q", passed, messages, lines)
	}
}

// awaitRoom waits until no reply holds anything.
func (b *bench) awaitRoom() {
	b.t.Helper()
	for end := time.Now().Add(10 * time.Second); b.replies.Held() > 0; runtime.Gosched() {
		if time.Now().After(end) {
			b.t.Fatalf("%d bytes of replies are still held", b.replies.Held())
		}
	}
}

// The room is what the constants say, to the byte: a reply that does not fit is put off
// whatever --on-failure says, and small ones do not notice.
func TestRepliesInAll(t *testing.T) {
	everything := OnFailure{}
	for _, c := range Causes() {
		everything[c] = ActionAccept
	}
	const begin, end = "log_id=", "\r\nreturn_value=continue\r\n\r\n"
	// Beyond one line's limit: what is unknown counts as well.
	reply := func(n int) []byte {
		var r []byte
		for _, size := range []int{n / 2, n - n/2} {
			r = append(r, "exit_code="+strings.Repeat("x", size-len("exit_code=\r\n"))+"\r\n"...)
		}
		return append(r[:len(r)-len(begin)-len(end)-len("\r\n")], "\r\n"+begin+end...)
	}
	for _, left := range []int{1 << 20, 0} {
		for _, extra := range []int{-1, 0, 1} {
			n := ownReply + left + extra
			b := newBench(t, rawBytes(reply(n)), func(o *Options) { o.OnFailure = everything })
			held := hold(t, b, maxReplies-left)
			tx := b.Begin(testEnvelope())
			send(tx)
			v := tx.Verdict(t.Context())
			want := int64(held + max(left+extra, 0))
			if extra > 0 {
				checkVerdict(t, v, milter.DispositionTempFail, genericReply)
				want = int64(held)
			} else if v.Disposition() != milter.DispositionAccept {
				t.Errorf("%d bytes beside %d: %v", n, held, v.Reply())
			}
			if got := b.replies.Held(); got != want {
				t.Errorf("%d bytes beside %d: %d are held, want %d", n, held, got, want)
			}
			tx.End(milter.Outcome{Sent: v})
			if got := b.replies.Held(); got != int64(held) {
				t.Errorf("%d bytes beside %d: %d are held in the end", n, held, got)
			}
			b.amavisd.Handle(ampdptest.Continue())
			if v := b.message(t.Context(), testEnvelope()); v.Disposition() != milter.DispositionAccept {
				t.Errorf("ordinary mail: %v", v.Reply())
			}
		}
	}
}

// hold has n bytes of the room taken by replies to others, and returns how many.
func hold(t *testing.T, b *bench, n int) int {
	t.Helper()
	for left := n; left > 0; {
		size := min(left+ownReply, 4<<20)
		line := "log_id="
		rest := "\r\nreturn_value=continue\r\n\r\n"
		b2 := ampdptest.NewServer(t, ampdptest.Raw(line+strings.Repeat("x", size-len(line)-len(rest))+rest))
		reply, err := withRoom(b2.Client(), b.replies).Do(t.Context(), b.request(testEnvelope(), "/d", "/d/f"))
		if err != nil {
			t.Fatal(err)
		}
		left -= size - ownReply
		t.Cleanup(reply.Release)
	}
	return n
}

// However a message ends, what its reply took is given back.
func TestRepliesAreGivenBack(t *testing.T) {
	for name, way := range map[string]func(b *bench, tx milter.Transaction){
		"sent": func(b *bench, tx milter.Transaction) { tx.End(milter.Outcome{Sent: tx.Verdict(b.t.Context())}) },
		"not sent": func(b *bench, tx milter.Transaction) {
			tx.Verdict(b.t.Context())
			tx.End(milter.Outcome{Err: milter.ErrPeerGone})
		},
		"peer gone": func(b *bench, tx milter.Transaction) {
			tx.Verdict(canceled(milter.ErrPeerGone))
			tx.End(milter.Outcome{Err: milter.ErrPeerGone})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, rawBytes(hugeReply(1<<20)), nil)
			tx := b.Begin(testEnvelope())
			send(tx)
			way(b, tx)
			if n := b.replies.Held(); n != 0 {
				t.Errorf("%d bytes are held in the end", n)
			}
		})
	}
}

// That there is no room is no fault of the scanner, and no other one is asked.
func TestNoRoomIsNoScannersFault(t *testing.T) {
	noRoom := &ampdp.Error{Cause: ampdp.CauseNoRoom, RequestSent: true, Err: ampdp.ErrNoRoom}
	for n := 1; n <= 3; n++ {
		synctest.Test(t, func(t *testing.T) {
			var fakes []*fakeScanner
			for range n {
				fakes = append(fakes, &fakeScanner{do: always(noRoom)})
			}
			r := newRig(retryTime, maxWait, fakes...)
			defer r.close()
			for range 3 * maxFailures {
				if cause, took, err := r.ask(t.Context()); cause != causeRoom || took != 0 || !errors.Is(err, ampdp.ErrNoRoom) {
					t.Errorf("%q (%v) after %v", cause, err, took)
				}
			}
			for i, sc := range r.list {
				if sc.standing() != inRotation || sc.failures != 0 || time.Until(sc.restUntil) > 0 {
					t.Errorf("scanner %d: standing %d, %d failures", i, sc.standing(), sc.failures)
				}
			}
			if r.logged.String() != "" {
				t.Errorf("the log blames somebody: %s", r.logged)
			}
			r.careOf = ampdp.CareOfServer
			if cause, _, _ := r.ask(t.Context()); cause != causeDelivered {
				t.Errorf("with its own delivery: %q", cause)
			}
		})
	}
}
