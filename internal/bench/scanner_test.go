package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

func newTestScanner(t *testing.T) *Scanner {
	t.Helper()
	s, err := NewScanner(newTestLoop(t), Endpoint{"unix", filepath.Join(t.TempDir(), "amavisd.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestScannerReply: the reply is one of AM.PDP and says what is Told.
func TestScannerReply(t *testing.T) {
	t.Parallel()
	r, err := ampdp.ReadReply(strings.NewReader(string(reply)), ampdp.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if r.ReturnValue != ampdp.Continue || len(r.Edits) != len(Told) || len(r.Unknown) > 0 {
		t.Fatalf("the reply is %+v", r)
	}
	for i, e := range r.Edits {
		if add, ok := e.(ampdp.AddHeader); !ok || add.Name != Told[i][0] || add.Value != Told[i][1] {
			t.Errorf("edit %d is %+v, want %q", i, e, Told[i])
		}
	}
}

// TestScanner: requests that come at once, in pieces, several on a connection; and what is
// none.
func TestScanner(t *testing.T) {
	t.Parallel()
	whole := string(request)
	for _, c := range []struct {
		name   string
		pieces []string
		want   int // replies
		wrong  int
	}{
		{"at once", []string{whole}, 1, 0},
		{"in two", []string{whole[:20], whole[20:]}, 1, 0},
		{"byte by byte", strings.Split(whole, ""), 1, 0},
		{"bare LF", []string{strings.ReplaceAll(whole, "\r\n", "\n")}, 1, 0},
		{"something else", []string{"EHLO x\r\n\r\n"}, 1, 1},
		{"broken off", []string{whole[:50]}, 0, 1},
		{"nothing", nil, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newTestScanner(t)
			conn, err := net.Dial("unix", s.At.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, p := range c.pieces {
				if _, err := conn.Write([]byte(p)); err != nil {
					t.Fatal(err)
				}
			}
			got := make([]byte, c.want*len(reply))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != strings.Repeat(string(reply), c.want) {
				t.Errorf("the replies are %q, error %v", got, err)
			}
			conn.Close()
			if err := poll(waitLimit, func() error {
				if all, wrong := s.Requests(); all != c.want || wrong != c.wrong {
					return fmt.Errorf("%d requests, %d wrong; want %d and %d", all, wrong, c.want, c.wrong)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestScannerOverTCP: a port is chosen, and told.
func TestScannerOverTCP(t *testing.T) {
	t.Parallel()
	s, err := NewScanner(newTestLoop(t), Endpoint{"tcp", "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := ask(s.At, "/nonexistent"); err != nil {
		t.Error(err)
	}
	if all, wrong := s.Requests(); all != 1 || wrong != 0 {
		t.Errorf("%d requests, %d wrong", all, wrong)
	}
}

// TestScannerConnections: of the connections that it has answered it keeps so many open and
// no more. It runs alone, for it counts the descriptors of this process.
func TestScannerConnections(t *testing.T) {
	s := newTestScanner(t)
	before := descriptorsOpen(t)
	for i := range 2*lingering + 3 {
		conn, err := net.Dial("unix", s.At.Address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(request)
		got := make([]byte, len(reply))
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conn.Close()
	}
	if after := descriptorsOpen(t); after > before+lingering {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
	if all, wrong := s.Requests(); all != 2*lingering+3 || wrong > 0 {
		t.Errorf("%d requests, %d wrong", all, wrong)
	}
}

func descriptorsOpen(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestExamine: the mail file of a request is read, whatever its name.
func TestExamine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a file.txt")
	if err := os.WriteFile(path, []byte("its text"), 0o600); err != nil {
		t.Fatal(err)
	}
	encoded := strings.ReplaceAll(path, " ", "%20")
	for _, c := range []struct{ line, want, err string }{
		{"mail_file=" + encoded, "its text", ""},
		{"mail_file=" + encoded + "x", "", "no such file"},
		{"other=1", "", "without mail_file"},
	} {
		text, err := mailFile([]byte("request=AM.PDP\r\n" + c.line + "\r\n\r\n"))
		if string(text) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, error %v", c.line, text, err)
		}
	}
}

// TestSameMail: a Received field may stand before the mail, and nothing else.
func TestSameMail(t *testing.T) {
	t.Parallel()
	const mail = "Subject: x\n\nbody\n"
	for _, c := range []struct {
		file string
		same bool
	}{
		{mail, true},
		{"Received: from a\n\tby b; date\n" + mail, true},
		{"Received: from a\n" + mail, true},
		{"Received: from a\nX-Other: b\n" + mail, false},
		{"X-Other: b\n" + mail, false},
		{"Received: from a\n" + mail + "\n", false},
		{"Received: from a\n" + mail[1:], false},
		{"", false},
	} {
		if err := sameMail([]byte(c.file), []byte(mail)); (err == nil) != c.same {
			t.Errorf("%q: %v", c.file, err)
		}
	}
}

// TestVerify: what a milter spools is compared with what was sent.
func TestVerify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		file func([]byte) []byte
		say  string
	}{
		{"right", func(p []byte) []byte { return p }, ""},
		{"another byte", func(p []byte) []byte { q := slices.Clone(p); q[len(q)-2]++; return q }, "mail file of message 1"},
		{"no request", nil, "of 2 messages 0 were scanned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			scanner := newTestScanner(t)
			mail := NewMail(2000)
			path := filepath.Join(t.TempDir(), "email.txt")
			milter := &scripted{protocol: testNoReplies, answer: func(event byte, _ []byte) []byte {
				if event != 'E' {
					return nil
				}
				if c.file != nil {
					if err := errors.Join(os.WriteFile(path, c.file(mail.file()), 0o600), ask(scanner.At, path)); err != nil {
						t.Error(err)
					}
				}
				return rightEnd
			}}
			l := NewLoad(scanner.loop, Postfix, mail, milter.listen(t))
			if err := l.Open(1); err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := fmt.Sprint(Verify(l, scanner, 2)); c.say == "" && err != "<nil>" || !strings.Contains(err, c.say) {
				t.Errorf("error %q, want %q", err, c.say)
			}
		})
	}
}

// ask sends a request for a mail file and reads the reply.
func ask(to Endpoint, path string) error {
	conn, err := net.Dial(to.Network, to.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "request=AM.PDP\r\nmail_file=%s\r\n\r\n", path); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, len(reply)))
	return err
}
