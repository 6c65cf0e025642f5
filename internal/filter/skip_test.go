package filter

import (
	"bytes"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
)

// skipBench is a filter with these rules and an amavisd that lets all mail pass.
func skipBench(t *testing.T, rules ...Match) *bench {
	return newBench(t, ampdptest.Reply("return_value=continue"), func(o *Options) { o.Skips = rules })
}

// skipped are the changes to a message of [send] that was skipped.
var skipped = []milter.Change{
	milter.DeleteHeader{Index: 1, Name: "X-Amavis-Milter-Unscanned"},
	milter.AddHeader{Name: "X-Amavis-Milter-Unscanned", Value: "skipped"},
}

// A message that is skipped for its envelope never touches the disk, asks nobody,
// loses its forged marks, and makes one line, which is no warning.
func TestSkipByEnvelope(t *testing.T) {
	b := skipBench(t, matchTLS, network("192.0.2.0/24"), daemon("MSA"))
	tx := b.Begin(testEnvelope())
	b.checkEmpty("after Begin")
	send(tx)
	b.checkEmpty("after the body")
	v := tx.Verdict(t.Context())
	b.checkEmpty("with the verdict")
	checkVerdict(t, v, milter.DispositionAccept, "", skipped...)
	tx.End(milter.Outcome{Sent: v})
	if n := len(b.amavisd.Requests()); n != 0 {
		t.Errorf("amavisd was asked %d times", n)
	}
	want := `level=INFO msg="" queue_id=415G78Xq012345 verdict=accept from=<ann@example.org> nrcpt=2 size=67 cause=skipped rule=192.0.2.0/24 wait=N scan=N client=192.0.2.1`
	if got := b.summary(); got != want {
		t.Errorf("summary\n     %s\nwant %s", got, want)
	}
	if lines := b.logged.lines("level=WARN"); len(lines) > 0 {
		t.Errorf("warnings: %q", lines)
	}
}

// A skip needs neither a slot nor a scanner nor the disk.
func TestSkipNeedsNothing(t *testing.T) {
	b := newBench(t, ampdptest.Hang(), func(o *Options) {
		o.Skips, o.MaxConns, o.MaxWait = []Match{matchAuth}, 1, 0
		o.XHeader = HeaderField{Name: "X-Checked", Value: "yes"}
	})
	if err := b.slots.acquire(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	defer b.slots.release()
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
	env := testEnvelope()
	env.Auth.Authen = "ann"
	tx := b.Begin(env)
	tx.Header("x-CHECKED", " forged")
	tx.Header("X-Virus-Scanned", " forged")
	tx.EndHeader()
	checkVerdict(t, tx.Verdict(t.Context()), milter.DispositionAccept, "",
		milter.DeleteHeader{Index: 1, Name: "X-Virus-Scanned"},
		milter.DeleteHeader{Index: 1, Name: "x-CHECKED"},
		milter.AddHeader{Name: "X-Amavis-Milter-Unscanned", Value: "skipped"})
	tx.End(milter.Outcome{})
}

// The messages of one connection are judged one by one.
func TestSkipIsOfOneMessage(t *testing.T) {
	b := skipBench(t, matchAuth)
	env := testEnvelope()
	env.Auth = milter.Auth{Type: "PLAIN", Authen: "ann"}
	checkVerdict(t, b.message(t.Context(), env), milter.DispositionAccept, "", skipped...)
	if n := len(b.amavisd.Requests()); n != 0 {
		t.Fatalf("amavisd was asked %d times about the first message", n)
	}
	b.message(t.Context(), testEnvelope())
	if n := len(b.amavisd.Requests()); n != 1 {
		t.Errorf("amavisd was asked %d times about the second message", n)
	}
}

// The size is that of the bytes which the MTA sends, 67 here: a message that is as
// large as the rule says is scanned.
func TestSkipBySize(t *testing.T) {
	for limit, scanned := range map[int64]bool{66: false, 67: true, 68: true} {
		b := skipBench(t, sizeOver(limit))
		v := b.message(t.Context(), testEnvelope())
		if n := len(b.amavisd.Requests()); (n == 1) != scanned {
			t.Errorf("limit %d: amavisd was asked %d times", limit, n)
		}
		if !scanned {
			checkVerdict(t, v, milter.DispositionAccept, "", skipped...)
			if !strings.Contains(b.summary(), ` cause=skipped rule=size>66 `) {
				t.Errorf("summary %s", b.summary())
			}
		}
	}
}

// What is stored of a message goes the moment it is too large, in each part of it,
// and nothing more of it is stored.
func TestSkipBySizeFreesTheDisk(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 100)
	for name, part := range map[string]func(milter.Transaction){
		"header":        func(tx milter.Transaction) { tx.Header("X", string(large)) },
		"end of header": func(tx milter.Transaction) { tx.EndHeader() },
		"body":          func(tx milter.Transaction) { tx.EndHeader(); tx.Body(large) },
	} {
		t.Run(name, func(t *testing.T) {
			limit := int64(10)
			if name == "end of header" {
				limit = 1
			}
			b := skipBench(t, sizeOver(limit))
			tx := b.Begin(testEnvelope())
			if len(b.files()) == 0 {
				t.Fatal("nothing is stored of a small message")
			}
			part(tx)
			b.checkEmpty("with too large a message")
			tx.Body(large)
			b.checkEmpty("after more of it")
			v := tx.Verdict(t.Context())
			tx.End(milter.Outcome{Sent: v})
			if v.Disposition() != milter.DispositionAccept || len(b.amavisd.Requests()) > 0 {
				t.Errorf("%v after %d requests", v, len(b.amavisd.Requests()))
			}
			if lines := b.logged.lines("level=ERROR"); len(lines) > 0 {
				t.Errorf("errors: %q", lines)
			}
		})
	}
}

