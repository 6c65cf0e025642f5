package ampdp_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

func TestLineLimit(t *testing.T) {
	for _, lineEnd := range []string{"\r\n", "\n"} {
		for _, limit := range []int{30, 100, 4094, 4095, 4096, 4097, 8192} { // around the buffer's size
			for extra, want := range map[int]error{-1: nil, 0: nil, 1: ampdp.ErrTooLarge} {
				line := "log_id=" + strings.Repeat("x", limit+extra-len("log_id="))
				raw := line + lineEnd + "return_value=continue" + lineEnd + lineEnd
				for how, r := range chunked(raw) {
					if _, err := ampdp.ReadReply(r, ampdp.Limits{Line: limit}); !errors.Is(err, want) {
						t.Errorf("%d bytes with %q at a limit of %d, %s: %v, want %v", len(line), lineEnd, limit, how, err, want)
					}
				}
			}
		}
	}
}

func TestBytesLimit(t *testing.T) {
	for _, filler := range []int{10, 4000, 5000} {
		raw := "log_id=" + strings.Repeat("x", filler) + "\r\nreturn_value=continue\r\n\r\n"
		for limit, want := range map[int]error{len(raw) + 1: nil, len(raw): nil, len(raw) - 1: ampdp.ErrTooLarge, 1: ampdp.ErrTooLarge} {
			for how, r := range chunked(raw + "what follows does not count") {
				if _, err := ampdp.ReadReply(r, ampdp.Limits{Bytes: limit}); !errors.Is(err, want) {
					t.Errorf("%d bytes at a limit of %d, %s: %v, want %v", len(raw), limit, how, err, want)
				}
			}
		}
	}
}

func TestAttributesLimit(t *testing.T) {
	const limit = 50
	for n, want := range map[int]error{limit - 1: nil, limit: nil, limit + 1: ampdp.ErrTooLarge} {
		for _, attribute := range []string{"future=x\r\n", "addheader=X-A b\r\n"} {
			raw := strings.Repeat(attribute, n-1) + "return_value=continue\r\n\r\n"
			if _, err := ampdp.ReadReply(strings.NewReader(raw), ampdp.Limits{Attributes: limit}); !errors.Is(err, want) {
				t.Errorf("%d times %q: %v, want %v", n, attribute, err, want)
			}
		}
	}
}

// TestDefaultLimits has each default at one below, at, and above.
func TestDefaultLimits(t *testing.T) {
	const end = "return_value=continue\n"
	line := func(n int) string { return "log_id=" + strings.Repeat("x", n-len("log_id=")) + "\n" }
	for name, tt := range map[string]struct {
		limit int
		reply func(n int) string // with n of what is limited
	}{
		"MaxReplyLine":       {ampdp.MaxReplyLine, func(n int) string { return line(n) + end + "\n" }},
		"MaxReplyAttributes": {ampdp.MaxReplyAttributes, func(n int) string { return strings.Repeat("a=\n", n-1) + end + "\n" }},
		"MaxReplyBytes": {ampdp.MaxReplyBytes, func(n int) string {
			full := strings.Repeat("exit_code="+strings.Repeat("x", 1<<20-len("exit_code=\n"))+"\n", n>>20-1)
			return full + line(n-len(full)-len(end)-len("\n\n")) + end + "\n"
		}},
	} {
		for extra, want := range map[int]error{-1: nil, 0: nil, 1: ampdp.ErrTooLarge} {
			if _, err := ampdp.ReadReply(strings.NewReader(tt.reply(tt.limit+extra)), ampdp.Limits{}); !errors.Is(err, want) {
				t.Errorf("%s%+d: %v, want %v", name, extra, err, want)
			}
		}
	}
}

// A header field of far over 64 KiB, all of it escaped, passes.
func TestLongHeaderField(t *testing.T) {
	value := strings.Repeat("\n\t", 300<<10)
	reply, err := read(ampdptest.Lines(ampdptest.Line("addheader", "X-Long", value), "return_value=continue"))
	if err != nil {
		t.Fatal(err)
	}
	if got := reply.Edits[0].(ampdp.AddHeader).Value; got != value {
		t.Errorf("%d bytes came as %d others", len(value), len(got))
	}
}

func TestUnknownIsBounded(t *testing.T) {
	var lines []string
	for i := range ampdp.MaxUnknown + 1 {
		lines = append(lines, fmt.Sprintf("future%d=%s", i, strings.Repeat("v", i)))
	}
	reply, err := read(ampdptest.Lines(append(lines, "return_value=continue")...))
	if err != nil || len(reply.Unknown) != ampdp.MaxUnknown {
		t.Fatalf("%d unknown attributes, %v", len(reply.Unknown), err)
	}
	for i, a := range reply.Unknown {
		if a.Name != fmt.Sprint("future", i) || len(a.Value) != i {
			t.Errorf("number %d is %q", i, a)
		}
	}

	for extra := -1; extra <= 1; extra++ {
		name := strings.Repeat("n", ampdp.MaxUnknownName+extra)
		value := strings.Repeat("v", ampdp.MaxUnknownValue+extra)
		reply, err := read(ampdptest.Lines(name+"="+value, "return_value=continue"))
		if err != nil {
			t.Fatal(err)
		}
		wantName, wantValue := min(len(name), ampdp.MaxUnknownName), min(len(value), ampdp.MaxUnknownValue)
		if a := reply.Unknown[0]; len(a.Name) != wantName || len(a.Value) != wantValue {
			t.Errorf("%d and %d bytes became %d and %d", len(name), len(value), len(a.Name), len(a.Value))
		}
	}
}

// A peer that never stops is cut off at the limit, and has not made us hold more
// than a few times that.
func TestEndlessReply(t *testing.T) {
	limits := ampdp.Limits{Line: 256 << 10, Bytes: 1 << 20}
	for name, pattern := range map[string]string{
		"one line": "x", "escapes": "%20", "unknown attributes": "future=x\n", "edits": "addheader=A b\n", "bare": "a=\n",
	} {
		t.Run(name, func(t *testing.T) {
			source := &endless{pattern: pattern}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ampdp.ReadReply(source, limits)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ampdp.ErrTooLarge) && !errors.Is(err, ampdp.ErrMalformed) {
				t.Errorf("got %v", err)
			}
			if source.given > limits.Bytes+64<<10 {
				t.Errorf("%d bytes were read at a limit of %d", source.given, limits.Bytes)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 20*uint64(limits.Bytes) {
				t.Errorf("%d bytes were allocated for a reply of at most %d", used, limits.Bytes)
			}
		})
	}
}

// endless repeats its pattern for ever.
type endless struct {
	pattern string
	given   int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.pattern[e.given%len(e.pattern)]
		e.given++
	}
	return len(p), nil
}

var _ io.Reader = (*endless)(nil)
