package panics

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestPanicFramesAround: of a deep stack so many callers are told.
func TestPanicFramesAround(t *testing.T) {
	var down func(n int)
	down = func(n int) {
		if n == 0 {
			panic("deep")
		}
		down(n - 1)
	}
	for _, depth := range []int{0, 10 * maxPanicFrames} {
		var log bytes.Buffer
		func() {
			defer func() { Log(slog.New(slog.NewTextHandler(&log, nil)), "test", recover()) }()
			down(depth)
		}()
		got := strings.Count(log.String(), "at=")
		if depth > maxPanicFrames && got != maxPanicFrames || depth == 0 && (got == 0 || got >= maxPanicFrames) {
			t.Errorf("%d levels: %d lines, at most %d", depth, got, maxPanicFrames)
		}
	}
}
