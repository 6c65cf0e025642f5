package filter

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
)

// unscanned are the changes of a message of send that passes unscanned.
func unscanned(c Cause) []milter.Change {
	return []milter.Change{
		milter.DeleteHeader{Index: 1, Name: "X-Amavis-Milter-Unscanned"},
		milter.AddHeader{Name: "X-Amavis-Milter-Unscanned", Value: string(c)},
	}
}

func careOfServer(o *Options) { o.DeliveryCareOf = ampdp.CareOfServer }

const maybeDelivered = "amavisd may have delivered the message: tempfail, whatever --on-failure says"

func (b *bench) closeSpool() { b.spool.Close() }

// loseSpool puts a file in the place of the spool's directory.
func (b *bench) loseSpool() {
	dir := filepath.Join(b.work, "milter")
	if err := os.RemoveAll(dir); err != nil {
		b.t.Error(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		b.t.Error(err)
	}
}

// Each way in which a message cannot be scanned, by default and when everything is
// to pass.
func TestFailures(t *testing.T) {
	everything := OnFailure{}
	for _, c := range Causes() {
		everything[c] = ActionAccept
	}
	for _, c := range []struct {
		name    string
		handler ampdptest.Handler
		change  func(*Options)
		before  func(*bench)                     // the message begins
		during  func(*bench, milter.Transaction) // after the header, before the body
		atEnd   func(*bench)                     // after the body
		cause   Cause
		passes  bool
		level   string
		logged  string
		reply   string // of a message that does not pass; empty: the generic one
		what    string // logged of a message that does not pass; empty: the usual
	}{
		{
			name: "nobody listens", handler: ampdptest.Continue(), change: func(o *Options) { o.RetryTime = 0 },
			before: func(b *bench) { b.amavisd.Stop() }, cause: CauseUnavailable, passes: true, level: "WARN", logged: "amavisd.sock",
		},
		{
			name: "it hangs up again and again", handler: ampdptest.HangUp(), change: func(o *Options) { o.RetryTime = time.Second },
			cause: CauseUnavailable, passes: true, level: "WARN", logged: "gave up after 4 whole requests",
		},
		{
			name: "it hangs up, and would deliver", handler: ampdptest.HangUp(), change: careOfServer,
			cause: causeDelivered, level: "WARN", logged: "without a reply", what: maybeDelivered,
		},
		{
			name: "its reply breaks off, and it would deliver", handler: ampdptest.RawThenHangUp("log_id=1\r\n"), change: careOfServer,
			cause: causeDelivered, level: "WARN", logged: "breaks off", what: maybeDelivered,
		},
		{
			name: "it is too late, and would deliver", handler: ampdptest.Hang(),
			change: func(o *Options) { careOfServer(o); o.Scanners[0].Timeout = 50 * time.Millisecond },
			cause:  causeDelivered, level: "WARN", logged: "timeout", what: maybeDelivered,
		},
		{
			name: "the deadline comes, and it would deliver", handler: ampdptest.Hang(),
			change: func(o *Options) { careOfServer(o); o.Deadline = 50 * time.Millisecond },
			cause:  causeDelivered, level: "WARN", logged: "timeout", what: maybeDelivered,
		},
		{
			name: "nobody listens who would deliver", handler: ampdptest.Continue(),
			change: func(o *Options) { careOfServer(o); o.RetryTime = 0 },
			before: func(b *bench) { b.amavisd.Stop() }, cause: CauseUnavailable, passes: true, level: "WARN", logged: "amavisd.sock",
		},
		{
			name: "no reply within the timeout", handler: ampdptest.Hang(), change: func(o *Options) { o.Scanners[0].Timeout = 50 * time.Millisecond },
			cause: CauseTimeout, passes: true, level: "WARN", logged: "timeout",
		},
		{
			name: "no reply before the deadline", handler: ampdptest.Hang(), change: func(o *Options) { o.Deadline = 50 * time.Millisecond },
			cause: CauseTimeout, passes: true, level: "WARN", logged: "timeout",
		},
		{
			name: "the reply breaks off behind its edits", handler: ampdptest.RawThenHangUp("log_id=1\r\naddheader=X-A b\r\nreturn_value=continue\r\n"),
			cause: CauseMalformed, passes: true, level: "WARN", logged: "breaks off",
		},
		{
			name: "the reply is no reply", handler: ampdptest.Raw("HTTP/1.1 400 Bad Request\r\n\r\n"),
			cause: CauseMalformed, passes: true, level: "WARN", logged: "malformed",
		},
		{
			name: "no slot", handler: ampdptest.Continue(), change: func(o *Options) { o.MaxConns, o.MaxWait = 1, 0 },
			before: func(b *bench) { b.slots.acquire(b.t.Context(), 0) }, cause: CauseBusy, passes: true, level: "WARN", logged: "all 1 are in use",
		},
		{
			name: "no slot before the deadline", handler: ampdptest.Continue(), change: func(o *Options) { o.MaxConns, o.Deadline = 1, 50*time.Millisecond },
			before: func(b *bench) { b.slots.acquire(b.t.Context(), 0) }, cause: CauseBusy, passes: true, level: "WARN", logged: "all 1 are in use",
		},
		{
			name: "no spool directory", handler: ampdptest.Continue(), before: (*bench).loseSpool,
			cause: CauseSpool, passes: true, level: "ERROR", logged: "not a directory",
		},
		{
			name: "the spool fails in mid-message", handler: ampdptest.Continue(),
			during: func(b *bench, tx milter.Transaction) {
				b.loseSpool()
				tx.Body(make([]byte, 1<<20)) // more than is kept in memory
			},
			cause: CauseSpool, passes: true, level: "ERROR", logged: "email.txt",
		},
		{
			name: "the spool fails at the end", handler: ampdptest.Continue(), atEnd: (*bench).loseSpool,
			cause: CauseSpool, passes: true, level: "ERROR", logged: "email.txt",
		},
		{
			name: "the spool was closed before", handler: ampdptest.Continue(), before: (*bench).closeSpool,
			cause: causeShutdown, reply: shutdownReply, level: "WARN", logged: "the spool is closed",
		},
		{
			name: "the spool is closed in mid-message", handler: ampdptest.Continue(), during: func(b *bench, _ milter.Transaction) { b.closeSpool() },
			cause: causeShutdown, reply: shutdownReply, level: "WARN", logged: "removed",
		},
		{
			name: "the spool is closed at the end", handler: ampdptest.Continue(), atEnd: (*bench).closeSpool,
			cause: causeShutdown, reply: shutdownReply, level: "WARN", logged: "removed",
		},
		{
			name: "the spool is closed between two tries", handler: ampdptest.Hang(), before: func(b *bench) {
				b.scanners.list[0].doer = &fakeScanner{do: func(context.Context) error { b.closeSpool(); return hungUp }}
			},
			cause: causeShutdown, reply: shutdownReply, level: "WARN", logged: "removed",
		},
		{
			name: "the mail file is changed behind our back", handler: func(c *ampdptest.Conn) {
				if r, err := c.ReadRequest(); err == nil {
					os.Truncate(r.Get("mail_file"), 3)
				}
			},
			cause: CauseSpool, passes: true, level: "ERROR", logged: "changed by somebody else",
		},
		{
			name: "a header beyond the limit", handler: ampdptest.Continue(),
			during: func(_ *bench, tx milter.Transaction) { tx.Header("X-Big", strings.Repeat("x", MaxHeaderBytes)) },
			cause:  causeHeader, level: "WARN", logged: "more than 8388608 bytes", reply: headerReply,
		},
		{
			name: "a header beyond the limit, and no spool", handler: ampdptest.Continue(), before: func(b *bench) { b.spool.Close() },
			during: func(_ *bench, tx milter.Transaction) { tx.Header("X-Big", strings.Repeat("x", MaxHeaderBytes)) },
			cause:  causeHeader, level: "WARN", logged: "more than 8388608 bytes", reply: headerReply,
		},
		{
			name: "a request that cannot be made", handler: ampdptest.Continue(), change: func(o *Options) { o.DeliveryCareOf = "nobody" },
			cause: causeRequest, level: "ERROR", logged: "delivery_care_of",
		},
	} {
		for _, pass := range []bool{false, true} {
			name := c.name
			if pass {
				name += ", everything passes"
			}
			t.Run(name, func(t *testing.T) {
				b := newBench(t, c.handler, func(o *Options) {
					if pass {
						o.OnFailure = everything
					}
					if c.change != nil {
						c.change(o)
					}
				})
				if c.before != nil {
					c.before(b)
				}
				tx := b.Begin(testEnvelope())
				tx.Header("Subject", " hello")
				tx.Header("X-Amavis-Milter-Unscanned", " busy")
				if c.during != nil {
					c.during(b, tx)
				}
				tx.EndHeader()
				tx.Body([]byte("line\r\n"))
				if c.atEnd != nil {
					c.atEnd(b)
				}
				v := tx.Verdict(t.Context())
				b.checkEmpty("with the verdict")
				tx.End(milter.Outcome{Sent: v})

				what := cmp.Or(c.what, "not scanned")
				if pass && c.passes {
					what = "UNSCANNED"
					checkVerdict(t, v, milter.DispositionAccept, "", unscanned(c.cause)...)
					c.level = "WARN"
				} else {
					checkVerdict(t, v, milter.DispositionTempFail, cmp.Or(c.reply, genericReply))
				}
				if lines := b.logged.lines("level="+c.level, what, "queue_id=415G78Xq012345", " cause="+string(c.cause)+" ", c.logged); len(lines) != 1 {
					t.Errorf("log: %s", b.logged)
				}
				if got := b.summary(); !strings.HasPrefix(got, "level=INFO ") || !strings.Contains(got, " cause="+string(c.cause)+" ") {
					t.Errorf("log line %s", got)
				}
			})
		}
	}
}

// Nothing is stored of a message that will not be scanned.
func TestNothingIsStoredBeyondTheHeaderLimit(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	tx := b.Begin(testEnvelope())
	tx.Header("X-Big", strings.Repeat("x", MaxHeaderBytes))
	for range 4 {
		tx.Body(bytes.Repeat([]byte("x"), 1<<20))
	}
	var size int64
	for _, name := range b.files() {
		if st, err := os.Stat(b.work + name); err == nil && st.Mode().IsRegular() {
			size += st.Size()
		}
	}
	if size > 1000 {
		t.Errorf("%d bytes are stored", size)
	}
	tx.End(milter.Outcome{Err: milter.ErrAborted})
	b.checkEmpty("after the end")
}

// A full disk is told as such, and to the log with its path.
func TestDiskFull(t *testing.T) {
	work := workDir(t)
	mountTmpfs(t, work, "size=64k")
	b := newBenchIn(t, work, ampdptest.Continue(), func(o *Options) { o.OnFailure = PassOnFailure() })
	tx := b.Begin(testEnvelope())
	tx.Header("Subject", " x")
	for range 10 {
		tx.Body(bytes.Repeat([]byte("x"), 60_000))
	}
	b.checkEmpty("after the failure, to give the space back,")
	v := tx.Verdict(t.Context())
	tx.End(milter.Outcome{Sent: v})
	checkVerdict(t, v, milter.DispositionTempFail, "452 4.3.1 Insufficient system storage, try again later")
	if lines := b.logged.lines("level=ERROR", "cause=spool", "email.txt", "no space left"); len(lines) != 1 {
		t.Errorf("log: %s", b.logged)
	}
	if v := b.message(t.Context(), testEnvelope()); v.Disposition() != milter.DispositionAccept {
		t.Errorf("the next message: %v %v", v.Disposition(), v.Reply())
	}
}

// A directory that cannot be removed is told with its path, tried again at the
// end, and changes nothing about the verdict.
func TestRemovalFails(t *testing.T) {
	needMount(t)
	var busy string
	b := newBench(t, func(c *ampdptest.Conn) {
		r, err := c.ReadRequest()
		if err != nil {
			return
		}
		busy = filepath.Join(r.Get("tempdir"), "parts")
		os.Mkdir(busy, 0o700)
		if err := syscall.Mount("none", busy, "tmpfs", 0, "size=64k"); err != nil {
			t.Error(err)
		}
		c.Send(ampdptest.Lines("return_value=continue"))
	}, nil)
	tx := b.Begin(testEnvelope())
	send(tx)
	v := tx.Verdict(t.Context())
	if v.Disposition() != milter.DispositionAccept {
		t.Errorf("verdict %v", v.Disposition())
	}
	if lines := b.logged.lines("level=ERROR", "queue_id=415G78Xq012345", "could not be removed", filepath.Dir(busy)); len(lines) != 1 {
		t.Errorf("log: %s", b.logged)
	}
	if err := syscall.Unmount(busy, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	tx.End(milter.Outcome{Sent: v})
	b.checkEmpty("after the end")
}

func needMount(t *testing.T) {
	t.Helper()
	mountTmpfs(t, t.TempDir(), "size=4k")
}

func mountTmpfs(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("none", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("needs the right to mount a tmpfs (root with CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// After a panic the session answers; we leave nothing behind and say so.
func TestPanic(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), func(o *Options) { o.MaxConns = 1 })
	b.scanners.list[0].doer = nil
	tx := b.Begin(testEnvelope())
	send(tx)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		tx.Verdict(t.Context())
	}()
	b.checkEmpty("after a panic")
	tx.End(milter.Outcome{Sent: milter.TempFail(replyUnavailable)})
	if got := b.summary(); !strings.Contains(got, " verdict=tempfail ") || !strings.Contains(got, " cause=panic ") {
		t.Error(got)
	}
	if b.slots.inUse != 0 {
		t.Error("the slot is lost")
	}
}
