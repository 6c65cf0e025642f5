package spool

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What other local users may have put in our way, who can write to the work directory,
// or could to milter/ before it was ours.

// The lock is a plain file of ours with no other name. Anything else is refused with
// the reason and left as it is.
func TestLockIsNotOurs(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(t *testing.T, lock, precious string)
		text  string
		root  bool
	}{
		"pipe":        {func(t *testing.T, lock, _ string) { must(t, unix.Mkfifo(lock, 0o666)) }, "is not a plain file of this account alone", false},
		"second name": {func(t *testing.T, lock, precious string) { must(t, os.Link(precious+"/file", lock)) }, "mode 0604, 2 names", false},
		"link":        {func(t *testing.T, lock, precious string) { must(t, os.Symlink(precious+"/file", lock)) }, "cannot be opened", false},
		"dead link":   {func(t *testing.T, lock, precious string) { must(t, os.Symlink(precious+"/none", lock)) }, "cannot be opened", false},
		"directory":   {func(t *testing.T, lock, _ string) { must(t, os.Mkdir(lock, 0o750)) }, "cannot be opened", false},
		"device":      {func(t *testing.T, lock, _ string) { must(t, unix.Mknod(lock, unix.S_IFCHR|0o666, 1<<8|3)) }, "is not a plain file", true},
		"a stranger's": {func(t *testing.T, lock, _ string) {
			must(t, os.WriteFile(lock, nil, 0o666))
			must(t, os.Chown(lock, strangerUID, 0))
		}, "(uid 54321,", true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root {
				needRoot(t, "make devices and files of others")
			}
			work := workDir(t)
			keep := precious(t, work)
			must(t, os.Mkdir(work+"/milter", 0o777))
			lock := work + "/milter/.lock"
			c.plant(t, lock, keep)
			before, err := os.Lstat(lock)
			must(t, err)
			fds := openFiles(t)
			_, err = Open(work, Options{})
			var setup *SetupError
			if !errors.As(err, &setup) || !strings.Contains(err.Error(), ".lock "+c.text) && !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), "remove it") {
				t.Errorf("Open: %v", err)
			}
			if now := openFiles(t); now != fds {
				t.Errorf("%d descriptors open, %d before", now, fds)
			}
			wantMode(t, lock, before.Mode())
			wantGone(t, keep+"/none")
			must(t, os.Remove(lock))
			open(t, work)
			wantMode(t, lock, lockMode)
		})
	}
}

