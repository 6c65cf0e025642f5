package ampdptest_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

const request = "request=AM.PDP\r\nsender=<>\r\nrecipient=<a@b>\r\n\r\n"

// talk connects, writes a request and returns what comes until EOF or reset.
func talk(t *testing.T, s *ampdptest.Server) (string, error) {
	t.Helper()
	conn, err := net.Dial(s.Network(), s.Address())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

func TestHandlersThatEnd(t *testing.T) {
	tests := []struct {
		name    string
		h       ampdptest.Handler
		want    string
		wantErr error
	}{
		{"RawThenHangUp", ampdptest.RawThenHangUp("half"), "half", nil},
		{"RawThenReset", ampdptest.RawThenReset("half"), "half", syscall.ECONNRESET},
		{"HangUp", ampdptest.HangUp(), "", nil},
		{"Reset", ampdptest.Reset(), "", syscall.ECONNRESET},
	}
	for _, tt := range tests {
		for network, start := range map[string]func(testing.TB, ampdptest.Handler) *ampdptest.Server{
			"unix": ampdptest.NewServer, "tcp": ampdptest.NewTCPServer,
		} {
			t.Run(tt.name+" "+network, func(t *testing.T) {
				if got, err := talk(t, start(t, tt.h)); got != tt.want || !errors.Is(err, tt.wantErr) {
					t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.wantErr)
				}
			})
		}
	}
}

// Like amavisd, a server that has answered takes another request on the same
// connection, and leaves it to the client to close.
func TestHandlersThatGoOn(t *testing.T) {
	for name, h := range map[string]ampdptest.Handler{
		"Reply": ampdptest.Reply("a=b", "c=d"), "Raw": ampdptest.Raw("a=b\r\nc=d\r\n\r\n"), "Bytewise": ampdptest.Bytewise("a=b\r\nc=d\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			s := ampdptest.NewServer(t, h)
			conn, err := net.Dial(s.Network(), s.Address())
			if err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			rounds := 2
			if name == "Bytewise" {
				rounds = 1
			}
			for n := 1; n <= rounds; n++ {
				io.WriteString(conn, request)
				for _, want := range []string{"a=b\r\n", "c=d\r\n", "\r\n"} {
					if got, err := r.ReadString('\n'); err != nil || got != want {
						t.Fatalf("got %q, %v; want %q", got, err, want)
					}
				}
				if got := s.Requests(); len(got) != n || string(got[n-1].Raw) != request {
					t.Errorf("recorded %d requests", len(got))
				}
			}
			if s.Open() != 1 {
				t.Errorf("%d connections are open", s.Open())
			}
			conn.Close()
			s.AwaitIdle(t)
		})
	}
}

func TestScriptAndHandle(t *testing.T) {
	s := ampdptest.NewServer(t, ampdptest.Script(ampdptest.RawThenHangUp("1"), ampdptest.RawThenHangUp("2")))
	for _, want := range []string{"1", "2", "2"} {
		if got, err := talk(t, s); got != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	s.Handle(ampdptest.RawThenHangUp("3"))
	if got, err := talk(t, s); got != "3" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if s.Accepted() != 4 {
		t.Errorf("%d connections", s.Accepted())
	}
}

func TestHold(t *testing.T) {
	release := make(chan struct{})
	s := ampdptest.NewServer(t, ampdptest.Hold(release, ampdptest.RawThenHangUp("late")))
	answered := make(chan string)
	go func() {
		answer, _ := talk(t, s)
		answered <- answer
	}()
	s.AwaitRequests(t, 1)
	select {
	case answer := <-answered:
		t.Fatalf("answered %q before it was released", answer)
	default:
	}
	close(release)
	if got := <-answered; got != "late" {
		t.Errorf("got %q", got)
	}
	if n := len(s.Requests()); n != 1 {
		t.Errorf("one request was recorded %d times", n)
	}
}

func TestVerdictAndContinue(t *testing.T) {
	tests := []struct {
		h    ampdptest.Handler
		want ampdp.Reply
	}{
		{ampdptest.Verdict("reject", "550", "5.7.1", "no, thanks"), ampdp.Reply{
			VersionServer: 2, LogID: "01234-01", ReturnValue: ampdp.Reject,
			SetReply: &ampdp.SetReply{Code: 550, Enhanced: "5.7.1", Text: "no, thanks"},
		}},
		{ampdptest.Continue("addheader=X-A b"), ampdp.Reply{
			VersionServer: 2, LogID: "01234-01", ReturnValue: ampdp.Continue,
			SetReply: &ampdp.SetReply{Code: 250, Enhanced: "2.6.0", Text: "Ok, id=01234-01, continue delivery"},
			Edits:    []ampdp.Edit{ampdp.AddHeader{Name: "X-A", Value: "b"}},
		}},
	}
	for _, tt := range tests {
		got, err := ampdptest.NewServer(t, tt.h).Client().Do(t.Context(), &ampdp.Request{
			Sender: "<>", Recipients: []string{"<a@b>"}, TempDir: "/x",
		})
		if err != nil || !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
		}
	}
}

