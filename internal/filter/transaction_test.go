package filter

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
)

// bench is a filter with a real spool and a scripted amavisd.
type bench struct {
	*Filter
	t       testing.TB
	work    string
	spool   *spool.Spool
	amavisd *ampdptest.Server
	logged  *logBuffer
}

// newBench returns a filter whose waits are short; change overrides its options.
func newBench(t testing.TB, h ampdptest.Handler, change func(*Options)) *bench {
	t.Helper()
	return newBenchIn(t, workDir(t), h, change)
}

// workDir makes a work directory whose path has only bytes that amavisd takes: not
// those of the test's name.
func workDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "filter-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func newBenchIn(t testing.TB, work string, h ampdptest.Handler, change func(*Options)) *bench {
	t.Helper()
	if err := os.Chmod(work, 0o750); err != nil {
		t.Fatal(err)
	}
	sp, err := spool.Open(work, spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sp.Close(); err != nil {
			t.Error(err)
		}
	})
	log, logged := newLog(slog.LevelDebug)
	b := &bench{t: t, work: work, spool: sp, amavisd: ampdptest.NewServer(t, h), logged: logged}
	opt := Options{
		Spool: sp, Scanners: []*ampdp.Client{b.amavisd.Client()}, XHeader: DefaultXHeader,
		MaxWait: time.Minute, RetryTime: time.Minute, Hostname: "milter.example.net", Log: log,
	}
	if change != nil {
		change(&opt)
	}
	b.Filter = New(opt)
	t.Cleanup(b.Close)
	return b
}

func testEnvelope() *milter.Envelope {
	return &milter.Envelope{
		Client:   milter.Client{Helo: "pc.example.org", Name: "pc.example.org", Address: "192.0.2.1", Port: 40000},
		Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "415G78Xq012345",
		Sender: milter.NewPath("<ann@example.org>"), Recipients: []milter.Path{milter.NewPath("<bob@example.net>"), milter.NewPath("carl@example.net")},
	}
}

// send gives a whole small message of 67 bytes to a transaction.
func send(tx milter.Transaction) {
	tx.Header("Subject", " hello")
	tx.Header("X-Amavis-Milter-Unscanned", " busy")
	tx.EndHeader()
	tx.Body([]byte("line 1\r"))
	tx.Body([]byte("\nline 2\r\n"))
}

// files returns the files and directories in the spool.
func (b *bench) files() []string {
	b.t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(b.work, "milter"), func(path string, _ fs.DirEntry, err error) error {
		if name := filepath.Base(path); err == nil && name != "milter" && name != ".lock" {
			found = append(found, strings.TrimPrefix(path, b.work))
		}
		return err
	})
	if err != nil {
		b.t.Error(err)
	}
	return found
}

func (b *bench) checkEmpty(when string) {
	b.t.Helper()
	if files := b.files(); len(files) > 0 {
		b.t.Errorf("%s the spool holds %q", when, files)
	}
}

// message sends one message through and returns its verdict.
func (b *bench) message(ctx context.Context, env *milter.Envelope) milter.Verdict {
	b.t.Helper()
	tx := b.Begin(env)
	send(tx)
	v := tx.Verdict(ctx)
	b.checkEmpty("with the verdict")
	tx.End(milter.Outcome{Sent: v})
	return v
}

// summary returns the one line of a message, its times replaced.
func (b *bench) summary() string {
	b.t.Helper()
	lines := b.logged.lines(` verdict=`)
	if len(lines) != 1 {
		b.t.Fatalf("%d lines tell the verdict: %s", len(lines), b.logged)
	}
	return regexp.MustCompile(`(wait|scan)=\d+\.\d{3} `).ReplaceAllString(lines[0], "$1=N ")
}

