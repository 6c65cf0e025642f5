package ampdp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// What the server does, and what the client must make of it.
func TestDoFailures(t *testing.T) {
	sentButUnavailable := ampdp.Error{Cause: ampdp.CauseUnavailable, RequestSent: true}
	malformed := ampdp.Error{Cause: ampdp.CauseMalformed, RequestSent: true}
	tests := []struct {
		name  string
		h     ampdptest.Handler
		want  ampdp.Error
		chain []error
	}{
		{"EOF before the first byte", ampdptest.HangUp(), sentButUnavailable, []error{ampdp.ErrNoReply}},
		{"reset before the first byte", ampdptest.Reset(), sentButUnavailable, []error{syscall.ECONNRESET}},
		{"EOF behind the first byte", ampdptest.RawThenHangUp("v"), malformed, []error{ampdp.ErrTruncated}},
		{"EOF before the empty line", ampdptest.RawThenHangUp("return_value=accept\r\n"), malformed, []error{ampdp.ErrTruncated}},
		{"reset behind the first byte", ampdptest.RawThenReset("v"), malformed, []error{ampdp.ErrTruncated, syscall.ECONNRESET}},
		{"reset before the empty line", ampdptest.RawThenReset("return_value=accept\r\n"), malformed, []error{ampdp.ErrTruncated, syscall.ECONNRESET}},
		{"malformed", ampdptest.Reply("return_value=perhaps"), malformed, []error{ampdp.ErrMalformed}},
		{"empty reply", ampdptest.Reply(), malformed, []error{ampdp.ErrMalformed}},
		{"HTTP", ampdptest.Raw("HTTP/1.0 400 Bad Request\r\n\r\n"), malformed, []error{ampdp.ErrMalformed}},
		{"too large", ampdptest.Raw(strings.Repeat("x=y\r\n", 10_000) + "\r\n"), malformed, []error{ampdp.ErrTooLarge}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
				server := start(tt.h)
				client := server.Client()
				client.Limits.Bytes = 40_000
				reply, err := client.Do(t.Context(), smallRequest())
				if reply != nil {
					t.Errorf("got a reply: %+v", reply)
				}
				checkError(t, err, tt.want, tt.chain...)
			})
		})
	}
}

// A child that ends as we connect: whether the request could be written or not is
// a matter of luck, that it is no answer is not.
func TestDoClosedAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		server := start(ampdptest.CloseAtOnce())
		for range 50 {
			_, err := server.Client().Do(t.Context(), smallRequest())
			var e *ampdp.Error
			if !errors.As(err, &e) || e.Cause != ampdp.CauseUnavailable || e.Refused {
				t.Fatalf("got %v", err)
			}
		}
	})
}

func TestDoConnectFailures(t *testing.T) {
	refused := ampdp.Error{Cause: ampdp.CauseUnavailable, Refused: true}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale, closed := ampdptest.NewServer(t, ampdptest.Continue()), ampdptest.NewTCPServer(t, ampdptest.Continue())
	stale.Kill()
	closed.Stop()
	tests := []struct {
		name, network, address string
		target                 error
		hint                   string
	}{
		{"missing socket", "unix", missing(t), syscall.ENOENT, "is amavisd running, and is this its $unix_socketname?"},
		{"stale socket", "unix", stale.Address(), syscall.ECONNREFUSED, "is amavisd running?"},
		{"no socket", "unix", plain, syscall.ECONNREFUSED, ""},
		{"below a file", "unix", plain + "/x", syscall.ENOTDIR, ""},
		{"long path", "unix", "/" + strings.Repeat("x", 200), syscall.EINVAL, ""},
		{"closed port", "tcp", closed.Address(), syscall.ECONNREFUSED, "is amavisd running?"},
		{"no port", "tcp", "127.0.0.1", nil, "missing port"},
		{"unknown network", "smoke", "signals", net.UnknownNetworkError("smoke"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := &ampdp.Client{Network: tt.network, Address: tt.address}
			_, err := client.Do(t.Context(), smallRequest())
			var chain []error
			if tt.target != nil {
				chain = append(chain, tt.target)
			}
			checkError(t, err, refused, chain...)
			if !strings.Contains(err.Error(), tt.hint) {
				t.Errorf("no %q in %v", tt.hint, err)
			}
		})
	}
}