// From its making on nothing of ours has a wider mode than in the end, though no
// umask helps.
func TestNothingIsEverWider(t *testing.T) {
	work := workDir(t)
	defer unix.Umask(unix.Umask(0))
	dir, err := unix.Open(work, openDirFlags, 0)
	must(t, err)
	defer unix.Close(dir)

	stop, stopped := make(chan struct{}), make(chan struct{})
	var wrong []string
	go func() {
		defer close(stopped)
		most := map[string]uint32{"milter": dirMode, "milter/.lock": lockMode, "milter/amavis-milter-Q": dirMode, "milter/amavis-milter-Q/email.txt": fileMode}
		for {
			for name, mode := range most {
				if st, err := lstatat(dir, name); err == nil && st.Mode&permBits&^mode != 0 {
					wrong = append(wrong, name+" "+owner(st))
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 200 {
		s, err := Open(work, Options{})
		must(t, err)
		d := create(t, s, "Q")
		must(t, d.Body(make([]byte, 2*largeBuffer)))
		must(t, seal(t, d).Remove())
		must(t, s.Close())
		must(t, os.RemoveAll(work+"/milter"))
	}
	close(stop)
	<-stopped
	if len(wrong) > 0 {
		t.Errorf("seen %d times: %s", len(wrong), wrong[0])
	}

	// The same where chance has no part: before the modes are set.
	s := open(t, work)
	name, err := makeName(s.home, "Q")
	must(t, err)
	wantMode(t, work+"/milter/"+name, os.ModeDir|dirMode)
	must(t, os.Remove(work+"/milter/"+name))
	d := create(t, s, "Q")
	must(t, d.Body(make([]byte, 2*largeBuffer)))
	wantMode(t, d.entry.path+"/"+mailFile, fileMode)
	must(t, d.Remove())
}

// Bits that milter/ brings along go, but for the one that hands its group down.
func TestModeOfMilterIsMended(t *testing.T) {
	work := workDir(t)
	must(t, os.Chmod(work, 0o770|os.ModeSticky))
	must(t, os.Mkdir(work+"/milter", 0o750))
	for mode, want := range map[uint32]os.FileMode{0o777: 0o750, 0o1777: 0o750, 0o4755: 0o750, 0o7777: 0o750 | os.ModeSetgid, 0: 0o750, 0o2000: 0o750 | os.ModeSetgid} {
		must(t, unix.Chmod(work+"/milter", mode))
		must(t, open(t, work).Close())
		wantMode(t, work+"/milter", os.ModeDir|want)
	}
}

// Second names of somebody's files, in milter/ and in a message's directory: the
// file and its mode stay.
func TestSecondNames(t *testing.T) {
	work := workDir(t)
	keep := precious(t, work)
	must(t, os.MkdirAll(work+"/milter/amavis-milter-dead/parts", 0o750))
	for _, name := range []string{"amavis-milter-name", "amavis-milter-dead/email.txt", "amavis-milter-dead/parts/p001"} {
		must(t, os.Link(keep+"/file", work+"/milter/"+name))
	}
	s := open(t, work)
	wantNames(t, work, "amavis-milter-name") // no directory, so none of ours

	m := seal(t, create(t, s, "name"))
	if m.Dir() == work+"/milter/amavis-milter-name" {
		t.Errorf("a message in %s", m.Dir())
	}
	must(t, os.Link(keep+"/file", m.Dir()+"/other"))
	must(t, m.Clean())
	wantGone(t, m.Dir()+"/other")
	must(t, os.Remove(m.File()))
	must(t, os.Link(keep+"/file", m.Dir()+"/email.txt"))
	must(t, m.Remove())
	d := create(t, s, "Q")
	must(t, os.Link(keep+"/file", d.entry.path+"/email.txt"))
	if _, err := d.Seal(); !errors.Is(err, unix.EEXIST) {
		t.Errorf("Seal: %v", err)
	}
	must(t, os.Remove(work+"/milter/amavis-milter-name"))
}

// A stranger who could write to milter/ before it was ours has left a directory under
// a name that a message will get: it stays his, and empty.
func TestPlantedDirectory(t *testing.T) {
	needRoot(t, "chown")
	work := workDir(t)
	planted := work + "/milter/amavis-milter-Q"
	must(t, os.MkdirAll(planted, 0o777))
	must(t, os.Chmod(planted, 0o777))
	must(t, os.Chown(planted, strangerUID, strangerGID))
	s := open(t, work)
	m := seal(t, create(t, s, "Q"))
	if m.Dir() == planted {
		t.Error("the message is in the stranger's directory")
	}
	must(t, m.Remove())
	wantNames(t, work, "amavis-milter-Q")
	wantMode(t, planted, os.ModeDir|0o777)
	if left, err := os.ReadDir(planted); err != nil || len(left) != 0 {
		t.Errorf("in the stranger's directory: %v, %v", left, err)
	}
}

// Somebody moves milter/ away while we run, and puts something in its place. The next
// message goes where amavisd looks for it, or is refused if that is not ours; nothing
// is put into what is not ours, and what lies in the old one goes.
func TestMilterDirectoryReplaced(t *testing.T) {
	for name, c := range map[string]struct {
		replace func(t *testing.T, milter, precious string)
		text    string // of the refusal; "" for none
		root    bool
	}{
		"by nothing":     {func(*testing.T, string, string) {}, "", false},
		"by one of ours": {func(t *testing.T, milter, _ string) { must(t, os.Mkdir(milter, 0o777)) }, "", false},
		"by a link":      {func(t *testing.T, milter, precious string) { must(t, os.Symlink(precious, milter)) }, "is not a directory, or a link", false},
		"by a file":      {func(t *testing.T, milter, _ string) { must(t, os.WriteFile(milter, nil, 0o600)) }, "is not a directory, or a link", false},
		"by a stranger's": {func(t *testing.T, milter, _ string) {
			must(t, os.Mkdir(milter, 0o777))
			must(t, os.Chown(milter, strangerUID, strangerGID))
		}, "belongs to uid 54321", true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root {
				needRoot(t, "chown")
			}
			work := workDir(t)
			keep := precious(t, work)
			milter := work + "/milter"
			log, text := logged()
			s, err := Open(work, Options{Log: log})
			must(t, err)
			fds := openFiles(t)
			old := seal(t, create(t, s, "old"))
			must(t, os.Rename(milter, work+"/moved"))
			c.replace(t, milter, keep)
			s.homeSeen = time.Now().Add(-homeAge)
			for range 3 {
				d, err := s.Create("new")
				if c.text != "" {
					wantSetupError(t, err, KindConfig, c.text)
					continue
				}
				must(t, err)
				m := seal(t, d)
				wantMode(t, milter, os.ModeDir|dirMode)
				wantFile(t, m.File(), "\n")
				must(t, m.Remove())
			}
			if n := strings.Count(text.String(), "moved away"); n != 1 && c.text == "" {
				t.Errorf("told %d times: %s", n, text)
			}
			wantGone(t, work+"/moved/amavis-milter-new")
			must(t, old.Remove())
			wantGone(t, work+"/moved/amavis-milter-old")
			if now := openFiles(t); now != fds {
				t.Errorf("%d descriptors open, %d before", now, fds)
			}
			must(t, s.Close())
		})
	}
}

// milter/ is looked for once in homeAge.
func TestMilterDirectoryIsLookedForInTime(t *testing.T) {
	work := workDir(t)
	s := open(t, work)
	must(t, create(t, s, "Q").Remove())
	must(t, os.Rename(work+"/milter", work+"/moved"))
	s.homeSeen = time.Now().Add(time.Hour)
	must(t, create(t, s, "Q").Remove())
	wantGone(t, work+"/milter")
	s.homeSeen = time.Now().Add(-homeAge)
	must(t, create(t, s, "Q").Remove())
	wantNames(t, work)
}

// Whoever can rename the work directory can put another in its place.
func TestReplaceableWorkDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, above string)
		warns  bool
		root   bool
	}{
		"ours":                    {func(t *testing.T, above string) {}, false, false},
		"writable by all":         {func(t *testing.T, above string) { must(t, os.Chmod(above, 0o757)) }, true, false},
		"writable by all, sticky": {func(t *testing.T, above string) { must(t, os.Chmod(above, 0o777|os.ModeSticky)) }, false, false},
		"a stranger's":            {func(t *testing.T, above string) { must(t, os.Chown(above, strangerUID, 0)) }, true, true},
		"writable by a group": {func(t *testing.T, above string) {
			must(t, os.Chown(above, 0, strangerGID))
			must(t, os.Chmod(above, 0o775))
		}, true, true},
		"writable by root's group": {func(t *testing.T, above string) { must(t, os.Chown(above, 0, 0)); must(t, os.Chmod(above, 0o775)) }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root {
				needRoot(t, "chown")
			}
			work := workDir(t)
			above := work + "/above"
			must(t, os.Mkdir(above, 0o755))
			must(t, os.Mkdir(above+"/between", 0o755))
			must(t, os.Mkdir(above+"/between/w", 0o750))
			must(t, os.Symlink(above+"/between/w", work+"/link"))
			must(t, os.Chmod(work, 0o755))
			c.change(t, above)
			for _, path := range []string{above + "/between/w", work + "/link"} {
				log, text := logged()
				s, err := Open(path, Options{Log: log})
				must(t, err)
				must(t, s.Close())
				if got := strings.Contains(text.String(), "can be replaced by whoever can write to "+above); got != c.warns {
					t.Errorf("%s: logged %q", path, text)
				}
			}
		})
	}
}
