package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
)

// Deletions of all names count together, and beyond the limit there are no changes.
func TestDeletionsLimit(t *testing.T) {
	named := func(names ...string) (list edits) {
		for _, n := range names {
			list = append(list, ampdp.DeleteHeader{Index: 1, Name: n})
		}
		return list
	}
	fields := func(counts map[string]int) (list []string) {
		for name, n := range counts {
			list = append(list, slices.Repeat([]string{name}, n)...)
		}
		return list
	}
	var history edits
	for i := range 2 * MaxDeletions {
		history = append(history, ampdp.DeleteHeader{Index: i + 2, Name: "Received"})
	}
	for _, n := range around(MaxDeletions) {
		for what, f := range map[string]func() ([]milter.Change, error){
			"one name": func() ([]milter.Change, error) {
				return acceptChanges(named("x-a", "x-a"), nil, headerOf(t, fields(map[string]int{"X-A": n, "X-B": 500})...), HeaderField{})
			},
			"two names": func() ([]milter.Change, error) {
				return acceptChanges(named("x-a", "x-b"), nil, headerOf(t, fields(map[string]int{"X-A": n - 300, "X-B": 300})...), HeaderField{})
			},
			"marks": func() ([]milter.Change, error) {
				return acceptChanges(nil, nil, headerOf(t, fields(map[string]int{UnscannedHeader: n - 299, "X-H": 300})...), HeaderField{"X-H", "v"})
			},
			"Received": func() ([]milter.Change, error) {
				return acceptChanges(history, nil, headerOf(t, fields(map[string]int{"Received": n})...), HeaderField{})
			},
			"unscanned": func() ([]milter.Change, error) {
				return unscannedChanges(CauseBusy, headerOf(t, fields(map[string]int{UnscannedHeader: n - 600, "X-Virus-Scanned": 300, "X-H": 300})...), HeaderField{"X-H", "v"})
			},
		} {
			changes, err := f()
			deleted := 0
			for _, c := range changes {
				if _, ok := c.(milter.DeleteHeader); ok {
					deleted++
				}
			}
			var cause *failure
			switch {
			case n <= MaxDeletions:
				if err != nil || deleted != n {
					t.Errorf("%s: %d deletions of %d, %v", what, deleted, n, err)
				}
			case !errors.As(err, &cause) || cause.cause != causeHeader || len(changes) > 0:
				t.Errorf("%s: %d changes for %d deletions, %v", what, len(changes), n, err)
			}
		}
	}
}

// Such a message never passes: not by policy, nor by --skip, nor scanned.
func TestTooManyDeletionsNeverPass(t *testing.T) {
	everything := OnFailure{}
	for _, c := range Causes() {
		everything[c] = ActionAccept
	}
	for name, c := range map[string]struct {
		handler ampdptest.Handler
		skip    bool
	}{
		"scanned": {ampdptest.Continue("delheader=1 x-a"), false}, "by policy": {ampdptest.Raw("x\r\n\r\n"), false}, "skipped": {ampdptest.Continue(), true},
	} {
		for _, n := range around(MaxDeletions) {
			b := newBench(t, c.handler, func(o *Options) {
				o.OnFailure, o.XHeader = everything, HeaderField{}
				if c.skip {
					o.Skips = []Match{network("192.0.2.0/24")}
				}
			})
			tx := b.Begin(testEnvelope())
			for i := range n {
				if i < 500 {
					tx.Header(UnscannedHeader, " busy")
				} else if name == "scanned" {
					tx.Header("X-A", " v")
				} else {
					tx.Header("X-Virus-Scanned", " v")
				}
			}
			tx.EndHeader()
			v := tx.Verdict(t.Context())
			tx.End(milter.Outcome{Sent: v})
			if n <= MaxDeletions {
				if v.Disposition() != milter.DispositionAccept {
					t.Errorf("%s, %d deletions: %v", name, n, v.Reply())
				}
				continue
			}
			checkVerdict(t, v, milter.DispositionTempFail, headerReply)
			if s := b.summary(); !strings.Contains(s, " cause=header ") || strings.Contains(s, "rule=") {
				t.Errorf("%s: %s", name, s)
			}
		}
	}
}

// Forged marks are counted when they come: nobody is asked about too many, and nothing
// more is stored. Other names may come as often as they like.
func TestForgedMarksLimit(t *testing.T) {
	for _, name := range []string{UnscannedHeader, "x-virus-scanned", "X-Other"} {
		for _, n := range around(MaxDeletions) {
			b := newBench(t, ampdptest.Continue(), nil)
			tx := b.Begin(testEnvelope())
			for range n {
				tx.Header(name, " v")
			}
			tx.EndHeader()
			v := tx.Verdict(t.Context())
			tx.End(milter.Outcome{Sent: v})
			forged := n > MaxDeletions && name != "X-Other"
			if forged {
				checkVerdict(t, v, milter.DispositionTempFail, headerReply)
			} else if v.Disposition() != milter.DispositionAccept {
				t.Errorf("%d of %s: %v", n, name, v.Reply())
			}
			if asked := b.amavisd.Accepted() > 0; asked == forged {
				t.Errorf("%d of %s: asked %v, %s", n, name, asked, fmt.Sprint(b.logged))
			}
		}
	}
}
