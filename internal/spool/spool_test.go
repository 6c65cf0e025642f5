package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCloseRemovesWhatIsOpen(t *testing.T) {
	work := workDir(t)
	fds := openFiles(t)
	s := open(t, work)
	d := create(t, s, "draft")
	must(t, d.Body(make([]byte, 3*largeBuffer)))
	create(t, s, "untouched")
	m := seal(t, create(t, s, "sealed"))
	must(t, os.MkdirAll(m.Dir()+"/parts/x", 0o750))
	must(t, seal(t, create(t, s, "removed")).Remove())
	if live(s) != 3 {
		t.Errorf("%d directories live, want 3", live(s))
	}
	must(t, s.Close())
	wantNames(t, work)
	if live(s) != 0 {
		t.Errorf("%d directories live after Close", live(s))
	}
	if now := openFiles(t); now != fds {
		t.Errorf("%d descriptors open, %d before", now, fds)
	}
	wantDead(t, d, ErrRemoved)
	if _, err := s.Create("late"); !errors.Is(err, ErrClosed) {
		t.Errorf("Create after Close: %v", err)
	}
	must(t, s.Close())
	must(t, d.Remove())
	must(t, m.Remove())
}

func TestCloseGivesUpTheLock(t *testing.T) {
	work := workDir(t)
	must(t, open(t, work).Close())
	f, err := os.Open(work + "/milter/.lock")
	must(t, err)
	defer f.Close()
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}

func TestLockIsHeldWhileOpen(t *testing.T) {
	work := workDir(t)
	open(t, work)
	f, err := os.Open(work + "/milter/.lock")
	must(t, err)
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("an exclusive lock beside ours: %v", err)
	}
	must(t, unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB))
}

// A directory that cannot be removed neither counts as live nor keeps Close from
// giving everything back; Close tries again and tells.
func TestCloseTriesAgain(t *testing.T) {
	for _, mended := range []bool{true, false} {
		work := workDir(t)
		fds := openFiles(t)
		s := open(t, work)
		m := seal(t, create(t, s, "Q"))
		must(t, os.Rename(m.Dir(), work+"/moved"))
		must(t, os.WriteFile(m.Dir(), nil, 0o600))
		if err := m.Remove(); err == nil {
			t.Fatal("Remove: no error")
		}
		if live(s) != 0 {
			t.Errorf("%d directories live", live(s))
		}
		if mended {
			must(t, os.Remove(m.Dir()))
		}
		must(t, s.Close()) // our own directory is gone in both cases
		if now := openFiles(t); now != fds {
			t.Errorf("%d descriptors open, %d before", now, fds)
		}
	}
}

func TestCloseTellsWhatItCannotRemove(t *testing.T) {
	work := workDir(t)
	fds := openFiles(t)
	s, err := Open(work, Options{})
	must(t, err)
	m := seal(t, create(t, s, "Q"))
	must(t, os.Rename(m.Dir(), work+"/moved"))
	must(t, os.WriteFile(m.Dir(), nil, 0o600))
	if err := s.Close(); !errors.Is(err, ErrTampered) || !strings.Contains(err.Error(), m.Dir()) {
		t.Errorf("Close: %v, want ErrTampered and the path", err)
	}
	wantGone(t, work+"/moved/email.txt")
	if now := openFiles(t); now != fds {
		t.Errorf("%d descriptors open, %d before", now, fds)
	}
	must(t, m.Remove()) // given up: nothing is left to do
}

// 1,000 messages, a third of them removed before they are complete, by several at
// once: no descriptor and no directory is left, and no memory is held.
func TestManyMessages(t *testing.T) {
	work := workDir(t)
	s := open(t, work)
	fds := openFiles(t)
	body := make([]byte, 3*largeBuffer)
	var next, most atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := next.Add(1); i <= 1000; i = next.Add(1) {
				d, err := s.Create(fmt.Sprintf("Q%d", i%50))
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), int64(live(s))))
				d.Header("Subject", " x")
				d.Body(body[:int(i)*len(body)/1000])
				if i%3 == 0 {
					if err := d.Remove(); err != nil {
						t.Error(err)
					}
					continue
				}
				m, err := d.Seal()
				if err != nil {
					t.Error(err)
					return
				}
				if st, err := os.Stat(m.File()); err != nil || st.Size() != m.size {
					t.Errorf("%s: %v, %d bytes written", m.File(), err, m.size)
				}
				if err := errors.Join(m.Clean(), m.Remove(), d.Remove()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	if now := openFiles(t); now != fds {
		t.Errorf("%d descriptors open, %d before", now, fds)
	}
	if live(s) != 0 || most.Load() == 0 {
		t.Errorf("%d directories live, %d at most", live(s), most.Load())
	}
	if s.home.refs != 1 {
		t.Errorf("milter/ is held %d times", s.home.refs)
	}
	wantNames(t, work)
}

