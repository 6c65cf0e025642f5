package logging

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"
	"unicode/utf8"
)

// logged returns what one call writes to stderr, without the time.
func logged(t *testing.T, log func(*slog.Logger)) string {
	t.Helper()
	var b bytes.Buffer
	log(slog.New(NewStderr(&b, slog.LevelDebug)))
	at, rest, _ := strings.Cut(b.String(), " ")
	if _, err := time.Parse(stderrTime, at); err != nil {
		t.Errorf("%q does not begin with a time: %v", b.String(), err)
	}
	return rest
}

type panics struct{}

func (panics) String() string { panic("at the disco") }

type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("re dacted") }

func TestLines(t *testing.T) {
	tests := []struct {
		name string
		log  func(l *slog.Logger)
		want string
	}{
		{"summary", func(l *slog.Logger) { l.Info("", "queue_id", "4Bxyz", "verdict", "accept", "nrcpt", 2) }, "info 4Bxyz: verdict=accept nrcpt=2"},
		{"summary without a queue id", func(l *slog.Logger) { l.Info("", "verdict", "accept") }, "info verdict=accept"},
		{"empty queue id", func(l *slog.Logger) { l.Info("x", "queue_id", "") }, "info x"},
		{"queue id from With", func(l *slog.Logger) { l.With("queue_id", "4B").Warn("scanner silent", "cause", "busy") }, "warn 4B: scanner silent cause=busy"},
		{"queue id last", func(l *slog.Logger) { l.Info("x", "a", 1, "queue_id", "4B") }, "info 4B: x a=1"},
		{"inline queue id wins", func(l *slog.Logger) { l.With("queue_id", "old").Info("x", "queue_id", "new") }, "info new: x"},
		{"queue id in a group is none", func(l *slog.Logger) { l.WithGroup("g").Info("x", "queue_id", "4B") }, "info x g.queue_id=4B"},
		{"message only", func(l *slog.Logger) { l.Error("it's \"over\": really") }, `error it's "over": really`},
		{"nothing", func(l *slog.Logger) { l.Info("") }, "info "},
		{"only a queue id", func(l *slog.Logger) { l.Info("", "queue_id", "4B") }, "info 4B: "},
		{"debug", func(l *slog.Logger) { l.Debug("x") }, "debug x"},
		{"kinds", func(l *slog.Logger) {
			l.Info("", "b", true, "i", -1, "u", uint64(7), "f", 0.5, "d", 1500*time.Millisecond,
				"t", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "e", errors.New("no such"), "n", nil, "s", []string{"a", "b"}, "y", []byte("raw"))
		}, `info b=true i=-1 u=7 f=0.5 d=1.5s t=2026-01-02T03:04:05Z e="no such" n=<nil> s="[a b]" y=raw`},
		{"groups", func(l *slog.Logger) {
			l.WithGroup("a").With("b", 1).WithGroup("c").Info("x", slog.Group("d", "e", 2), slog.Group("", "f", 3), slog.Group("g"))
		}, "info x a.b=1 a.c.d.e=2 a.c.f=3"},
		{"LogValuer", func(l *slog.Logger) { l.Info("x", "k", secret{}) }, `info x k="re dacted"`},
		{"panic in a value", func(l *slog.Logger) { l.Info("x", "k", panics{}) }, `info x k="!PANIC: at the disco"`},

		{"address", func(l *slog.Logger) { l.Info("", "from", "<a+b@c.example>") }, "info from=<a+b@c.example>"},
		{"empty value", func(l *slog.Logger) { l.Info("", "from", "") }, `info from=""`},
		{"space", func(l *slog.Logger) { l.Info("", "from", "<a b@c>") }, `info from="<a b@c>"`},
		{"forged pair", func(l *slog.Logger) { l.Info("", "from", "<> verdict=reject") }, `info from="<> verdict=reject"`},
		{"equals sign", func(l *slog.Logger) { l.Info("", "from", "a=b") }, `info from="a=b"`},
		{"quotes", func(l *slog.Logger) { l.Info("", "from", `" verdict="x`) }, `info from="\" verdict=\"x"`},
		{"backslash", func(l *slog.Logger) { l.Info("", "user", `DOM\u`) }, `info user="DOM\\u"`},
		{"second line", func(l *slog.Logger) { l.Info("", "from", "a\nNov 23 sshd[1]: b\r\x00\x1b[2J\x7f") }, `info from="a\nNov 23 sshd[1]: b\r\x00\x1b[2J\x7f"`},
		{"other line ends", func(l *slog.Logger) { l.Info("", "from", "a\u2028b\u0085c\u202ed") }, `info from="a\u2028b\u0085c\u202ed"`},
		{"DEL", func(l *slog.Logger) { l.Info("", "from", "a\x7fb") }, `info from="a\x7fb"`},
		{"UTF-8", func(l *slog.Logger) { l.Info("", "from", "<jürgen@c>") }, `info from="<jürgen@c>"`},
		{"bad UTF-8", func(l *slog.Logger) { l.Info("", "from", "\xff") }, `info from="\xff"`},
		{"hostile queue id", func(l *slog.Logger) { l.Info("x", "queue_id", "4B: y z=1\n") }, `info "4B: y z=1\n": x`},
		{"queue id with a colon", func(l *slog.Logger) { l.Info("x", "queue_id", "4B:") }, `info "4B:": x`},
		{"hostile key", func(l *slog.Logger) { l.Info("x", "a=b c", 1) }, `info x "a=b c"=1`},
		{"hostile message", func(l *slog.Logger) { l.Info("x verdict=reject\ny", "k", 1) }, `info "x verdict=reject\ny" k=1`},
	}
	for _, tt := range tests {
		if got := logged(t, tt.log); got != tt.want+"\n" {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want+"\n")
		}
	}
}

