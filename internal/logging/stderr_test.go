package logging

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/amavis-milter/amavis-milter/internal/clocktest"
)

// blockingPipe returns a pipe as a shell makes it: not in non-blocking mode, so that a
// write to it blocks in the system call.
func blockingPipe(tb testing.TB) (r, w *os.File) {
	tb.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		tb.Fatal(err)
	}
	return asFile(tb, fds[0]), asFile(tb, fds[1])
}

// blockingSockets is what the system's journal gives to a service.
func blockingSockets(tb testing.TB) (r, w *os.File) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	return asFile(tb, fds[0]), asFile(tb, fds[1])
}

func pollablePipe(tb testing.TB) (r, w *os.File) {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

// terminal returns a terminal that changes nothing of what is written to it.
func terminal(tb testing.TB) (r, w *os.File) {
	tb.Helper()
	const flags = unix.O_RDWR | unix.O_NOCTTY | unix.O_CLOEXEC
	master, err := unix.Open("/dev/ptmx", flags, 0)
	if err != nil {
		tb.Skip("no terminals here: ", err)
	}
	r = asFile(tb, master)
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		tb.Fatal(err)
	}
	fd, err := unix.Open(fmt.Sprint("/dev/pts/", number), flags, 0)
	if err != nil {
		tb.Skip("no terminals here: ", err)
	}
	w = asFile(tb, fd)
	mode, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		mode.Oflag &^= unix.OPOST
		err = unix.IoctlSetTermios(fd, unix.TCSETS, mode)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return r, w
}

func asFile(tb testing.TB, fd int) *os.File {
	f := os.NewFile(uintptr(fd), "test")
	tb.Cleanup(func() { f.Close() })
	return f
}

var hangingFiles = map[string]func(tb testing.TB) (r, w *os.File){
	"pipe": blockingPipe, "socket": blockingSockets, "terminal": terminal, "pipe in non-blocking mode": pollablePipe,
}

// testStderr is a handler whose lines have numbers.
type testStderr struct {
	*Handler
	w     io.Writer
	sink  *stderrSink
	clock *clock
	sent  int
}

func newTestStderr(w io.Writer) *testStderr {
	s := &testStderr{w: w, sink: newStderrSink(w), clock: &clock{}}
	s.sink.now = s.clock.now
	s.Handler = newHandler(s.sink, slog.LevelInfo)
	return s
}

// line is a line of some length that is no part of a page.
func (s *testStderr) line() error {
	s.sent++
	return s.Handle(context.Background(), slog.NewRecord(time.Time{}, slog.LevelInfo, fmt.Sprint(s.sent, " ", strings.Repeat("x", 3000)), 0))
}

// fill writes lines until one is late because there is no room for it.
func (s *testStderr) fill(t *testing.T) {
	t.Helper()
	for s.sent < 10_000 {
		begin := time.Now()
		err := s.line()
		if err == nil {
			continue
		}
		if took := time.Since(begin); !errors.Is(err, errLate) || took < writeTimeout || took > patience {
			t.Fatalf("got %v after %v", err, took)
		}
		if isFull(t, s.w.(*os.File)) {
			return
		}
		s.settle() // the machine was slow
		s.clock.advance(retryPause)
	}
	t.Fatal("it takes everything")
}

func isFull(t *testing.T, w *os.File) bool {
	t.Helper()
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	full := false
	var failed error
	err = conn.Control(func(fd uintptr) {
		var n int
		n, failed = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 0)
		full = n == 0
	})
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return full
}

// settle waits for the end of a write that is late.
func (s *testStderr) settle() {
	s.sink.mu.Lock()
	defer s.sink.mu.Unlock()
	if s.sink.late {
		s.sink.done <- <-s.sink.done
	}
}

// readLines reads whole lines until one has an end, and returns what they begin with.
func readLines(t *testing.T, r *bufio.Reader, end string) (words []string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %q: %v", words, err)
		}
		if line, found := strings.CutSuffix(line, " "+strings.Repeat("x", 3000)+"\n"); found {
			words = append(words, line)
		} else {
			words = append(words, strings.TrimSuffix(line, "\n"))
		}
		if words[len(words)-1] == end {
			return words
		}
	}
}

