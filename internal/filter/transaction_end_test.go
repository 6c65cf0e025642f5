package filter

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
)

const shutdownReply = "451 4.3.2 Service is shutting down, try again later"

// When the MTA hangs up or the server ends, the wait ends, wherever it is. What the
// server answers then is read by the MTA; after a hang-up nothing is.
func TestVerdictEndsWithItsContext(t *testing.T) {
	for _, end := range []struct {
		cause   error
		reply   string
		outcome func(milter.Verdict) milter.Outcome
		level   string
		words   []string // of the one line
	}{
		{
			milter.ErrPeerGone, genericReply, func(milter.Verdict) milter.Outcome { return milter.Outcome{Err: milter.ErrPeerGone} },
			"WARN", []string{" verdict=aborted ", ` error="the MTA hung up before it had the verdict"`},
		},
		{
			milter.ErrServerClosed, shutdownReply, func(v milter.Verdict) milter.Outcome { return milter.Outcome{Sent: v} },
			"INFO", []string{" verdict=tempfail ", ` reply="` + shutdownReply + `" cause=shutdown `},
		},
		{ // the answer did not get through
			milter.ErrServerClosed, shutdownReply, func(milter.Verdict) milter.Outcome { return milter.Outcome{Err: milter.ErrServerClosed} },
			"WARN", []string{" verdict=aborted ", " cause=shutdown ", ` error="amavis-milter is shutting down"`},
		},
	} {
		for name, set := range map[string]func(*bench){
			"in the scan":       func(*bench) {},
			"waiting to retry":  func(b *bench) { b.amavisd.Stop() },
			"waiting for slots": func(b *bench) { b.slots.limit, b.slots.inUse = 1, 1 },
		} {
			t.Run(name+"/"+end.cause.Error(), func(t *testing.T) {
				// An answer that lets all pass must not be given when nobody knows.
				b := newBench(t, ampdptest.Hang(), func(o *Options) { o.OnFailure = PassOnFailure() })
				set(b)
				tx := b.Begin(testEnvelope())
				send(tx)
				ctx, cancel := context.WithCancelCause(t.Context())
				timer := time.AfterFunc(50*time.Millisecond, func() { cancel(end.cause) })
				defer timer.Stop()
				start := time.Now()
				v := tx.Verdict(ctx)
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("it took %v", took)
				}
				b.checkEmpty("with the verdict")
				checkVerdict(t, v, milter.DispositionTempFail, end.reply)
				tx.End(end.outcome(v))
				got := b.summary()
				for _, word := range append(end.words, " wait=N scan=N ") {
					if !strings.Contains(got, word) || !strings.HasPrefix(got, "level="+end.level+" ") {
						t.Errorf("log line %s, want in it %q", got, word)
					}
				}
			})
		}
	}
}

// A message whose waits ended with the server is told with its cause even when it
// never came to a scanner.
func TestVerdictAfterTheEnd(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), func(o *Options) { o.OnFailure = PassOnFailure() })
	tx := b.Begin(testEnvelope())
	send(tx)
	v := tx.Verdict(canceled(milter.ErrServerClosed))
	checkVerdict(t, v, milter.DispositionTempFail, shutdownReply)
	tx.End(milter.Outcome{Sent: v})
	if got := b.summary(); !strings.Contains(got, " cause=shutdown ") {
		t.Error(got)
	}
}

// A message that was begun and refused by the session, after a panic in one of its
// callbacks, was answered without that anybody asked for a verdict: the postmaster
// sees that answer.
func TestAnswerWithoutAVerdictInTheLog(t *testing.T) {
	reply := milter.MustSMTPReply(451, "4.3.0", "Content filter failure, try again later")
	for _, c := range []struct {
		name    string
		outcome milter.Outcome
		level   string
		verdict string
	}{
		{"answered", milter.Outcome{Sent: milter.TempFail(reply)}, "INFO", "tempfail"},
		{"answered after a panic", milter.Outcome{Sent: milter.TempFail(reply), Err: errors.New("panic")}, "WARN", "tempfail"},
		{"aborted", milter.Outcome{Err: milter.ErrAborted}, "DEBUG", "aborted"},
		{"hung up", milter.Outcome{Err: milter.ErrPeerGone}, "DEBUG", "aborted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, ampdptest.Continue(), nil)
			tx := b.Begin(testEnvelope())
			send(tx)
			tx.End(c.outcome)
			b.checkEmpty("after the end")
			got := b.summary()
			if !strings.HasPrefix(got, "level="+c.level+" ") || !strings.Contains(got, " verdict="+c.verdict+" ") {
				t.Errorf("log line %s", got)
			}
			if answered := c.verdict == "tempfail"; strings.Contains(got, ` reply="451 4.3.0 Content filter failure`) != answered || strings.Contains(got, " scan=") {
				t.Errorf("log line %s", got)
			}
		})
	}
}

// A reply that came in the same moment counts: amavisd has judged, and with
// delivery_care_of=server acted upon it.
func TestReplyInTheMomentOfTheEnd(t *testing.T) {
	b := newBench(t, ampdptest.Hang(), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	b.scanners.list[0].doer = &fakeScanner{do: func(context.Context) error { cancel(milter.ErrServerClosed); return nil }}
	tx := b.Begin(testEnvelope())
	send(tx)
	v := tx.Verdict(ctx)
	tx.End(milter.Outcome{Sent: v})
	if v.Disposition() != milter.DispositionAccept {
		t.Errorf("verdict %v %v", v.Disposition(), v.Reply())
	}
	if got := b.summary(); !strings.Contains(got, " verdict=accept log_id=01234-01 ") || strings.Contains(got, " cause=") {
		t.Error(got)
	}
}

// A verdict that was called off, and comes all the same, is sent: its line tells why
// the message was not scanned.
func TestVerdictCalledOffHasACause(t *testing.T) {
	b := newBench(t, ampdptest.Hang(), nil)
	tx := b.Begin(testEnvelope())
	send(tx)
	v := tx.Verdict(canceled(milter.ErrVerdictLate))
	checkVerdict(t, v, milter.DispositionTempFail, genericReply)
	tx.End(milter.Outcome{Sent: v})
	if s := b.summary(); !strings.Contains(s, " cause=timeout ") {
		t.Errorf("summary: %s", s)
	}
}
