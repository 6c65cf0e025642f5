package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// leftovers are what may lie in a message's directory beside the mail file, or
// have become of it. None of them may keep it from being removed, and precious,
// beside milter/, may not be touched.
var leftovers = []struct {
	name string
	make func(t *testing.T, msg, precious string)
}{
	{"nothing", func(*testing.T, string, string) {}},
	{"parts with files", func(t *testing.T, msg, _ string) {
		must(t, os.Mkdir(msg+"/parts", 0o750))
		for i := range 400 {
			must(t, os.WriteFile(fmt.Sprintf("%s/parts/p%03d", msg, i), []byte("x"), 0o640))
		}
	}},
	{"nested directories", func(t *testing.T, msg, _ string) {
		must(t, os.MkdirAll(msg+"/parts/rar/a/b/c", 0o750))
		must(t, os.WriteFile(msg+"/parts/rar/a/b/c/d", nil, 0o640))
	}},
	{"parts is a link", func(t *testing.T, msg, precious string) { must(t, os.Symlink(precious, msg+"/parts")) }},
	{"link within parts", func(t *testing.T, msg, precious string) {
		must(t, os.Mkdir(msg+"/parts", 0o750))
		must(t, os.Symlink(precious, msg+"/parts/up"))
		must(t, os.Symlink(precious+"/file", msg+"/parts/file"))
	}},
	{"mail file is a link", func(t *testing.T, msg, precious string) {
		must(t, os.Remove(msg+"/email.txt"))
		must(t, os.Symlink(precious+"/file", msg+"/email.txt"))
	}},
	{"mail file is a directory", func(t *testing.T, msg, _ string) {
		must(t, os.Remove(msg+"/email.txt"))
		must(t, os.MkdirAll(msg+"/email.txt/x/y", 0o750))
	}},
	{"mail file is gone", func(t *testing.T, msg, _ string) { must(t, os.Remove(msg+"/email.txt")) }},
	{"no permissions", func(t *testing.T, msg, _ string) {
		must(t, os.MkdirAll(msg+"/parts/a/b", 0o750))
		must(t, os.WriteFile(msg+"/parts/a/b/c", nil, 0))
		for _, dir := range []string{"/parts/a/b", "/parts/a", "/parts"} {
			must(t, os.Chmod(msg+dir, 0))
		}
	}},
	{"read-only", func(t *testing.T, msg, _ string) {
		must(t, os.Mkdir(msg+"/parts", 0o750))
		must(t, os.WriteFile(msg+"/parts/p001", nil, 0o400))
		must(t, os.Chmod(msg+"/parts", 0o500))
	}},
	{"the directory itself without permissions", func(t *testing.T, msg, _ string) {
		must(t, os.Mkdir(msg+"/parts", 0o750))
		must(t, os.Chmod(msg, 0))
	}},
	{"special files", func(t *testing.T, msg, _ string) {
		must(t, os.Mkdir(msg+"/parts", 0o750))
		must(t, unix.Mkfifo(msg+"/parts/fifo", 0o600))
		must(t, os.Link(msg+"/email.txt", msg+"/parts/hard"))
	}},
	{"names from an archive", func(t *testing.T, msg, _ string) {
		must(t, os.Mkdir(msg+"/parts", 0o750))
		for _, name := range []string{"-rf", "a\nb", "\xff", "...", " ", strings.Repeat("n", 255), "email.txt"} {
			must(t, os.Mkdir(msg+"/parts/"+name, 0o750))
			must(t, os.WriteFile(msg+"/parts/"+name+"/"+name, nil, 0o640))
		}
	}},
	{"deeper than any path", func(t *testing.T, msg, _ string) { makeDeep(t, msg, 1000) }},
}

