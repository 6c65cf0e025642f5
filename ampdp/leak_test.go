package ampdp_test

import (
	"context"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// Goroutines and descriptors are back where they were after every kind of end.
func TestNoLeaks(t *testing.T) {
	const calls = 40
	half := "return_value=accept\r\n"
	handlers := map[string]ampdptest.Handler{
		"accepted": ampdptest.Continue(), "malformed": ampdptest.Raw("x\r\n\r\n"), "hangs": ampdptest.Hang(), "half": ampdptest.Raw(half),
		"reset": ampdptest.Reset(), "reset in the reply": ampdptest.RawThenReset(half), "closed": ampdptest.HangUp(), "closed at once": ampdptest.CloseAtOnce(),
	}
	for name, h := range handlers {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
				goroutines, files := runtime.NumGoroutine(), openFiles(t)
				server := start(h)
				client := server.Client()
				client.Timeout = soon
				var wg sync.WaitGroup
				for i := range calls {
					ctx, cancel := context.WithCancel(t.Context())
					wg.Go(func() {
						defer cancel()
						client.Do(ctx, smallRequest())
					})
					if i%2 == 0 {
						wg.Go(cancel)
					}
				}
				wg.Wait()
				server.Stop()
				client.Do(t.Context(), smallRequest())
				await(t, "goroutines", goroutines, runtime.NumGoroutine)
				await(t, "open files", files, func() int { return openFiles(t) })
			})
		})
	}
}

// A context that lives on keeps nothing of a call that is over.
func TestNoWatchersLeft(t *testing.T) {
	server := ampdptest.NewServer(t, ampdptest.Continue())
	ctx := &countingContext{Context: context.Background(), done: make(chan struct{})}
	goroutines := runtime.NumGoroutine()
	for range 20 {
		if _, err := server.Client().Do(ctx, smallRequest()); err != nil {
			t.Fatal(err)
		}
	}
	server.AwaitIdle(t)
	await(t, "goroutines", goroutines, runtime.NumGoroutine)
	if ctx.watched != 0 {
		t.Errorf("%d watchers are left", ctx.watched)
	}
}

// countingContext counts those who wait for its end.
type countingContext struct {
	context.Context
	done    chan struct{}
	mu      sync.Mutex
	watched int
}

func (c *countingContext) Done() <-chan struct{} { return c.done }

// AfterFunc is what context.AfterFunc calls if it is there.
func (c *countingContext) AfterFunc(func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched++
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.watched--
		return true
	}
}

// await polls until a count has come down to what it was.
func await(t *testing.T, what string, want int, count func() int) {
	t.Helper()
	got := count()
	for end := time.Now().Add(10 * time.Second); got > want && time.Now().Before(end); got = count() {
		runtime.Gosched()
	}
	if got > want {
		t.Errorf("%d %s, there were %d", got, what, want)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("counting descriptors takes /proc/self/fd: %v", err)
	}
	return len(names)
}