// TestStderrHangs: a stderr that nobody reads costs one write timeout a second at
// most, and nothing but lines. The line that was begun is finished, and those that were
// dropped are told.
func TestStderrHangs(t *testing.T) {
	for name, open := range hangingFiles {
		t.Run(name, func(t *testing.T) {
			r, w := open(t)
			s := newTestStderr(w)
			s.fill(t)
			begun := s.sent
			for i := range 100 {
				if i == 50 { // the pause is over, but not what was begun before
					s.clock.advance(retryPause)
				}
				if err := s.line(); !errors.Is(err, errLost) {
					t.Fatalf("%v, want no attempt", err)
				}
			}
			reader := bufio.NewReader(r)
			lines := readLines(t, reader, fmt.Sprint("info ", begun))
			s.settle()
			if err := s.line(); err != nil {
				t.Fatal(err)
			}
			last := s.sent
			lines = append(lines, readLines(t, reader, fmt.Sprint("info ", last))...)
			if err := s.line(); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, readLines(t, reader, fmt.Sprint("info ", s.sent))...)
			var want []string
			for i := range begun {
				want = append(want, fmt.Sprint("info ", i+1))
			}
			want = append(want, "warn stderr did not take log lines lost=100", fmt.Sprint("info ", last), fmt.Sprint("info ", last+1))
			if got, want := strings.Join(lines, "\n"), strings.Join(want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestStderrIsSlow: a reader that takes a line now and then does not get one after the
// other, each waited for.
func TestStderrIsSlow(t *testing.T) {
	r, w := blockingPipe(t)
	s := newTestStderr(w)
	s.fill(t)
	reader := bufio.NewReader(r)
	readLines(t, reader, fmt.Sprint("info ", s.sent))
	s.settle()
	s.clock.advance(retryPause / 2)
	if err := s.line(); !errors.Is(err, errLost) {
		t.Errorf("in the pause: %v", err)
	}
	s.clock.advance(retryPause / 2)
	if err := s.line(); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	if got := readLines(t, reader, fmt.Sprint("info ", s.sent)); len(got) != 2 || !strings.HasSuffix(got[0], " lost=1") {
		t.Errorf("got %q", got)
	}
}

// TestStderrHangsForMany: whoever comes while one waits does not wait after him, and
// no two lines run into each other, before and after somebody reads.
func TestStderrHangsForMany(t *testing.T) {
	const writers, lines = 16, 100
	for name, open := range hangingFiles {
		t.Run(name, func(t *testing.T) {
			r, w := open(t)
			s := newTestStderr(w)
			log, pad := slog.New(s), strings.Repeat("x", 1000)
			logAll := func() {
				var all sync.WaitGroup
				for range writers {
					all.Go(func() {
						for range lines {
							log.Info("m", "pad", pad)
						}
					})
				}
				all.Wait()
			}
			s.fill(t)
			begin := time.Now()
			logAll()
			if took := time.Since(begin); took > patience {
				t.Errorf("took %v", took)
			}
			var read sync.WaitGroup
			read.Go(func() {
				all, err := io.ReadAll(r)
				if err != nil && !errors.Is(err, syscall.EIO) { // the end of a terminal
					t.Error(err)
				}
				checkLines(t, string(all), pad)
			})
			s.settle()
			s.clock.advance(retryPause)
			logAll()
			s.settle()
			w.Close()
			read.Wait()
		})
	}
}

// checkLines checks that a text is lines of tests and what tells that some were lost.
func checkLines(t *testing.T, text, pad string) {
	t.Helper()
	notices, paddings := 0, 0
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "info ") && strings.HasSuffix(line, " "+strings.Repeat("x", 3000)+"\n"):
		case strings.HasSuffix(line, " info m pad="+pad+"\n"):
			paddings++
		case strings.Contains(line, " warn stderr did not take log lines lost=") && strings.HasSuffix(line, "\n"):
			notices++
		default:
			t.Errorf("got %.60q", line)
		}
	}
	if notices == 0 || paddings == 0 {
		t.Errorf("%d notices, %d lines", notices, paddings)
	}
}

// TestStderrReaderGone: a pipe whose reader has gone, while a line waits and before one
// comes, costs no time; the lines are counted.
func TestStderrReaderGone(t *testing.T) {
	for name, open := range hangingFiles {
		t.Run(name, func(t *testing.T) {
			r, w := open(t)
			s := newTestStderr(w)
			s.fill(t)
			r.Close()
			s.settle()
			s.clock.advance(retryPause)
			for range 10 {
				if err := s.line(); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.EIO) {
					t.Fatalf("got %v", err)
				}
			}
			if s.sink.lost != 11 {
				t.Errorf("lost=%d, want the one that was begun and ten", s.sink.lost)
			}
		})
	}
}

