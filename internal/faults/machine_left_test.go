package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

const (
	// deepLevels and manyFiles are more than a walk with a few descriptors, or one read
	// of a directory, takes in.
	deepLevels, manyFiles = 200, 1000

	precious = "nobody may touch this"
)

// A leftover is what amavisd, or an archive that it unpacked, leaves in a message's
// directory. Outside of it lies a directory with a file that must stay as it is.
type leftover struct {
	name string
	// own says that the program's account has made it, as amavisd's is the same.
	own  bool
	make func(dir, outside string) error
}

func leftovers() []leftover {
	closed := os.FileMode(0)
	if os.Geteuid() != 0 {
		closed = 0o300 // the amavisd of this test has to read the mail
	}
	return []leftover{
		{"many files", true, func(dir, _ string) error {
			err := os.Mkdir(dir+"/parts", 0o750)
			for i := range manyFiles {
				err = errors.Join(err, os.WriteFile(fmt.Sprintf("%s/parts/p%04d", dir, i), nil, 0o640))
			}
			return err
		}},
		{"a deep tree", true, func(dir, _ string) error {
			for range deepLevels {
				dir += "/d"
			}
			return errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(dir+"/file", nil, 0o640))
		}},
		{"links to outside", true, func(dir, outside string) error {
			return errors.Join(os.Mkdir(dir+"/parts", 0o750), os.Symlink(outside, dir+"/parts/up"), os.Symlink(outside+"/file", dir+"/parts/file"),
				os.Symlink(outside, dir+"/link"), os.Symlink("/", dir+"/root"), os.Symlink("loop", dir+"/loop"))
		}},
		{"unreadable directories", true, func(dir, _ string) error {
			return errors.Join(os.MkdirAll(dir+"/parts/a/b", 0o750), os.WriteFile(dir+"/parts/a/b/c", nil, 0),
				os.Chmod(dir+"/parts/a/b", 0), os.Chmod(dir+"/parts/a", 0), os.Chmod(dir+"/parts", 0))
		}},
		{"special files", true, func(dir, _ string) error {
			return errors.Join(unix.Mkfifo(dir+"/fifo", 0o600), os.Link(dir+"/email.txt", dir+"/hard"),
				os.WriteFile(dir+"/sticky", nil, 0o4755|os.ModeSetuid), os.Mkdir(dir+"/...", 0o750), os.Mkdir(dir+"/a\nb\xff", 0o750))
		}},
		{"its own directory closed", true, func(dir, _ string) error { return os.Chmod(dir, closed) }},
		{"root's empty directory", false, func(dir, _ string) error { return os.Mkdir(dir+"/parts", 0o700) }},
	}
}

// leftoverCases are what becomes of it: amavisd replies, or has died and is asked once
// more, or the program is killed and started again.
func leftoverCases() []faultCase {
	var cases []faultCase
	for _, what := range leftovers() {
		whole := stage{name: what.name, phase: waiting, reach: func(l *liveStage) error { return l.scanningLeft(what, goodIfWhole) }}
		dies := whole
		dies.reach = func(l *liveStage) error { return l.scanningLeft(what, ampdptest.HangUp()) }
		finish := func(l *machine) error {
			if err := l.finishes(goodVerdict); err != nil {
				return err
			}
			return errors.Join(l.wantPrecious(), l.recovers())
		}
		cases = append(cases,
			machineCase(whole, "amavisd replies", finish),
			machineCase(dies, "amavisd dies", finish),
			machineCase(whole, "KILL", func(l *machine) error {
				if err := l.d.signal(syscall.SIGKILL); err != nil {
					return err
				}
				if err := l.d.exits(-1); err != nil {
					return err
				}
				l.resume()
				if err := l.d.start(); err != nil {
					return err
				}
				if err := l.wantPrecious(); err != nil {
					return err
				}
				if err := l.d.check(nil); err != nil {
					return err
				}
				return l.d.stop()
			}))
	}
	return cases
}

// scanningLeft waits until amavisd has left something in the message's directory, under
// its account, which is the program's. It goes on with h when it is let.
func (l *liveStage) scanningLeft(what leftover, h ampdptest.Handler) error {
	outside := filepath.Join(l.d.dir, "outside")
	if err := errors.Join(os.Mkdir(outside, 0o711), os.WriteFile(outside+"/file", []byte(precious), 0o604)); err != nil {
		return err
	}
	made := make(chan error, 1)
	first := func(c *ampdptest.Conn) {
		request, err := c.ReadRequest()
		if err != nil {
			return
		}
		err = what.make(request.Get("tempdir"), outside)
		if err == nil && what.own {
			err = giveAll(request.Get("tempdir"))
		}
		made <- err
		select {
		case <-l.release:
			c.Unread(request)
			h(c)
		case <-c.Done():
		}
	}
	if err := l.scanning(ampdptest.Script(first, goodIfWhole)); err != nil {
		return err
	}
	return <-made
}

// giveAll gives all that lies in a directory to the account of the program.
func giveAll(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var owner unix.Stat_t
	if err := unix.Stat(dir, &owner); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, int(owner.Uid), int(owner.Gid))
		}
		return err
	})
}

// wantPrecious looks after what lies outside of the spool.
func (l *machine) wantPrecious() error {
	outside := filepath.Join(l.d.dir, "outside")
	text, err := os.ReadFile(outside + "/file")
	if err != nil || string(text) != precious {
		return fmt.Errorf("what lies outside holds %q, error %v", text, err)
	}
	for path, want := range map[string]fs.FileMode{outside: fs.ModeDir | 0o711, outside + "/file": 0o604} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			return fmt.Errorf("%s: %v, error %v", path, info.Mode(), err)
		}
	}
	return nil
}