func TestLifecycle(t *testing.T) {
	for name, h := range map[string]ampdptest.Handler{
		"Hang": ampdptest.Hang(), "Deaf": ampdptest.Deaf(), "Hold": ampdptest.Hold(make(chan struct{}), ampdptest.HangUp()),
	} {
		t.Run(name, func(t *testing.T) {
			s := ampdptest.NewServer(t, h)
			address := s.Address()
			for i, stop := range []struct {
				f    func()
				want error
			}{{s.Stop, syscall.ENOENT}, {s.Kill, syscall.ECONNREFUSED}, {s.Stop, syscall.ENOENT}} {
				conn, err := net.Dial("unix", address)
				if err != nil {
					t.Fatal(err)
				}
				s.AwaitAccepted(t, i+1)
				stop.f()
				if n, err := conn.Read(make([]byte, 1)); err == nil {
					t.Errorf("read %d bytes from a stopped server", n)
				}
				conn.Close()
				if _, err := talk(t, s); !errors.Is(err, stop.want) {
					t.Errorf("got %v, want %v", err, stop.want)
				}
				stop.f() // does nothing
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				if err := s.Start(); err != nil || s.Address() != address {
					t.Errorf("started again: %v, at %s", err, s.Address())
				}
			}
		})
	}
}

func TestPause(t *testing.T) {
	s := ampdptest.NewServer(t, ampdptest.RawThenHangUp("x"))
	if err := s.Pause(0); err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("unix", s.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	if _, err := net.Dial("unix", s.Address()); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("got %v, want EAGAIN", err)
	}
	if s.Accepted() != 0 {
		t.Error("a paused server accepted a connection")
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(waiting, request)
	if got, err := io.ReadAll(waiting); string(got) != "x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := s.Pause(0); err != nil {
		t.Fatal(err)
	}
	s.Close() // does not wait for a Resume
	if err := errors.Join(s.Pause(0), s.Resume()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestListen(t *testing.T) {
	if _, err := ampdptest.Listen("unix", "/nonexistent/x", ampdptest.Hang()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	s, err := ampdptest.Listen("unix", filepath.Join(t.TempDir(), "s"), ampdptest.Continue())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := os.Lstat(s.Address()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestLine(t *testing.T) {
	tests := []struct{ got, want string }{
		{ampdptest.Line("addheader", "X-A", "a b%\n\tc"), "addheader=X-A a%20b%25%0a%09c"},
		{ampdptest.Line("setreply", "250", "2.0.0", ""), "setreply=250 2.0.0 "},
		{ampdptest.Line("a.b+c d", "ü\xff~\x7f"), "a.b+c%20d=%c3%bc%ff~%7f"},
		{ampdptest.Lines("a=b", "c=d"), "a=b\r\nc=d\r\n\r\n"},
		{ampdptest.Lines(), "\r\n"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestDecodeRequest(t *testing.T) {
	tests := []struct {
		name, raw  string
		attributes string // name=value;…
		invalid    int
		complaints int
		err        string
	}{
		{"good", request, "request=AM.PDP;sender=<>;recipient=<a@b>;", 0, 0, ""},
		{"escapes", "request=AM.PDP\r\na%3d=%c3%BC%0a%25zz\r\n\r\n", "request=AM.PDP;a==ü\n%zz;", 0, 0, ""},
		{"bare LF", "request=AM.PDP\n\n", "request=AM.PDP;", 0, 1, ""},
		{"amavisd takes a colon as well", "request: AM.PDP\r\n\r\n", "request=AM.PDP;", 0, 1, ""},
		{"stray % stays", "request=AM.PDP\r\na=%zz\r\n\r\n", "request=AM.PDP;a=%zz;", 0, 1, ""},
		{"raw byte", "request=AM.PDP\r\na=\xff\r\n\r\n", "request=AM.PDP;a=\xff;", 0, 1, ""},
		{"no =", "request=AM.PDP\r\ngarbage\r\n\r\n", "request=AM.PDP;", 1, 1, ""},
		{"wrong order", "a=b\r\nrequest=AM.PDP\r\n\r\n", "a=b;request=AM.PDP;", 0, 1, ""},
		{"nothing", "\r\n", "", 0, 1, ""},
		{"no end", "request=AM.PDP\r\n", "request=AM.PDP;", 0, 0, "no end"},
		{"cut line", "request=AM.PDP\r\na=b", "request=AM.PDP;", 1, 1, "no end"},
		{"more behind", request + "x", "request=AM.PDP;sender=<>;recipient=<a@b>;", 0, 0, "1 bytes behind the end"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ampdptest.DecodeRequest([]byte(tt.raw))
			var got strings.Builder
			for _, a := range r.Attributes {
				got.WriteString(a.Name + "=" + a.Value + ";")
			}
			if got.String() != tt.attributes || len(r.Invalid) != tt.invalid || len(r.Complaints) != tt.complaints {
				t.Errorf("got %q, invalid %q, complaints %q", got.String(), r.Invalid, r.Complaints)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
	r, _ := ampdptest.DecodeRequest([]byte("a=1\r\nb=2\r\na=3\r\n\r\n"))
	if r.Get("a") != "1" || r.Get("c") != "" || !reflect.DeepEqual(r.Values("a"), []string{"1", "3"}) || r.Values("c") != nil {
		t.Errorf("Get and Values of %q", r.Attributes)
	}
}
