package filter

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/minutely"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
)

func (a *namesInAll) counted() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

// nameOf returns a name that takes n bytes of memory.
func nameOf(t testing.TB, n int) string {
	t.Helper()
	if n -= nameCost; n < 2 || n%2 != 0 {
		t.Fatalf("no name takes %d bytes", n+nameCost)
	}
	return strings.Repeat("n", n/2)
}

// What all hold is met to the byte. What a message may hold in any case is not
// asked for, and names that it has already take nothing more.
func TestNamesInAll(t *testing.T) {
	log, _ := newLog(0)
	for _, tt := range []struct {
		held  int64 // by others
		takes int   // by the name
		ok    bool
	}{
		{0, ownNames + 2, true},
		{maxNamesInAll - 102, ownNames + 100, true},
		{maxNamesInAll - 100, ownNames + 100, true},
		{maxNamesInAll - 98, ownNames + 100, false},
		{maxNamesInAll, ownNames - 2, true},
		{maxNamesInAll, ownNames, true},
		{maxNamesInAll, ownNames + 2, false},
	} {
		t.Run(fmt.Sprintf("%d beside %d", tt.takes, tt.held), func(t *testing.T) {
			all := &namesInAll{log: log, held: tt.held}
			h := headerFields{inAll: all}
			want := tt.held
			err := h.add(nameOf(t, tt.takes), "v")
			if tt.ok {
				want += int64(max(tt.takes-ownNames, 0))
			} else if !errors.Is(err, errNamesInAll) || !errors.Is(err, errHeaderTooLarge) || h.fields != 0 {
				t.Errorf("%v; %d fields are counted", err, h.fields)
			}
			if (err == nil) != tt.ok || all.counted() != want {
				t.Errorf("%v; %d bytes are counted, want %d", err, all.counted(), want)
			}
			h.release()
			h.release()
			if all.counted() != tt.held {
				t.Errorf("%d bytes are counted after the end, want %d", all.counted(), tt.held)
			}
		})
	}
	all := &namesInAll{log: log}
	h := headerFields{inAll: all}
	for range 100 {
		for _, n := range []int{ownNames, 200, 300} {
			if err := h.add(nameOf(t, n), "v"); err != nil {
				t.Error(err)
			}
		}
	}
	if all.counted() != 500 || h.fields != 300 {
		t.Errorf("%d bytes and %d fields are counted", all.counted(), h.fields)
	}
	h.release()
	if all.counted() != 0 || h.count(nameOf(t, 200)) != 0 {
		t.Errorf("%d bytes are counted, and a name %d times", all.counted(), h.count(nameOf(t, 200)))
	}
}

// Many at once: never more than the limit, and nothing in the end.
func TestNamesInAllAtOnce(t *testing.T) {
	log, _ := newLog(0)
	all := &namesInAll{log: log}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for round := range 4 {
				h := headerFields{inAll: all}
				for i := range 100 {
					h.add(fmt.Sprint(w, round, i)+strings.Repeat("x", 40_000), "")
					if n := all.counted(); n > maxNamesInAll {
						t.Errorf("%d bytes are counted", n)
					}
				}
				h.release()
			}
		})
	}
	wg.Wait()
	if n := all.counted(); n != 0 {
		t.Errorf("%d bytes are counted in the end", n)
	}
}

// The refused are told once a minute, with their number; a message is refused once.
func TestNamesInAllAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := newLog(0)
		all := &namesInAll{log: log, held: maxNamesInAll}
		refuse := func(n int) {
			for range n {
				h := headerFields{inAll: all}
				for range 5 {
					if err := h.add(nameOf(t, ownNames+2), ""); !errors.Is(err, errNamesInAll) {
						t.Error(err)
					}
				}
			}
		}
		refuse(3)
		time.Sleep(minutely.Pause - 1)
		refuse(2)
		if lines := logged.lines("level=WARN", "messages=1"); len(lines) != 1 || len(logged.lines()) != 1 {
			t.Errorf("logged: %s", logged)
		}
		time.Sleep(time.Nanosecond) // fake time
		refuse(1)
		if lines := logged.lines("messages=5"); len(lines) != 1 || len(logged.lines()) != 2 {
			t.Errorf("logged: %s", logged)
		}
	})
}