// makeDeep makes directories in one another, with a file in the last one. Their
// path is longer than a path may be.
func makeDeep(t *testing.T, dir string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, openDirFlags, 0)
	must(t, err)
	for range levels {
		must(t, unix.Mkdirat(fd, "deep", 0o750))
		next, err := unix.Openat(fd, "deep", openDirFlags, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	file, err := unix.Openat(fd, "file", createFlags, 0o640)
	must(t, err)
	unix.Close(file)
	unix.Close(fd)
}

// precious makes a directory with a file in it, and checks at the end that nobody
// touched them.
func precious(t *testing.T, work string) string {
	t.Helper()
	dir := filepath.Join(work, "precious")
	must(t, os.Mkdir(dir, 0o711))
	must(t, os.WriteFile(dir+"/file", []byte("precious"), 0o604))
	t.Cleanup(func() {
		wantMode(t, dir, os.ModeDir|0o711)
		wantMode(t, dir+"/file", 0o604)
		wantFile(t, dir+"/file", "precious")
	})
	return dir
}

func TestRemoveLeftovers(t *testing.T) {
	for _, tt := range leftovers {
		t.Run(tt.name, func(t *testing.T) {
			work := workDir(t)
			keep := precious(t, work)
			s := open(t, work)
			m := seal(t, create(t, s, "Q"))
			tt.make(t, m.Dir(), keep)
			fds := openFiles(t)
			restore := limitFiles(t, fds+maxTreeDepth+16)
			err := m.Remove()
			restore()
			must(t, err)
			wantGone(t, m.Dir())
			wantNames(t, work)
			if now := openFiles(t); now != fds-1 {
				t.Errorf("%d descriptors open, %d while the message was", now, fds)
			}
			must(t, m.Remove())
			if live(s) != 0 {
				t.Errorf("%d directories live", live(s))
			}
		})
	}
}

func TestClean(t *testing.T) {
	for _, tt := range leftovers {
		t.Run(tt.name, func(t *testing.T) {
			work := workDir(t)
			keep := precious(t, work)
			s := open(t, work)
			d := create(t, s, "Q")
			must(t, d.Body([]byte("mail")))
			m := seal(t, d)
			tt.make(t, m.Dir(), keep)
			err := m.Clean()
			if strings.HasPrefix(tt.name, "mail file") {
				if !errors.Is(err, ErrTampered) {
					t.Errorf("Clean: %v, want ErrTampered", err)
				}
			} else {
				must(t, err)
				wantFile(t, m.File(), "\nmail")
				left, err := os.ReadDir(m.Dir())
				must(t, err)
				if len(left) != 1 {
					t.Errorf("left: %v", left)
				}
				must(t, m.Clean())
			}
			must(t, m.Remove())
			wantNames(t, work)
		})
	}
}

// A second request must not have half of a mail scanned.
func TestCleanFindsAnotherSize(t *testing.T) {
	for name, change := range map[string]int64{"shorter": -1, "longer": 1, "empty": -5} {
		t.Run(name, func(t *testing.T) {
			s := open(t, workDir(t))
			d := create(t, s, "Q")
			must(t, d.Body([]byte("mail")))
			m := seal(t, d)
			must(t, os.Truncate(m.File(), m.size+change))
			if err := m.Clean(); !errors.Is(err, ErrTampered) {
				t.Errorf("Clean: %v, want ErrTampered", err)
			}
			must(t, m.Remove())
		})
	}
}

func TestRemoveFindsNothing(t *testing.T) {
	work := workDir(t)
	s := open(t, work)
	m := seal(t, create(t, s, "Q"))
	must(t, os.RemoveAll(m.Dir()))
	other := seal(t, create(t, s, "Q")) // the same name, another message
	if other.Dir() != m.Dir() {
		t.Fatalf("second message in %s", other.Dir())
	}
	must(t, m.Remove())
	wantFile(t, other.File(), "\n")
	must(t, other.Remove())
	wantNames(t, work)
}

// Somebody moves the directory away and puts something else in its place: the mail
// goes, what is not ours stays.
func TestRemoveAfterSwap(t *testing.T) {
	swaps := map[string]func(t *testing.T, msg, keep string){
		"link":      func(t *testing.T, msg, keep string) { must(t, os.Symlink(keep, msg)) },
		"file":      func(t *testing.T, msg, keep string) { must(t, os.WriteFile(msg, nil, 0o600)) },
		"directory": func(t *testing.T, msg, keep string) { must(t, os.MkdirAll(msg+"/theirs", 0o750)) },
	}
	for name, swap := range swaps {
		t.Run(name, func(t *testing.T) {
			work := workDir(t)
			keep := precious(t, work)
			s := open(t, work)
			m := seal(t, create(t, s, "Q"))
			must(t, os.Rename(m.Dir(), work+"/moved"))
			swap(t, m.Dir(), keep)
			if err := m.Remove(); !errors.Is(err, ErrTampered) {
				t.Errorf("Remove: %v, want ErrTampered", err)
			}
			wantGone(t, work+"/moved/email.txt")
			if _, err := os.Lstat(m.Dir()); err != nil {
				t.Errorf("what is not ours was removed: %v", err)
			}
			must(t, m.Remove()) // our own is gone
			must(t, os.RemoveAll(m.Dir()))
		})
	}
	t.Run("nothing", func(t *testing.T) {
		work := workDir(t)
		m := seal(t, create(t, open(t, work), "Q"))
		must(t, os.Rename(m.Dir(), work+"/moved"))
		must(t, m.Remove())
		wantGone(t, work+"/moved/email.txt")
	})
}

// What belongs to another user and is closed to us cannot be removed. The error
// says whose it is; a later attempt succeeds when that has been mended.
func TestRemoveStrangersDirectory(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("an ordinary user is missing: root may do everything (TestAsOrdinaryUser runs this)")
	}
	work := workDir(t)
	s := open(t, work)
	m := seal(t, create(t, s, "Q"))
	parts := m.Dir() + "/parts"
	must(t, os.MkdirAll(parts+"/x", 0o750))
	// Without a stranger at hand: a tree that takes nobody for itself.
	s.uid = strangerUID + 1
	must(t, os.Chmod(parts, 0))
	err := m.Remove()
	if !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), fmt.Sprintf(`"./parts" (uid %d,`, os.Geteuid())) {
		t.Errorf("Remove: %v", err)
	}
	if live(s) != 0 {
		t.Errorf("%d directories live, though given up", live(s))
	}
	wantGone(t, m.File())
	must(t, os.Chmod(parts, 0o750))
	must(t, m.Remove())
	wantNames(t, work)
}

