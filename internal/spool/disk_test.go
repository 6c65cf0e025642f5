package spool

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A real file system of 64 KiB that fills up, at each of the places where it can.
func TestFullDisk(t *testing.T) {
	needRoot(t, "mount a small tmpfs")
	work := workDir(t)
	if err := unix.Mount("tmpfs", work, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=64k,nr_inodes=6,mode=0750"); err != nil {
		t.Skipf("the right to mount a tmpfs is missing: %v", err)
	}
	defer unix.Unmount(work, unix.MNT_DETACH)
	s, err := Open(work, Options{})
	must(t, err)
	defer s.Close()

	t.Run("in mid-message", func(t *testing.T) {
		d := create(t, s, "Q")
		for range 10 {
			d.Body(make([]byte, largeBuffer))
		}
		if !IsNoSpace(d.err) {
			t.Errorf("Body: %v", d.err)
		}
		wantDead(t, d, unix.ENOSPC)
		wantNames(t, work)
		must(t, d.Remove())
	})
	t.Run("at its end", func(t *testing.T) {
		must(t, os.WriteFile(work+"/ballast", make([]byte, 40<<10), 0o600))
		defer os.Remove(work + "/ballast")
		d := create(t, s, "Q")
		must(t, d.Body(make([]byte, 50<<10)))
		if _, err := d.Seal(); !IsNoSpace(err) {
			t.Errorf("Seal: %v", err)
		}
		wantNames(t, work)
	})
	t.Run("out of inodes", func(t *testing.T) {
		var open []*Draft
		for {
			d, err := s.Create("Q")
			if err == nil {
				open = append(open, d)
				_, err = d.Seal()
			}
			if err != nil {
				if !IsNoSpace(err) {
					t.Errorf("message %d: %v", len(open), err)
				}
				break
			}
		}
		for _, d := range open {
			must(t, d.Remove())
		}
		wantNames(t, work)
	})
	t.Run("and goes on", func(t *testing.T) {
		d := create(t, s, "Q")
		must(t, d.Body(make([]byte, 50<<10)))
		must(t, seal(t, d).Remove())
	})
	t.Run("full at start", func(t *testing.T) {
		must(t, s.Close())
		ballast, err := os.Create(work + "/ballast")
		must(t, err)
		for err == nil {
			_, err = ballast.Write(make([]byte, 4096))
		}
		must(t, ballast.Close()) // what is open for writing keeps it from being made read-only
		_, err = Open(work, Options{})
		wantSetupError(t, err, KindCannotCreate, "does not take a test file")
		if !IsNoSpace(err) {
			t.Errorf("Open: %v", err)
		}
		must(t, unix.Mount("", work, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		_, err = Open(work, Options{})
		wantSetupError(t, err, KindCannotCreate, "read-only")
	})
}

// The limit of the process on the size of files, which anybody can set: the write
// in mid-message is short, the next one fails.
func TestFileSizeLimit(t *testing.T) {
	work := workDir(t)
	s := open(t, work)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	defer unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 100_000, Max: limit.Max}))
	d := create(t, s, "Q")
	for range 4 {
		d.Body(make([]byte, largeBuffer))
	}
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	if d.err == nil || IsNoSpace(d.err) {
		t.Errorf("Body: %v, want EFBIG", d.err)
	}
	wantDead(t, d, unix.EFBIG)
	wantNames(t, work)
}
