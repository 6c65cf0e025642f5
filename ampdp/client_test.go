package ampdp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// onBoth runs a test over a local socket and over TCP.
func onBoth(t *testing.T, test func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server)) {
	t.Run("unix", func(t *testing.T) {
		test(t, func(h ampdptest.Handler) *ampdptest.Server { return ampdptest.NewServer(t, h) })
	})
	t.Run("tcp", func(t *testing.T) {
		test(t, func(h ampdptest.Handler) *ampdptest.Server { return ampdptest.NewTCPServer(t, h) })
	})
}

func TestDo(t *testing.T) {
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		server := start(ampdptest.Continue(ampdptest.Line("addheader", "X-A", "a b"), ampdptest.Line("delrcpt", "<a b@x>")))
		want := &ampdp.Reply{
			VersionServer: 2, LogID: "01234-01", ReturnValue: ampdp.Continue,
			SetReply: &ampdp.SetReply{Code: 250, Enhanced: "2.6.0", Text: "Ok, id=01234-01, continue delivery"},
			Edits:    []ampdp.Edit{ampdp.AddHeader{Name: "X-A", Value: "a b"}, ampdp.DeleteRecipient{Address: "<a b@x>"}},
		}
		request := smallRequest()
		sent, err := request.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		client := server.Client()
		for n := 1; n <= 3; n++ {
			if got, err := client.Do(t.Context(), request); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
			}
			requests := server.Requests()
			if len(requests) != n || server.Accepted() != n {
				t.Errorf("%d requests in %d connections, want %d", len(requests), server.Accepted(), n)
			}
			if string(requests[n-1].Raw) != string(sent) {
				t.Errorf("the server got\n%s\nwant\n%s", requests[n-1].Raw, sent)
			}
		}
		// An idle connection would hold one of amavisd's children.
		server.AwaitIdle(t)
	})
}

func TestDoConcurrently(t *testing.T) {
	server := ampdptest.NewServer(t, func(c *ampdptest.Conn) {
		if r, err := c.ReadRequest(); err == nil {
			c.Send(ampdptest.Lines(ampdptest.Line("log_id", r.Get("queue_id")), "return_value=continue"))
		}
	})
	client := server.Client()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			request := smallRequest()
			request.QueueID = strings.Repeat("q", i+1)
			if reply, err := client.Do(t.Context(), request); err != nil || reply.LogID != request.QueueID {
				t.Errorf("number %d got %+v, %v", i, reply, err)
			}
		})
	}
	wg.Wait()
}

// The end of a reply is its empty line: neither EOF nor more data is waited for.
func TestDoEndsAtTheEmptyLine(t *testing.T) {
	reply := ampdptest.Lines("return_value=accept")
	handlers := map[string]ampdptest.Handler{
		"kept open":       ampdptest.Raw(reply),
		"closed":          ampdptest.RawThenHangUp(reply),
		"byte by byte":    ampdptest.Bytewise(reply),
		"answered twice":  ampdptest.Raw(reply + ampdptest.Lines("return_value=reject")),
		"garbage behind":  ampdptest.RawThenHangUp(reply + "garbage"),
		"bare LF":         ampdptest.Raw(strings.ReplaceAll(reply, "\r\n", "\n")),
		"100,000 letters": ampdptest.Raw("log_id=" + strings.Repeat("x", 100_000) + "\r\n" + reply),
	}
	for name, h := range handlers {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
				if got, err := start(h).Client().Do(t.Context(), smallRequest()); err != nil || got.ReturnValue != ampdp.Accept {
					t.Errorf("got %+v, %v", got, err)
				}
			})
		})
	}
}

// countingConn counts the writes and closes of a connection.
type countingConn struct {
	net.Conn
	writes, closes atomic.Int32
}

func (c *countingConn) Write(p []byte) (int, error) { c.writes.Add(1); return c.Conn.Write(p) }
func (c *countingConn) Close() error                { c.closes.Add(1); return c.Conn.Close() }