// Want of our own is not the scanner's refusal; a full backlog of a TCP port looks
// like a dead host and is no EAGAIN.
func TestDoDialErrors(t *testing.T) {
	busy, noMeans := ampdp.Error{Cause: ampdp.CauseBusy}, ampdp.Error{Cause: ampdp.CauseUnavailable, NoMeans: true}
	refused := ampdp.Error{Cause: ampdp.CauseUnavailable, Refused: true}
	tests := []struct {
		network string
		errno   syscall.Errno
		want    ampdp.Error
	}{
		{"unix", syscall.EAGAIN, busy},
		{"tcp", syscall.EAGAIN, noMeans},
		{"unix", syscall.EMFILE, noMeans},
		{"unix", syscall.ENFILE, noMeans},
		{"unix", syscall.ENOMEM, noMeans},
		{"tcp", syscall.ENOBUFS, noMeans},
		{"tcp", syscall.EADDRNOTAVAIL, noMeans},
		{"tcp", syscall.EACCES, refused},
		{"tcp", syscall.ENETUNREACH, refused},
		{"tcp", syscall.EHOSTUNREACH, refused},
		{"tcp", syscall.ETIMEDOUT, refused},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.network, " ", tt.errno), func(t *testing.T) {
			client := &ampdp.Client{Network: tt.network, Address: "x"}
			client.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: tt.network, Err: os.NewSyscallError("connect", tt.errno)}
			}
			_, err := client.Do(t.Context(), smallRequest())
			checkError(t, err, tt.want, tt.errno)
		})
	}
}

func TestDoBusy(t *testing.T) {
	server := ampdptest.NewServer(t, ampdptest.Continue())
	if err := server.Pause(0); err != nil {
		t.Fatal(err)
	}
	filler, err := net.Dial("unix", server.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	_, err = server.Client().Do(t.Context(), smallRequest())
	checkError(t, err, ampdp.Error{Cause: ampdp.CauseBusy}, syscall.EAGAIN)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	server.AwaitAccepted(t, 1)
	if _, err := server.Client().Do(t.Context(), smallRequest()); err != nil {
		t.Error(err)
	}
}

// largeRequest does not fit into any socket's buffers.
func largeRequest() *ampdp.Request {
	r := smallRequest()
	r.Recipients = slices.Repeat([]string{"<" + strings.Repeat("r", 250) + ">"}, 50_000)
	return r
}

func TestDoHalfWritten(t *testing.T) {
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		t.Run("nobody reads", func(t *testing.T) {
			client := start(ampdptest.Deaf()).Client()
			client.Timeout = soon
			_, err := client.Do(t.Context(), largeRequest())
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseTimeout}, os.ErrDeadlineExceeded)
		})
		t.Run("closed", func(t *testing.T) {
			_, err := start(ampdptest.Reset()).Client().Do(t.Context(), largeRequest())
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseUnavailable})
		})
		// Whatever it says, it has not seen all of the recipients.
		t.Run("answered and closed", func(t *testing.T) {
			h := ampdptest.RawThenReset(ampdptest.Lines("return_value=accept"))
			reply, err := start(h).Client().Do(t.Context(), largeRequest())
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseMalformed}, ampdp.ErrMalformed)
			if reply != nil {
				t.Errorf("got a reply: %+v", reply)
			}
		})
	})
}

func TestDoTimeout(t *testing.T) {
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		for name, h := range map[string]ampdptest.Handler{
			"no byte": ampdptest.Hang(), "half a reply": ampdptest.Raw("return_value=accept\r\n"),
		} {
			t.Run(name, func(t *testing.T) {
				client := start(h).Client()
				client.Timeout = soon
				_, err := client.Do(t.Context(), smallRequest())
				checkError(t, err, ampdp.Error{Cause: ampdp.CauseTimeout, RequestSent: true}, os.ErrDeadlineExceeded)
			})
			t.Run(name+", deadline of the context", func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), soon, io.ErrNoProgress)
				defer cancel()
				client := start(h).Client()
				_, err := client.Do(ctx, smallRequest())
				checkError(t, err, ampdp.Error{Cause: ampdp.CauseTimeout, RequestSent: true})
			})
		}
	})
}

func TestDoCanceled(t *testing.T) {
	gone := errors.New("the MTA hung up")
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		t.Run("before", func(t *testing.T) {
			server := start(ampdptest.Continue())
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(gone)
			_, err := server.Client().Do(ctx, smallRequest())
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseCanceled}, gone)
			if server.Accepted() > 0 {
				t.Error("there was a connection")
			}
		})
		for name, h := range map[string]ampdptest.Handler{
			"waiting": ampdptest.Hang(), "reading": ampdptest.Raw("return_value=accept\r\n"),
		} {
			t.Run(name, func(t *testing.T) {
				server := start(h)
				ctx, cancel := context.WithCancelCause(t.Context())
				failed := make(chan error)
				go func() {
					_, err := server.Client().Do(ctx, smallRequest())
					failed <- err
				}()
				server.AwaitRequests(t, 1)
				cancel(gone)
				checkError(t, <-failed, ampdp.Error{Cause: ampdp.CauseCanceled, RequestSent: true}, gone)
				server.AwaitIdle(t)
			})
		}
	})
}
