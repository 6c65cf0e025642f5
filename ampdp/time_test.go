package ampdp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// piped is a client whose connections lead to peer, in a goroutine of its own.
func piped(peer func(conn net.Conn)) *ampdp.Client {
	return &ampdp.Client{Network: "unix", Address: "pipe", Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			peer(theirs)
		}()
		return ours, nil
	}}
}

// readRequest reads up to the empty line, or to the end of the connection.
func readRequest(conn net.Conn) {
	lines := bufio.NewScanner(conn)
	for lines.Scan() && lines.Text() != "" {
	}
}

func TestTimeoutIsForAllOfIt(t *testing.T) {
	const timeout = 300 * time.Second
	tests := []struct {
		name string
		peer func(net.Conn)
		sent bool
	}{
		{"the request is not read", func(c net.Conn) { io.ReadFull(c, make([]byte, 1)); time.Sleep(2 * timeout) }, false},
		{"no answer", func(c net.Conn) { readRequest(c); time.Sleep(2 * timeout) }, true},
		{"one byte each second", func(c net.Conn) {
			readRequest(c)
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, true},
		{"one attribute each minute", func(c net.Conn) {
			readRequest(c)
			for {
				if _, err := io.WriteString(c, "exit_code=0\r\n"); err != nil {
					return
				}
				time.Sleep(time.Minute)
			}
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := piped(tt.peer)
				client.Timeout = timeout
				start := time.Now()
				_, err := client.Do(t.Context(), smallRequest())
				checkError(t, err, ampdp.Error{Cause: ampdp.CauseTimeout, RequestSent: tt.sent}, os.ErrDeadlineExceeded)
				if took := time.Since(start); took != timeout {
					t.Errorf("it took %v", took)
				}
				time.Sleep(2 * timeout) // of fake time, for the peer to end
			})
		})
	}
}

func TestSlowReplyInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := piped(func(c net.Conn) {
			readRequest(c)
			time.Sleep(299 * time.Second)
			io.WriteString(c, ampdptest.Lines("return_value=accept"))
		})
		client.Timeout = 300 * time.Second
		if reply, err := client.Do(t.Context(), smallRequest()); err != nil || reply.ReturnValue != ampdp.Accept {
			t.Errorf("got %+v, %v", reply, err)
		}
	})
}

func TestTheEarlierDeadlineCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := piped(func(c net.Conn) { readRequest(c); io.Copy(io.Discard, c) })
		for _, tt := range []struct{ timeout, context, want time.Duration }{
			{0, time.Minute, time.Minute}, {time.Hour, time.Minute, time.Minute}, {time.Second, time.Minute, time.Second},
		} {
			client.Timeout = tt.timeout
			ctx, cancel := context.WithTimeout(t.Context(), tt.context)
			start := time.Now()
			_, err := client.Do(ctx, smallRequest())
			cancel()
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseTimeout, RequestSent: true})
			if took := time.Since(start); took != tt.want {
				t.Errorf("%v and %v: it took %v, want %v", tt.timeout, tt.context, took, tt.want)
			}
		}
	})
}

func TestCancelEndsAtOnce(t *testing.T) {
	for _, when := range []time.Duration{time.Nanosecond, time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			client := piped(func(c net.Conn) { readRequest(c); io.Copy(io.Discard, c) })
			client.Timeout = time.Hour
			ctx, cancel := context.WithCancel(t.Context())
			start := time.Now()
			time.AfterFunc(when, cancel)
			_, err := client.Do(ctx, smallRequest())
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseCanceled, RequestSent: true}, context.Canceled)
			if took := time.Since(start); took != when {
				t.Errorf("it took %v, want %v", took, when)
			}
		})
	}
}