func TestDoWritesOnceAndCloses(t *testing.T) {
	server := ampdptest.NewServer(t, ampdptest.Script(ampdptest.Continue(), ampdptest.HangUp(), ampdptest.Raw("x\r\n")))
	client := server.Client()
	var conns []*countingConn
	client.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		conns = append(conns, &countingConn{Conn: conn})
		return conns[len(conns)-1], err
	}
	request := smallRequest()
	request.Recipients = slices.Repeat([]string{"<someone@example.com>"}, 500)
	for i, wantError := range []bool{false, true, true} {
		if _, err := client.Do(t.Context(), request); (err != nil) != wantError {
			t.Errorf("number %d: %v", i, err)
		}
	}
	for i, c := range conns {
		if c.writes.Load() != 1 || c.closes.Load() != 1 {
			t.Errorf("connection %d was written to %d times and closed %d times", i, c.writes.Load(), c.closes.Load())
		}
	}
	if got := len(server.Requests()); got != 3 {
		t.Errorf("%d requests", got)
	}
}

func TestDoRefusesBadRequests(t *testing.T) {
	server := ampdptest.NewServer(t, ampdptest.Continue())
	_, err := server.Client().Do(t.Context(), &ampdp.Request{})
	checkError(t, err, ampdp.Error{Cause: ampdp.CauseRequest}, ampdp.ErrNoSender)
	if server.Accepted() != 0 {
		t.Error("there was a connection")
	}
}

// A scanner that went away and came back is found again, at both kinds of address.
func TestDoAfterRestart(t *testing.T) {
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		server := start(ampdptest.Continue())
		client := server.Client()
		for _, stop := range []func(){server.Stop, server.Kill} {
			stop()
			if _, err := client.Do(t.Context(), smallRequest()); err == nil {
				t.Fatal("a stopped server answered")
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Do(t.Context(), smallRequest()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// checkError wants an *ampdp.Error with the fields of want (but Address and Err),
// and with all of the others in its chain.
func checkError(t *testing.T, err error, want ampdp.Error, chain ...error) {
	t.Helper()
	var got *ampdp.Error
	if !errors.As(err, &got) {
		t.Fatalf("got %v, want an *ampdp.Error with cause %v", err, want.Cause)
	}
	if got.Cause != want.Cause || got.Refused != want.Refused || got.NoMeans != want.NoMeans || got.RequestSent != want.RequestSent {
		t.Errorf("got cause %v, refused %v, no means %v, sent %v; want %v, %v, %v, %v: %v",
			got.Cause, got.Refused, got.NoMeans, got.RequestSent, want.Cause, want.Refused, want.NoMeans, want.RequestSent, err)
	}
	for _, target := range chain {
		if !errors.Is(err, target) {
			t.Errorf("%v is not %v", err, target)
		}
	}
	if text := err.Error(); strings.ContainsAny(text, "\r\n") || !strings.Contains(text, got.Address) || !strings.Contains(text, got.Cause.String()) {
		t.Errorf("the error should be one line with address and cause: %q", text)
	}
}

func TestCauseString(t *testing.T) {
	want := map[ampdp.Cause]string{
		0: "none", ampdp.CauseUnavailable: "unavailable", ampdp.CauseBusy: "busy", ampdp.CauseTimeout: "timeout",
		ampdp.CauseMalformed: "malformed", ampdp.CauseCanceled: "canceled", ampdp.CauseRequest: "request", ampdp.CauseNoRoom: "room", ampdp.CauseNoRoom + 1: "none",
	}
	for cause, text := range want {
		if cause.String() != text {
			t.Errorf("cause %d is %q, want %q", int(cause), cause, text)
		}
	}
}

var _ io.Reader = (*countingConn)(nil)

// missing is the path of a socket that never was.
func missing(t *testing.T) string { return filepath.Join(t.TempDir(), "none") }

// soon is a timeout that is meant to pass.
const soon = 50 * time.Millisecond