func TestRefilledDirectory(t *testing.T) {
	dir := workDir(t)
	must(t, os.WriteFile(dir+"/a", nil, 0o600))
	fd, err := unix.Open(dir, openDirFlags, 0)
	must(t, err)
	defer unix.Close(fd)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				os.WriteFile(fmt.Sprintf("%s/%d", dir, i), nil, 0o600)
			}
		}
	}()
	err = emptyDir(fd, os.Geteuid(), "") // ends, one way or the other
	close(stop)
	<-stopped
	if err != nil && !errors.Is(err, errRefilled) {
		t.Errorf("emptyDir: %v", err)
	}
	must(t, emptyDir(fd, os.Geteuid(), ""))
}

// What is put into a directory between its emptying and its removal makes both
// begin anew, a bounded number of times.
func TestRefilledBeforeRemoval(t *testing.T) {
	for refills, want := range map[int]error{0: nil, 1: nil, maxRefills - 1: nil, maxRefills: errRefilled, maxRefills + 1: errRefilled} {
		work := workDir(t)
		dir := work + "/dir"
		must(t, os.Mkdir(dir, 0o750))
		parent, err := unix.Open(work, openDirFlags, 0)
		must(t, err)
		defer unix.Close(parent)
		calls := 0
		err = removeEmptied(parent, "dir", "dir", func() error {
			must(t, os.RemoveAll(dir+"/part"))
			if calls++; calls <= refills {
				must(t, os.WriteFile(dir+"/part", nil, 0o640))
			}
			return nil
		})
		if !errors.Is(err, want) || want == nil && err != nil || calls > maxRefills {
			t.Errorf("%d refills: %v after %d calls", refills, err, calls)
		}
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) != (want == nil) {
			t.Errorf("%d refills: the directory: %v", refills, err)
		}
	}
}

// amavisd goes on unpacking while a message that it was too slow for is removed.
func TestRemoveWhileSomebodyWrites(t *testing.T) {
	const rounds, files = 100, maxRefills - 2 // never enough to keep it filled
	work := workDir(t)
	s := open(t, work)
	for range rounds {
		m := seal(t, create(t, s, "Q"))
		must(t, os.MkdirAll(m.Dir()+"/parts/rar", 0o750))
		begun, written := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(written)
			for i := range files {
				os.WriteFile(fmt.Sprintf("%s/parts/rar/p%d", m.Dir(), i), nil, 0o640)
				os.WriteFile(fmt.Sprintf("%s/p%d", m.Dir(), i), nil, 0o640)
				if i == 0 {
					close(begun)
				}
			}
		}()
		<-begun
		err := m.Remove()
		<-written
		if err != nil {
			t.Fatal(err)
		}
		wantGone(t, m.Dir())
	}
	wantNames(t, work)
}
