package milter

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	gomilter "github.com/d--j/go-milter"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// The tests of this file show, row by row, what the library does when it faces a
// socket alone, and that the server does not: if one of the first half fails, the
// library has been mended and its cure may go.

// bareEnv makes the test binary serve the bare library on the socket it names.
const bareEnv = "MILTER_TEST_BARE_LIBRARY"

func TestMain(m *testing.M) {
	if address := os.Getenv(bareEnv); address != "" {
		ln, err := net.Listen("unix", address)
		if err != nil {
			panic(err)
		}
		panic(bareServer(0).Serve(ln))
	}
	os.Exit(m.Run())
}

// bareMilter is a plain use of the library.
type bareMilter struct {
	gomilter.NoOpMilter
	body []byte
	eom  func(m gomilter.Modifier, body []byte)
}

func (b *bareMilter) Header(string, string, gomilter.Modifier) (*gomilter.Response, error) {
	return gomilter.RespContinue, nil
}
func (b *bareMilter) RcptTo(string, string, gomilter.Modifier) (*gomilter.Response, error) {
	return gomilter.RespContinue, nil
}

func (b *bareMilter) BodyChunk(p []byte, _ gomilter.Modifier) (*gomilter.Response, error) {
	b.body = append(b.body, p...)
	return gomilter.RespContinue, nil
}

func (b *bareMilter) EndOfMessage(m gomilter.Modifier) (*gomilter.Response, error) {
	if b.eom != nil {
		b.eom(m, b.body)
	}
	return gomilter.RespAccept, nil
}

func (b *bareMilter) Unknown(string, gomilter.Modifier) (*gomilter.Response, error) {
	panic("in a callback")
}

func (b *bareMilter) Helo(string, gomilter.Modifier) (*gomilter.Response, error) {
	return nil, errors.New("an error of a callback")
}

func bareServer(actions gomilter.OptAction) *gomilter.Server {
	setLibraryLog(slog.New(slog.DiscardHandler))
	return gomilter.NewServer(gomilter.WithActions(actions), gomilter.WithMilter(func() gomilter.Milter { return &bareMilter{} }))
}

// bareProcess starts the bare library in a process of its own.
func bareProcess(t *testing.T) (dial func() net.Conn, died func() bool) {
	t.Helper()
	address := filepath.Join(t.TempDir(), "bare")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), bareEnv+"="+address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	dial = func() (conn net.Conn) {
		until(t, "the bare library serves", func() (ok bool) {
			var err error
			conn, err = net.Dial("unix", address)
			return err == nil
		})
		return conn
	}
	died = func() bool {
		select {
		case <-ended:
			return strings.Contains(stderr.String(), "panic:")
		case <-time.After(2 * time.Second):
			return false
		}
	}
	return dial, died
}

var deadlyFrames = map[string]struct {
	negotiate bool
	bytes     []byte
}{
	"length 0 before OPTNEG":             {false, []byte{0, 0, 0, 0}},
	"length 0":                           {true, []byte{0, 0, 0, 0}},
	"CONNECT without NUL":                {true, miltertest.Frame('C', []byte("host"))},
	"CONNECT with nothing behind a NUL":  {true, miltertest.Frame('C', []byte("host\x00"))},
	"MAIL without NUL":                   {true, miltertest.Frame('M', []byte("<a@x>"))},
	"RCPT without NUL":                   {true, miltertest.Frame('R', []byte("<a@x>"))},
	"UNKNOWN, whose callback panics":     {true, miltertest.Frame('U', []byte("x\x00"))},
	"CONNECT, second one, without a NUL": {true, append(miltertest.Frame('C', []byte("h\x00U")), miltertest.Frame('C', []byte("host"))...)},
}

// TestDeadlyFrames: frames that end a process that serves the bare library cost
// the peer its connection and nothing else.
func TestDeadlyFrames(t *testing.T) {
	for name, c := range deadlyFrames {
		send := func(t *testing.T, conn net.Conn) {
			if c.negotiate {
				if _, err := miltertest.New(conn, miltertest.Sendmail817); err != nil {
					t.Fatal(err)
				}
			}
			conn.Write(c.bytes)
		}
		t.Run(name+"/bare", func(t *testing.T) {
			t.Parallel()
			dial, died := bareProcess(t)
			send(t, dial())
			if !died() {
				t.Error("the bare library survives this now")
			}
		})
		if c.bytes[len(c.bytes)-3] == 'U' {
			continue // TestPanics has it
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startServer(t, &testHandler{}, quickTimes())
			bystander := b.mta(t, miltertest.Postfix37)
			bystander.Greet()
			conn := b.dial(t)
			send(t, conn)
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read %d, %v; want the connection closed", n, err)
			}
			if s := b.log.String(); strings.Count(s, "does not speak the milter protocol") != 1 {
				t.Errorf("log: %s", s)
			}
			a, err := bystander.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
		})
	}
}

// TestPortScan: bytes of other protocols are no frames; the log has the peer and
// none of the bytes.
func TestPortScan(t *testing.T) {
	for name, bytes := range map[string]string{
		"http":              "GET / HTTP/1.0\r\n\r\n",
		"tls":               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"smb":               "\x00\x00\x00\x85\xffSMBr\x00\x00\x00\x00\x18\x53\xc8" + strings.Repeat("x", 200),
		"smtp":              "EHLO scanner.example\r\n",
		"512 MiB":           "\x1f\xff\xff\xffO",
		"one over":          string(binary.BigEndian.AppendUint32(nil, MaxFrameBytes+1)) + "O",
		"macro first":       string(miltertest.Frame('D', []byte("Cj\x00x\x00"))),
		"short negotiation": string(miltertest.Frame('O', []byte("\x00\x00\x00\x06"))),
		"version 1":         string(miltertest.Frame('O', []byte("\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"))),
	} {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			conn := b.dial(t)
			io.WriteString(conn, bytes)
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
				t.Errorf("read %d, %v; want the connection closed", n, err)
			}
			s := b.log.String()
			if strings.Count(s, "mta=local") != 1 || strings.Contains(s, "HTTP") || strings.Contains(s, "scanner") {
				t.Errorf("log: %s", s)
			}
		})
	}
}

// TestPortScanLog: many that speak no milter make one line a second.
func TestPortScanLog(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	start := time.Now()
	for range 50 {
		conn := b.dial(t)
		io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		conn.Read(make([]byte, 1))
	}
	most := int(time.Since(start)/time.Second) + 1
	if n := strings.Count(b.log.String(), "does not speak the milter protocol"); n < 1 || n > most {
		t.Errorf("%d log lines, want at most %d", n, most)
	}
}
