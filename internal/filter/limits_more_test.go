package filter

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

// around are one below a limit, the limit, and one above.
func around(limit int) []int { return []int{limit - 1, limit, limit + 1} }

// cutTo is text as a line shows it that has room for so many bytes.
func cutTo(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return text[:limit] + "..."
}

// TestLoggedTextAround: what a message's line shows of paths, ids and replies.
func TestLoggedTextAround(t *testing.T) {
	line := func(env *milter.Envelope, s summary, sent milter.Verdict) string {
		log, logged := newLog(slog.LevelDebug)
		s.log(log, env, true, milter.Outcome{Sent: sent})
		return strings.Join(logged.lines(""), "\n")
	}
	for _, n := range around(maxLoggedPath) {
		path := "<" + strings.Repeat("p", n-2) + ">"
		got := line(&milter.Envelope{Sender: milter.NewPath(path)}, summary{}, milter.Accept())
		if want := "from=" + cutTo(path, maxLoggedPath) + " "; !strings.Contains(got, want) {
			t.Errorf("a path of %d bytes: %s", n, got)
		}
	}
	for _, n := range around(maxLoggedID) {
		id := strings.Repeat("i", n)
		got := line(&milter.Envelope{QueueID: id}, summary{logID: id}, milter.Accept())
		if want := cutTo(id, maxLoggedID); !strings.Contains(got, "queue_id="+want+" ") || !strings.Contains(got, "log_id="+want+" ") {
			t.Errorf("ids of %d bytes: %s", n, got)
		}
	}
	for _, n := range around(maxLoggedReply) {
		text := strings.Repeat("t", n-len("450 4.5.0 "))
		if got, want := setReplyText(&ampdp.SetReply{Code: 450, Enhanced: "4.5.0", Text: text}), cutTo("450 4.5.0 "+text, maxLoggedReply); got != want {
			t.Errorf("a setreply of %d bytes: %q", n, got)
		}
	}
}

// TestUnknownNamesAround: so many names of unknown attributes are told.
func TestUnknownNamesAround(t *testing.T) {
	for _, n := range around(maxUnknownNames) {
		var u unknownNames
		log, logged := newLog(slog.LevelDebug)
		for i := range n {
			u.report(log, []ampdp.Attribute{{Name: strings.Repeat("n", i+1)}})
		}
		if got, want := len(logged.lines("not known here")), min(n, maxUnknownNames); got != want {
			t.Errorf("of %d names %d were told, want %d", n, got, want)
		}
	}
}

// TestFailuresAround: one of several scanners that fails on all it is given is told at
// its eighth failure in a row, and once.
func TestFailuresAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(retryTime, maxWait, &fakeScanner{do: always(nil)}, &fakeScanner{do: always(nil)})
		defer r.close()
		for i := 1; i <= maxFailures+1; i++ {
			time.Sleep(maxBackOff) // fake time
			r.rest(r.list[0], time.Now(), errors.New("broken"))
			want := 0
			if i >= maxFailures {
				want = 1
			}
			if got := len(r.logged.lines("fails on all that it is given")); got != want {
				t.Errorf("after %d failures: %d lines, want %d", i, got, want)
			}
		}
	})
}
