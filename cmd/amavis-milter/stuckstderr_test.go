package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// fullStderr returns the two ends of what a program may get as its stderr, full of
// what nobody has read.
func fullStderr(t *testing.T, pair func() ([2]int, error)) (r, w *os.File) {
	t.Helper()
	fds, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "reader"), os.NewFile(uintptr(fds[1]), "writer")
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := syscall.SetNonblock(fds[1], true); err != nil {
		t.Fatal(err)
	}
	for space := make([]byte, 4096); len(space) > 0; {
		_, err := syscall.Write(fds[1], space)
		if errors.Is(err, syscall.EAGAIN) {
			space = space[:len(space)/2] // until there is no room for a byte
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fds[1], false); err != nil {
		t.Fatal(err)
	}
	return r, w
}

func pipePair() (fds [2]int, err error) { return fds, syscall.Pipe2(fds[:], syscall.O_CLOEXEC) }

func socketPair() (fds [2]int, err error) {
	return syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
}

// TestStuckStderr: whatever becomes of stderr in the foreground, the program starts,
// mail is answered, and TERM ends it, a second one at once.
func TestStuckStderr(t *testing.T) {
	for name, pair := range map[string]func() ([2]int, error){"pipe": pipePair, "socket": socketPair} {
		launch := func(t *testing.T) (s *site, p *process, r *os.File) {
			s = newSite(t, ampdptest.Continue())
			r, w := fullStderr(t, pair)
			cmd := s.command("-f")
			cmd.Stderr = w
			p = s.launch(cmd)
			w.Close() // it is the program's alone
			s.awaitFile(s.pid)
			await(t, "it serves", s.answers)
			for range 20 {
				s.sends(t)
			}
			return s, p, r
		}
		t.Run(name+" that nobody reads", func(t *testing.T) {
			_, p, _ := launch(t)
			p.signal(syscall.SIGTERM)
			p.exits(0)
		})
		t.Run(name+", a second signal", func(t *testing.T) {
			s, p, _ := launch(t)
			if err := s.mta().SendUpTo(message(), "eom"); err != nil {
				t.Fatal(err)
			}
			await(t, "it is stored", func() bool { return s.stored() == 1 })
			p.signal(syscall.SIGTERM)
			await(t, "the end begins", func() bool { return !s.answers() })
			begin := time.Now()
			p.signal(syscall.SIGTERM)
			p.exits(0)
			if took := time.Since(begin); took > 4*time.Second { // of the 8 that one signal gives
				t.Errorf("the second signal took %v", took)
			}
		})
		t.Run(name+" that is read again", func(t *testing.T) {
			s, p, r := launch(t)
			lines := make(chan string)
			go readLog(lines, r)
			told := ""
			await(t, "it tells what was lost", func() bool {
				s.sends(t)
				select {
				case told = <-lines:
				default:
				}
				return strings.Contains(told, " warn stderr did not take log lines lost=")
			})
			p.signal(syscall.SIGTERM)
			var rest strings.Builder
			for line := range lines {
				rest.WriteString(line)
			}
			if !strings.Contains(rest.String(), "ending: messages under way may finish") || strings.Contains(rest.String(), "half a line") {
				t.Errorf("the log goes on with %q", rest.String())
			}
			p.exits(0)
		})
		t.Run(name+" whose reader has gone", func(t *testing.T) {
			s, p, r := launch(t)
			r.Close()
			for range 20 {
				s.sends(t)
			}
			p.signal(syscall.SIGTERM)
			p.exits(0)
		})
	}
}

// readLog sends whole lines of a log until its end, without what it was filled with.
func readLog(lines chan<- string, r *os.File) {
	defer close(lines)
	for reader := bufio.NewReader(r); ; {
		line, err := reader.ReadString('\n')
		if err != nil {
			if line != "" {
				lines <- fmt.Sprintf("half a line: %q", line)
			}
			return
		}
		lines <- strings.TrimLeft(line, "\x00")
	}
}

// sends sends a message, which must be accepted.
func (s *site) sends(t *testing.T) {
	t.Helper()
	m := s.mta()
	answer, err := m.SendMessage(message())
	if err != nil || answer.Code != 'a' && answer.Code != 'c' {
		t.Fatalf("%v, %v", answer, err)
	}
	if err := m.Quit(); err != nil {
		t.Error(err)
	}
}

// answers reports whether somebody listens on the site's socket.
func (s *site) answers() bool {
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