func TestMessage(t *testing.T) {
	var file []byte
	b := newBench(t, func(c *ampdptest.Conn) {
		r, err := c.ReadRequest()
		if err != nil {
			return
		}
		file, _ = os.ReadFile(r.Get("mail_file"))
		c.Send(ampdptest.Lines("version_server=2", "log_id=415G78Xq012345-01", "setreply=250 2.6.0 Ok", "return_value=continue"))
	}, nil)
	env := testEnvelope()
	tx := b.Begin(env)
	if files := b.files(); len(files) == 0 || files[0] != "/milter/amavis-milter-415G78Xq012345" {
		t.Errorf("after Begin the spool holds %q", files)
	}
	send(tx)
	v := tx.Verdict(t.Context())
	b.checkEmpty("with the verdict")
	checkVerdict(t, v, milter.DispositionAccept, "",
		milter.DeleteHeader{Index: 1, Name: "X-Amavis-Milter-Unscanned"},
		milter.AddHeader{Name: "X-Virus-Scanned", Value: "by amavis-milter"})
	tx.End(milter.Outcome{Sent: v})

	date := regexp.MustCompile(`\t\w{3}, \d\d \w{3} \d{4} [\d:]{8} [+-]\d{4}\n`)
	want := "Received: from pc.example.org (pc.example.org [192.0.2.1])\n\tby mx.example.net (amavis-milter) with ESMTP id 415G78Xq012345;\n\tDATE\n" +
		"Subject: hello\nX-Amavis-Milter-Unscanned: busy\n\nline 1\nline 2\n"
	if got := date.ReplaceAllString(string(file), "\tDATE\n"); got != want {
		t.Errorf("mail file\n     %q\nwant %q", got, want)
	}
	requests := b.amavisd.Requests()
	if len(requests) != 1 || len(requests[0].Complaints)+len(requests[0].Invalid) > 0 {
		t.Fatalf("requests: %+v", requests)
	}
	if got := requests[0].Values("recipient"); !reflect.DeepEqual(got, []string{"<bob@example.net>", "<carl@example.net>"}) {
		t.Errorf("recipients %q", got)
	}
	wantLine := `level=INFO msg="" queue_id=415G78Xq012345 verdict=accept log_id=415G78Xq012345-01 from=<ann@example.org> nrcpt=2 size=67 wait=N scan=N client=192.0.2.1`
	if got := b.summary(); got != wantLine {
		t.Errorf("log line\n     %s\nwant %s", got, wantLine)
	}
	if n := len(b.logged.lines("level=WARN")) + len(b.logged.lines("level=ERROR")); n > 0 {
		t.Errorf("a good message warns: %s", b.logged)
	}
}

func TestRejectedMessageInTheLog(t *testing.T) {
	b := newBench(t, ampdptest.Verdict("reject", "554", "5.7.0", "INFECTED: 100% Eicar"), nil)
	checkVerdict(t, b.message(t.Context(), testEnvelope()), milter.DispositionReject, "554 5.7.0 INFECTED: 100% Eicar")
	if got := b.summary(); !strings.Contains(got, ` verdict=reject log_id=01234-01 from=<ann@example.org> nrcpt=2 size=67 reply="554 5.7.0 INFECTED: 100% Eicar" wait=`) {
		t.Error(got)
	}
}

// A client whose address a proxy hides is not logged as this host.
func TestHiddenClientInTheLog(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	env := testEnvelope()
	env.Client = milter.Client{Name: "evil.example"}
	b.message(t.Context(), env)
	if got := b.summary(); !strings.HasSuffix(got, " client=unknown") {
		t.Error(got)
	}
}

// Postfix tells the queue id after Begin; a local client has no address.
func TestLateQueueID(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	env := testEnvelope()
	env.QueueID, env.Client = "", milter.Client{Name: "localhost"}
	tx := b.Begin(env)
	send(tx)
	env.QueueID = "4TT8zL1Xq3z1"
	v := tx.Verdict(t.Context())
	tx.End(milter.Outcome{Sent: v})
	if id := b.amavisd.Requests()[0].Get("queue_id"); id != "4TT8zL1Xq3z1" {
		t.Errorf("amavisd was told the queue id %q", id)
	}
	if got := b.summary(); !strings.Contains(got, "queue_id=4TT8zL1Xq3z1 ") || !strings.HasSuffix(got, " client=local") {
		t.Error(got)
	}
}

func TestNoQueueID(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	env := testEnvelope()
	env.QueueID = ""
	b.message(t.Context(), env)
	if r := b.amavisd.Requests()[0]; len(r.Values("queue_id")) != 0 || !regexp.MustCompile(`/milter/amavis-milter-[A-Z2-7]+/email\.txt$`).MatchString(r.Get("mail_file")) {
		t.Errorf("request %q", r.Raw)
	}
	if got := b.summary(); !strings.Contains(got, "queue_id=NOQUEUE ") {
		t.Error(got)
	}
}

// A message that was aborted leaves nothing, and a line for debugging only.
func TestAbort(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	for _, part := range []func(milter.Transaction){
		func(milter.Transaction) {},
		func(tx milter.Transaction) { tx.Header("Subject", " x") },
		send,
	} {
		tx := b.Begin(testEnvelope())
		part(tx)
		tx.End(milter.Outcome{Err: milter.ErrAborted})
		b.checkEmpty("after an abort")
	}
	if lines := b.logged.lines("verdict=aborted"); len(lines) != 3 || len(b.logged.lines("level=DEBUG", "verdict=aborted", `error="the MTA aborted the message"`)) != 3 {
		t.Errorf("log: %s", b.logged)
	}
	if n := b.amavisd.Accepted(); n != 0 {
		t.Errorf("amavisd was asked %d times", n)
	}
}