// Close while others create, write, seal and remove: whoever comes second finds
// everything in order, and nothing is left.
func TestCloseAmidTraffic(t *testing.T) {
	work := workDir(t)
	fds := openFiles(t)
	s := open(t, work)
	var workers sync.WaitGroup
	started := make(chan struct{}, 8)
	for range 8 {
		workers.Go(func() {
			for i := 0; ; i++ {
				d, err := s.Create("Q")
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Errorf("Create: %v", err)
					}
					return
				}
				if i == 0 {
					started <- struct{}{}
				}
				for range 20 {
					d.Body(make([]byte, largeBuffer/4))
				}
				if m, err := d.Seal(); err == nil {
					if err := m.Remove(); err != nil {
						t.Errorf("Remove: %v", err)
					}
				} else if !errors.Is(err, ErrRemoved) {
					t.Errorf("Seal: %v", err)
				}
				d.Remove()
			}
		})
	}
	for range 8 {
		<-started
	}
	must(t, s.Close())
	workers.Wait()
	wantNames(t, work)
	if now := openFiles(t); now != fds {
		t.Errorf("%d descriptors open, %d before", now, fds)
	}
}

// An administrator clears amavisd's directory while we run: the next message makes
// milter/ anew, and what was open goes on to its own end.
func TestMilterDirectoryRemoved(t *testing.T) {
	work := workDir(t)
	fds := openFiles(t)
	log, text := logged()
	s, err := Open(work, Options{Log: log})
	must(t, err)
	old := create(t, s, "old")
	must(t, os.RemoveAll(work+"/milter"))

	var made sync.WaitGroup
	for i := range 8 {
		made.Go(func() {
			d, err := s.Create(fmt.Sprintf("new%d", i))
			if err != nil {
				t.Error(err)
				return
			}
			m, err := d.Seal()
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(m.File()); err != nil {
				t.Error(err)
			}
			if err := m.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
	made.Wait()
	if n := strings.Count(text.String(), "made again"); n != 1 {
		t.Errorf("told %d times: %s", n, text)
	}
	wantMode(t, work+"/milter", os.ModeDir|0o750)
	if _, err := old.Seal(); err == nil {
		t.Error("a message whose directory is gone was sealed")
	}
	must(t, old.Remove())

	other := open(t, work) // finds a lock that is held: no sweep
	if other.home.alone {
		t.Error("the new milter/ is not locked")
	}
	must(t, other.Close())
	must(t, s.Close())
	if now := openFiles(t); now != fds {
		t.Errorf("%d descriptors open, %d before", now, fds)
	}
}

func TestWorkDirectoryRemoved(t *testing.T) {
	work := workDir(t)
	s := open(t, work)
	fds := openFiles(t)
	must(t, os.RemoveAll(work))
	for range 3 {
		_, err := s.Create("Q")
		wantSetupError(t, err, KindConfig, "does not exist")
	}
	must(t, os.Mkdir(work, 0o750))
	must(t, os.Chmod(work, 0o757))
	_, err := s.Create("Q")
	wantSetupError(t, err, KindConfig, "writable by everybody")
	must(t, os.Chmod(work, 0o750))
	must(t, seal(t, create(t, s, "Q")).Remove())
	if now := openFiles(t); now != fds {
		t.Errorf("%d descriptors open, %d before", now, fds)
	}
}

// Out of descriptors: Create and Seal say so and leave nothing, and removal, which
// needs none, works.
func TestOutOfDescriptors(t *testing.T) {
	work := workDir(t)
	s := open(t, work)
	m := seal(t, create(t, s, "sealed"))
	d := create(t, s, "draft")
	must(t, d.Body([]byte("x")))

	restore := limitFiles(t, 3)
	_, createErr := s.Create("none")
	_, sealErr := d.Seal()
	removeErr := m.Remove()
	restore()

	if !errors.Is(createErr, unix.EMFILE) || !errors.Is(sealErr, unix.EMFILE) {
		t.Errorf("Create: %v; Seal: %v; want EMFILE", createErr, sealErr)
	}
	must(t, removeErr)
	wantNames(t, work)
}