// A host that does not answer uses up ConnectTimeout, not Timeout, and is then
// unavailable, whichever of the two is shorter: it has no byte of the request, and
// another scanner may be tried. If it was the caller who had no time the host has
// not refused.
func TestConnectTimeout(t *testing.T) {
	unavailable := ampdp.Error{Cause: ampdp.CauseUnavailable, Refused: true}
	noTime := ampdp.Error{Cause: ampdp.CauseUnavailable}
	tests := []struct {
		name             string
		connect, overall time.Duration
		caller           time.Duration // its deadline; 0: none
		took             time.Duration
		want             ampdp.Error
	}{
		{"default", 0, 5 * time.Minute, 0, ampdp.DefaultConnectTimeout, unavailable},
		{"no other limit", 0, 0, 0, ampdp.DefaultConnectTimeout, unavailable},
		{"of its own", 3 * time.Second, 5 * time.Minute, 0, 3 * time.Second, unavailable},
		{"longer than all", time.Hour, time.Minute, 0, time.Minute, unavailable},
		{"as long as all", time.Minute, time.Minute, 0, time.Minute, unavailable},
		{"shorter than the caller's", 0, 0, ampdp.DefaultConnectTimeout + 1, ampdp.DefaultConnectTimeout, unavailable},
		{"as long as the caller's", 0, 0, ampdp.DefaultConnectTimeout, ampdp.DefaultConnectTimeout, noTime},
		{"longer than the caller's", 0, time.Minute, time.Second, time.Second, noTime},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := &ampdp.Client{
					Network: "tcp", Address: "192.0.2.1:9998", ConnectTimeout: tt.connect, Timeout: tt.overall,
					Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
						<-ctx.Done()
						return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
					},
				}
				ctx := t.Context()
				if tt.caller > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.caller)
					defer cancel()
				}
				start := time.Now()
				_, err := client.Do(ctx, smallRequest())
				checkError(t, err, tt.want, context.DeadlineExceeded)
				if took := time.Since(start); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
			})
		})
	}
	t.Run("canceled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			client := &ampdp.Client{Network: "tcp", Address: "x", Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				cancel()
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			_, err := client.Do(ctx, smallRequest())
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseCanceled}, context.Canceled)
		})
	})
}

// Who comes without any time left has not asked: nobody is late, and nobody refused.
func TestNoTimeLeft(t *testing.T) {
	late := errors.New("the deadline of the message")
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		server := start(ampdptest.Continue())
		for name, ask := range map[string]func(context.Context) error{
			"Do":    func(ctx context.Context) error { _, err := server.Client().Do(ctx, smallRequest()); return err },
			"Probe": func(ctx context.Context) error { return server.Client().Probe(ctx) },
		} {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now().Add(-time.Second), late)
				defer cancel()
				checkError(t, ask(ctx), ampdp.Error{Cause: ampdp.CauseUnavailable}, late)
			})
		}
		if server.Accepted() > 0 {
			t.Error("there was a connection")
		}
	})
}

// RequestSent means all of it.
func TestRequestSent(t *testing.T) {
	encoded, err := smallRequest().AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		read int
		sent bool
	}{{1, false}, {len(encoded) - 1, false}, {len(encoded), true}} {
		synctest.Test(t, func(t *testing.T) {
			client := piped(func(c net.Conn) { io.ReadFull(c, make([]byte, tt.read)) })
			_, err := client.Do(t.Context(), smallRequest())
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseUnavailable, RequestSent: tt.sent})
		})
	}
}

// Probe fails as Do would, and sends nothing.
func TestProbe(t *testing.T) {
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		server := start(ampdptest.Continue())
		if err := server.Client().Probe(t.Context()); err != nil {
			t.Errorf("listening: %v", err)
		}
		server.AwaitAccepted(t, 1)
		server.AwaitIdle(t)
		if n := len(server.Requests()); n != 0 {
			t.Errorf("%d requests", n)
		}
		client := server.Client()
		server.Kill()
		checkError(t, client.Probe(t.Context()), ampdp.Error{Cause: ampdp.CauseUnavailable, Refused: true}, syscall.ECONNREFUSED)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		checkError(t, client.Probe(ctx), ampdp.Error{Cause: ampdp.CauseCanceled}, context.Canceled)
	})
}