// shortWriter takes so many bytes, and no more after that until it is told so.
type shortWriter struct {
	strings.Builder
	room int
}

func (w *shortWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.room)
	w.room -= n
	w.Builder.Write(p[:n])
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// TestStderrTorn: where the disk was full within a line the next one does not run into
// it, and one that tells of lost lines is not told twice.
func TestStderrTorn(t *testing.T) {
	const notice = "warn stderr did not take log lines lost=2\n"
	for _, tt := range []struct {
		name  string
		rooms []int // for each line
		want  string
	}{
		{"none", []int{100, 0, 0, 100}, "info a\n" + notice + "info d\n"},
		{"within a line", []int{3, 0, 100, 100}, "inf\n" + notice + "info c\ninfo d\n"},
		{"within a line twice", []int{3, 3, 100, 100}, "inf\nwa\n" + notice + "info c\ninfo d\n"},
		{"before the end of a line", []int{6, 0, 100, 100}, "info a\n" + notice + "info c\ninfo d\n"},
		{"the end of a torn line only", []int{3, 1, 100, 100}, "inf\n" + notice + "info c\ninfo d\n"},
		{"after the notice", []int{0, 0, len(notice), 100}, notice + "warn stderr did not take log lines lost=1\ninfo d\n"},
		{"behind the notice", []int{0, 0, len(notice) + 2, 100}, notice + "in\nwarn stderr did not take log lines lost=1\ninfo d\n"},
	} {
		w := &shortWriter{}
		s := newTestStderr(w)
		for i, room := range tt.rooms {
			w.room = room
			_ = s.Handle(t.Context(), slog.NewRecord(time.Time{}, slog.LevelInfo, string("abcd"[i]), 0))
		}
		if got := w.String(); got != tt.want {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

// TestStderrRegularFile: a regular file is written in the caller.
func TestStderrRegularFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := newTestStderr(file)
	if s.sink.done != nil {
		t.Error("it is taken for one that hangs")
	}
	for range 3 {
		if err := s.line(); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "\n") != 3 {
		t.Errorf("got %.100q, %v", text, err)
	}
	file.Close()
	if err := s.line(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// Lines go to stderr again when the pause is over, however the clock was set meanwhile.
func TestClockStepAndStderr(t *testing.T) {
	for _, step := range clocktest.Steps {
		t.Run(step.String(), func(t *testing.T) {
			r, w := blockingPipe(t)
			go io.Copy(io.Discard, r)
			s := newTestStderr(w)
			s.sink.now = time.Now
			s.sink.downUntil = clocktest.BeforeStep(t, time.Now().Add(time.Minute), step)
			if err := s.line(); !errors.Is(err, errLost) {
				t.Errorf("in the pause: %v", err)
			}
			s.sink.downUntil = clocktest.BeforeStep(t, time.Now(), step)
			if err := s.line(); err != nil {
				t.Errorf("after the pause: %v", err)
			}
		})
	}
}