// TestLongLines has values and lines at and around their limits.
func TestLongLines(t *testing.T) {
	const valueLimit = maxStderrLine / 2
	value := func(n int) string {
		return strings.TrimSuffix(strings.TrimPrefix(logged(t, func(l *slog.Logger) { l.Info("", "k", strings.Repeat("x", n)) }), "info k="), "\n")
	}
	for n, want := range map[int]string{
		valueLimit - 1: strings.Repeat("x", valueLimit-1),
		valueLimit:     strings.Repeat("x", valueLimit),
		valueLimit + 1: strings.Repeat("x", valueLimit-len(cutMark)) + cutMark,
	} {
		if got := value(n); got != want {
			t.Errorf("value of %d bytes: %d bytes, ending in %q", n, len(got), got[len(got)-5:])
		}
	}
	// A long value leaves room for the next.
	if got := logged(t, func(l *slog.Logger) { l.Info("", "from", strings.Repeat("x", 1<<20), "verdict", "accept") }); !strings.HasSuffix(got, "x... verdict=accept\n") {
		t.Errorf("ends in %q", got[len(got)-40:])
	}
	// However much quoting adds.
	for _, c := range []string{"\x00", "\xff", "\"", "\u2028", "\U000e0001", " "} {
		got := logged(t, func(l *slog.Logger) {
			l.Info("", "queue_id", strings.Repeat(c, 1000), "from", strings.Repeat(c, 1<<20), "verdict", "accept")
		})
		if !strings.HasSuffix(got, "...\" verdict=accept\n") {
			t.Errorf("%q: ends in %q", c, got[len(got)-40:])
		}
	}
	for _, extra := range []int{-1, 0, 1, 1000} {
		got := logged(t, func(l *slog.Logger) {
			x := strings.Repeat("x", 3000)
			l.Info("", "a", x, "b", x, "c", strings.Repeat("x", maxStderrLine+extra-2*len(x)-len("a= b= c=")))
		})
		line := strings.TrimSuffix(strings.TrimPrefix(got, "info "), "\n")
		if len(line) != min(maxStderrLine+extra, maxStderrLine) || strings.HasSuffix(line, cutMark) != (extra > 0) {
			t.Errorf("extra %d: %d bytes, ending in %q", extra, len(line), line[len(line)-10:])
		}
	}
}