// A spool that failed matters only to those who need it.
func TestSkipBySizeOutweighsTheSpool(t *testing.T) {
	b := skipBench(t, sizeOver(66))
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
	checkVerdict(t, b.message(t.Context(), testEnvelope()), milter.DispositionAccept, "", skipped...)
	b = skipBench(t, sizeOver(67))
	if err := b.spool.Close(); err != nil {
		t.Fatal(err)
	}
	checkVerdict(t, b.message(t.Context(), testEnvelope()), milter.DispositionTempFail, replyShutdown.String())
}

// A header beyond our limits is never passed: its marks could not all be deleted.
func TestSkipNotBeyondTheHeaderLimit(t *testing.T) {
	for name, rule := range map[string]Match{"envelope": network("192.0.2.0/24"), "size": sizeOver(10)} {
		for _, n := range []int{MaxHeaderFields - 1, MaxHeaderFields, MaxHeaderFields + 1} {
			b := skipBench(t, rule)
			tx := b.Begin(testEnvelope())
			for range n - 1 {
				tx.Header("A", " b")
			}
			tx.Header(UnscannedHeader, " forged")
			tx.EndHeader()
			v := tx.Verdict(t.Context())
			b.checkEmpty("with the verdict")
			tx.End(milter.Outcome{Sent: v})
			if n <= MaxHeaderFields {
				checkVerdict(t, v, milter.DispositionAccept, "", skipped...)
				continue
			}
			checkVerdict(t, v, milter.DispositionTempFail, headerReply)
			if s := b.summary(); !strings.Contains(s, " cause=header ") || strings.Contains(s, "rule=") {
				t.Errorf("%s, %d fields: %s", name, n, s)
			}
		}
	}
}

// An aborted message tells of no rule.
func TestSkippedMessageAborted(t *testing.T) {
	b := skipBench(t, matchLocal)
	env := testEnvelope()
	env.Client = milter.Client{Helo: "localhost", Name: "localhost"}
	tx := b.Begin(env)
	send(tx)
	tx.End(milter.Outcome{Err: milter.ErrAborted})
	if s := b.summary(); !strings.Contains(s, "level=DEBUG") || strings.Contains(s, "rule=") {
		t.Error(s)
	}
}