// However a message ends, what its names took is given back.
func TestNamesAreGivenBack(t *testing.T) {
	big := func(tx milter.Transaction) { tx.Header(strings.Repeat("n", ownNames), " v") }
	verdict := func(b *bench, tx milter.Transaction) { tx.End(milter.Outcome{Sent: tx.Verdict(b.t.Context())}) }
	for name, way := range map[string]func(b *bench, tx milter.Transaction){
		"verdict": verdict,
		"aborted": func(b *bench, tx milter.Transaction) { tx.End(milter.Outcome{Err: milter.ErrAborted}) },
		"peer gone": func(b *bench, tx milter.Transaction) {
			tx.Verdict(canceled(milter.ErrPeerGone))
			tx.End(milter.Outcome{Err: milter.ErrPeerGone})
		},
		"spool lost": func(b *bench, tx milter.Transaction) {
			b.spool.Close()
			verdict(b, tx)
		},
		"too many fields": func(b *bench, tx milter.Transaction) {
			for i := range MaxHeaderFields + 10 {
				tx.Header(fmt.Sprint("n", i), "")
			}
			if n := b.names.counted(); n != 0 {
				b.t.Errorf("%d bytes are counted, though the message cannot pass", n)
			}
			verdict(b, tx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, ampdptest.Continue(), nil)
			tx := b.Begin(testEnvelope())
			big(tx)
			if b.names.counted() == 0 {
				t.Error("nothing is counted")
			}
			way(b, tx)
			if n := b.names.counted(); n != 0 {
				t.Errorf("%d bytes are counted in the end", n)
			}
		})
	}
}

// A message that is refused for it is answered 452, whatever the administrator lets
// pass, and ordinary mail does not notice.
func TestNamesInAllRefuse(t *testing.T) {
	everything := OnFailure{}
	for _, c := range Causes() {
		everything[c] = ActionAccept
	}
	b := newBench(t, ampdptest.Continue(), func(o *Options) {
		o.OnFailure, o.Skips = everything, []Match{{Kind: MatchSize, Bytes: 1 << 20}}
	})
	b.names.take(maxNamesInAll)
	for range 3 {
		tx := b.Begin(testEnvelope())
		tx.Header(strings.Repeat("n", ownNames), " v")
		send(tx)
		tx.Body(make([]byte, 2<<20))
		b.checkEmpty("of a refused message")
		v := tx.Verdict(t.Context())
		checkVerdict(t, v, milter.DispositionTempFail, "452 4.3.1 Insufficient system storage, try again later")
		tx.End(milter.Outcome{Sent: v})
		if v := b.message(t.Context(), testEnvelope()); v.Disposition() != milter.DispositionAccept {
			t.Errorf("ordinary mail: %v", v.Reply())
		}
	}
	if lines := b.logged.lines("level=WARN"); len(lines) != 1 {
		t.Errorf("warnings: %q", lines)
	}
	if lines := b.logged.lines("level=ERROR"); len(lines) != 0 {
		t.Errorf("errors: %q", lines)
	}
	if lines := b.logged.lines("level=INFO", "cause=header", "452 4.3.1"); len(lines) != 3 {
		t.Errorf("summaries: %s", b.logged)
	}
}

// A limit of the spool is answered like a full disk, and is one line of the spool's
// log, not one for each message.
func TestSpoolLimit(t *testing.T) {
	for _, c := range []struct {
		onFailure OnFailure
		passes    bool
	}{{nil, false}, {PassOnFailure(), false}, {OnFailure{CauseSpool: ActionAccept}, true}} {
		b := newBench(t, ampdptest.Continue(), func(o *Options) {
			work := workDir(t)
			err := os.Chmod(work, 0o750)
			if err != nil {
				t.Fatal(err)
			}
			s, err := spool.Open(work, spool.Options{MaxBytes: 2000, Log: o.Log})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			o.Spool, o.OnFailure = s, c.onFailure
		})
		for range 3 {
			tx := b.Begin(testEnvelope())
			send(tx)
			tx.Body(make([]byte, 2000))
			v := tx.Verdict(t.Context())
			tx.End(milter.Outcome{Sent: v})
			if c.passes {
				if v.Disposition() != milter.DispositionAccept {
					t.Errorf("%v: %v", c.onFailure, v.Reply())
				}
				continue
			}
			checkVerdict(t, v, milter.DispositionTempFail, "452 4.3.1 Insufficient system storage, try again later")
		}
		warnings := 1
		if c.passes {
			warnings += 3 // what passes unscanned is told each time
		}
		if lines := b.logged.lines("level=WARN"); len(lines) != warnings || len(b.logged.lines("level=ERROR")) != 0 || len(b.logged.lines("--max-spool")) != 1 {
			t.Errorf("%v: logged %s", c.onFailure, b.logged)
		}
		if v := b.message(t.Context(), testEnvelope()); v.Disposition() != milter.DispositionAccept {
			t.Errorf("the next message: %v", v.Reply())
		}
	}
}