// TestQuotedValuesFillTheirRoom: a value that grows by its quotes is cut where the
// result reaches its limit, not far before it.
func TestQuotedValuesFillTheirRoom(t *testing.T) {
	const limit = 100
	for c, size := range map[string]int{"x ": 1, "x\n": 2, "\x00": 4, "\xff": 4, "\"": 2, "\u2028": 6, "\U000e0001": 10, "ä ": 2} {
		got := quoteWithin(strings.Repeat(c, 1000), limit)
		text, ok := strings.CutSuffix(got, cutMark+`"`)
		if len(got) > limit || len(got) <= limit-size || !ok {
			t.Errorf("%q: %d bytes: %s", c, len(got), got)
		}
		raw, err := strconv.Unquote(text + `"`)
		if err != nil || !strings.HasPrefix(strings.Repeat(c, 1000), raw) {
			t.Errorf("%q: %q: %v", c, raw, err)
		}
	}
	// What fits as a whole is not cut, to the byte.
	for n, whole := range map[int]bool{limit - 3: true, limit - 2: true, limit - 1: false} {
		s := strings.Repeat("x", n-1) + " "
		if got := quoteWithin(s, limit); (got == strconv.Quote(s)) != whole || len(got) > limit {
			t.Errorf("%d bytes: %s", n, got)
		}
	}
	// What needs no quotes up to the cut gets none.
	if got, want := quoteWithin(strings.Repeat("x", limit)+" y", limit), strings.Repeat("x", limit-len(cutMark))+cutMark; got != want {
		t.Errorf("got %s", got)
	}
}

func TestCutKeepsCharactersWhole(t *testing.T) {
	for limit := range 20 {
		got := cut("äöü€𝄞äöü€𝄞", limit)
		if len(got) > max(limit, len(cutMark)) || !utf8.ValidString(got) || !strings.HasSuffix(got, cutMark) {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	if got := cut("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", 11); len(got) > 11 {
		t.Errorf("bytes that are no characters: %q", got)
	}
}

// A line is cut between two characters, wherever its limit comes to lie.
func TestLineIsCutBetweenCharacters(t *testing.T) {
	for pad := range 8 {
		line := logged(t, func(l *slog.Logger) {
			x := strings.Repeat("x", maxStderrLine/2-5-pad)
			l.Info("", "a", x, "b", x, "c", strings.Repeat("€", 100))
		})
		if !utf8.ValidString(line) || !strings.HasSuffix(line, cutMark+"\n") || len(line) > len("info \n")+maxStderrLine {
			t.Errorf("%d bytes, ending in %q", len(line), line[len(line)-20:])
		}
	}
}

func TestWithDoesNotLeakIntoSiblings(t *testing.T) {
	var b bytes.Buffer
	base := slog.New(NewStderr(&b, slog.LevelInfo)).With("a", 1, "pad", strings.Repeat("x", 50))
	one, two := base.With("b", 2), base.With("c", 3)
	one.Info("one")
	two.Info("two")
	base.Info("base")
	if got := b.String(); strings.Count(got, "b=2") != 1 || strings.Count(got, "c=3") != 1 || strings.Count(got, "a=1") != 3 {
		t.Errorf("got %s", got)
	}
}

func TestLevel(t *testing.T) {
	var b bytes.Buffer
	var level slog.LevelVar
	l := slog.New(NewStderr(&b, &level))
	l.Debug("no")
	level.Set(slog.LevelDebug)
	l.Debug("yes")
	if got := b.String(); !strings.HasSuffix(got, " debug yes\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q", got)
	}
}

// countingWriter counts writes and fails the test if two come at once.
type countingWriter struct {
	t      *testing.T
	mu     sync.Mutex
	writes []string
}

func (w *countingWriter) Write(p []byte) (int, error) {
	if !w.mu.TryLock() {
		w.t.Error("two writes at once")
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	w.writes = append(w.writes, string(p))
	return len(p), nil
}

func TestOneWriteForEachRecord(t *testing.T) {
	w := &countingWriter{t: t}
	l := slog.New(NewStderr(w, slog.LevelInfo))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l.Info("x", "k", "v w", "queue_id", "4B")
			}
		})
	}
	wg.Wait()
	if len(w.writes) != 400 {
		t.Errorf("%d writes", len(w.writes))
	}
	for _, line := range w.writes {
		if !strings.HasSuffix(line, " info 4B: x k=\"v w\"\n") {
			t.Fatalf("got %q", line)
		}
	}
}