// The longest wait is one for both, the slot and a scanner that is busy.
func TestMaxWaitIsForSlotAndScanner(t *testing.T) {
	b := newBench(t, ampdptest.Hang(), func(o *Options) { o.MaxConns, o.MaxWait = 1, 300*time.Second })
	synctest.Test(t, func(t *testing.T) {
		b.scanners.list[0].doer = &fakeScanner{start: time.Now(), do: always(busy)}
		if err := b.slots.acquire(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Second, b.slots.release)
		start := time.Now()
		checkVerdict(t, b.message(t.Context(), testEnvelope()), milter.DispositionTempFail, genericReply)
		if took := time.Since(start); took != 300*time.Second {
			t.Errorf("it took %v", took)
		}
	})
	if lines := b.logged.lines("cause=busy", "wait=300.000"); len(lines) != 1 {
		t.Errorf("log: %s", b.logged)
	}
}

// A panic in Begin leaves nothing behind, and reaches the session, which then has
// no transaction to end.
func TestPanicInBegin(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	tx := &transaction{filter: b.Filter, env: testEnvelope()}
	func() {
		defer func() {
			if p := recover(); p != "made by the test" {
				t.Errorf("panic %v", p)
			}
		}()
		tx.open(func() string {
			if len(b.files()) == 0 {
				t.Error("there is no directory yet")
			}
			panic("made by the test")
		})
	}()
	b.checkEmpty("after a panic")
}

// Neither body nor end of header are needed.
func TestEmptyMessage(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	tx := b.Begin(testEnvelope())
	v := tx.Verdict(t.Context())
	tx.End(milter.Outcome{Sent: v})
	checkVerdict(t, v, milter.DispositionAccept, "", milter.AddHeader{Name: "X-Virus-Scanned", Value: "by amavis-milter"})
}

// What was sent counts, not what we wanted to send.
func TestOutcomeInTheLog(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	tx := b.Begin(testEnvelope())
	send(tx)
	tx.Verdict(t.Context())
	tx.End(milter.Outcome{Sent: milter.TempFail(replyUnavailable), Err: errors.New("change 1 of 2")})
	if got := b.summary(); !strings.HasPrefix(got, "level=WARN ") || !strings.Contains(got, " verdict=tempfail ") ||
		!strings.Contains(got, `reply="`+genericReply+`"`) || !strings.HasSuffix(got, ` error="change 1 of 2"`) {
		t.Error(got)
	}
}

// An attribute that is not known is told once, not with every message.
func TestUnknownAttributes(t *testing.T) {
	b := newBench(t, ampdptest.Continue("replacebody=x", "x-new=1", "x-new=2"), nil)
	for range 3 {
		checkVerdict(t, b.message(t.Context(), testEnvelope()), milter.DispositionAccept, "",
			milter.DeleteHeader{Index: 1, Name: "X-Amavis-Milter-Unscanned"},
			milter.AddHeader{Name: "X-Virus-Scanned", Value: "by amavis-milter"})
	}
	if lines := b.logged.lines("not known here"); len(lines) != 2 {
		t.Errorf("log: %q", lines)
	}
	var u unknownNames
	log, logged := newLog(slog.LevelDebug)
	for i := range maxUnknownNames + 1 {
		u.report(log, []ampdp.Attribute{{Name: strings.Repeat("n", i+1)}})
	}
	if lines := logged.lines("not known here"); len(lines) != maxUnknownNames {
		t.Errorf("%d names were told", len(lines))
	}
}

// A child of amavisd that dies leaves parts behind: they are gone before the
// message is sent again.
func TestRetryFindsACleanDirectory(t *testing.T) {
	var left []string
	look := func(c *ampdptest.Conn) {
		r, err := c.ReadRequest()
		if err != nil {
			return
		}
		entries, _ := os.ReadDir(r.Get("tempdir"))
		for _, e := range entries {
			left = append(left, e.Name())
		}
		os.MkdirAll(filepath.Join(r.Get("tempdir"), "parts", "p001"), 0o700)
		if len(left) > 1 {
			c.Send(ampdptest.Lines("return_value=continue"))
		}
	}
	b := newBench(t, look, nil)
	if v := b.message(t.Context(), testEnvelope()); v.Disposition() != milter.DispositionAccept {
		t.Errorf("verdict %v", v)
	}
	if !reflect.DeepEqual(left, []string{"email.txt", "email.txt"}) {
		t.Errorf("found %q", left)
	}
}
