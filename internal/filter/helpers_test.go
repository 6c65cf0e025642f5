package filter

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter"
)

// logBuffer is a log that tests can read.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines returns the lines that contain all of words.
func (b *logBuffer) lines(words ...string) []string {
	var found []string
next:
	for line := range strings.Lines(b.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		found = append(found, strings.TrimSuffix(line, "\n"))
	}
	return found
}

// newLog returns a log without times at the given level.
func newLog(level slog.Level) (*slog.Logger, *logBuffer) {
	b := new(logBuffer)
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && len(groups) == 0 {
				return slog.Attr{}
			}
			return a
		},
	})), b
}

// headerOf counts the given names as the header of a message.
func headerOf(t testing.TB, names ...string) *headerFields {
	t.Helper()
	h := new(headerFields)
	for _, name := range names {
		if err := h.add(name, " value"); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// mustPass returns the changes of a message that has to pass.
func mustPass(changes []milter.Change, err error) []milter.Change {
	if err != nil {
		panic(err)
	}
	return changes
}

func checkChanges(t testing.TB, got, want []milter.Change) {
	t.Helper()
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("changes\n     %+v\nwant %+v", got, want)
	}
}

func checkVerdict(t testing.TB, got milter.Verdict, disposition milter.Disposition, reply string, changes ...milter.Change) {
	t.Helper()
	if got.Disposition() != disposition || got.Reply().String() != reply {
		t.Errorf("verdict %v %q, want %v %q", got.Disposition(), got.Reply(), disposition, reply)
	}
	checkChanges(t, got.Changes(), changes)
}

// canceled returns a context that is done for the given reason.
func canceled(cause error) context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	return ctx
}