func TestWriteErrorIsReturned(t *testing.T) {
	r, w := io.Pipe()
	r.CloseWithError(io.ErrUnexpectedEOF)
	h := NewStderr(w, slog.LevelInfo)
	if err := h.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelInfo, "x", 0)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// TestHandlerContract runs slog's own test of handlers over our lines.
func TestHandlerContract(t *testing.T) {
	var b bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		b.Reset()
		return NewStderr(&b, slog.LevelInfo)
	}, func(t *testing.T) map[string]any {
		result := map[string]any{}
		words := strings.Fields(strings.TrimSpace(b.String()))
		if _, err := time.Parse(stderrTime, words[0]); err == nil {
			result[slog.TimeKey] = words[0]
			words = words[1:]
		}
		result[slog.LevelKey] = words[0]
		var message []string
		for _, word := range words[1:] {
			key, value, isPair := strings.Cut(word, "=")
			if !isPair {
				message = append(message, word)
				continue
			}
			at := result
			path := strings.Split(key, ".")
			for _, group := range path[:len(path)-1] {
				if at[group] == nil {
					at[group] = map[string]any{}
				}
				at = at[group].(map[string]any)
			}
			at[path[len(path)-1]] = value
		}
		result[slog.MessageKey] = strings.Join(message, " ")
		return result
	})
}

// FuzzLine logs hostile values: whatever they are, the result is one printable line,
// and splitting it at spaces outside of quotes gives exactly the pairs that were
// logged.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{"", "plain", "a b", "a=b", `"`, `\`, "a\nb", "\xff", "\u2028", `a" k2="b`} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, queueID, value string) {
		var b bytes.Buffer
		slog.New(NewStderr(&b, slog.LevelInfo)).Info("message", "queue_id", queueID, "k1", value, "k2", value)
		line, found := strings.CutSuffix(b.String(), "\n")
		if !found || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 }) {
			t.Fatalf("not one line: %q", b.String())
		}
		words := splitOutsideQuotes(line)
		want := []string{"message", "k1", "k2"}
		if queueID != "" {
			want = append([]string{":"}, want...)
		}
		for i, word := range words[2:] { // time and level before
			switch {
			case i >= len(want):
				t.Fatalf("%q: too many words: %q", line, word)
			case want[i] == ":" && !strings.HasSuffix(word, ":"),
				want[i] == "message" && word != "message",
				strings.HasPrefix(want[i], "k") && !strings.HasPrefix(word, want[i]+"="):
				t.Fatalf("%q: %q stands in the place of %q", line, word, want[i])
			}
		}
		if len(words) != 2+len(want) {
			t.Fatalf("%q: %d words", line, len(words))
		}
	})
}

// splitOutsideQuotes splits a line at its spaces, but for those in double quotes.
func splitOutsideQuotes(line string) []string {
	words, quoted, escaped := []string{""}, false, false
	for _, c := range []byte(line) {
		if c == ' ' && !quoted {
			words = append(words, "")
			continue
		}
		if c == '"' && !escaped {
			quoted = !quoted
		}
		escaped = c == '\\' && !escaped
		words[len(words)-1] += string(c)
	}
	return words
}
