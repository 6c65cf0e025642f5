package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk is a small file system in a mount namespace of its own: one thread is in it,
// and the programs that this thread starts. Nobody else sees it, and it goes with them.
type disk struct {
	view  string // the root of the namespace, as others see it
	calls chan func()
}

// ext4 stands for a disk that can be broken; other options are those of a tmpfs.
const ext4, imageBytes = "ext4", 4 << 20

// mountDisk mounts a disk with these options at a directory, under its owner.
func mountDisk(dir, options string) (*disk, error) {
	var owner unix.Stat_t
	if err := unix.Stat(dir, &owner); err != nil {
		return nil, err
	}
	d := &disk{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its goroutine
		ready <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return fmt.Errorf("making a mount namespace: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("making mounts private: %w", err)
			}
			d.view = fmt.Sprintf("/proc/%d/task/%d/root", os.Getpid(), unix.Gettid())
			if options == ext4 {
				return errors.Join(makeImage(dir), mountImage(dir, owner))
			}
			options := fmt.Sprintf("%s,mode=0750,uid=%d,gid=%d", options, owner.Uid, owner.Gid)
			if err := unix.Mount("faults", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
				return fmt.Errorf("mounting a tmpfs (%s): %w", options, err)
			}
			return nil
		}()
		for call := range d.calls {
			call()
		}
	}()
	if err := <-ready; err != nil {
		close(d.calls)
		return nil, err
	}
	return d, nil
}

// do calls f in the namespace; for no disk it just calls it.
func (d *disk) do(f func() error) error {
	if d == nil {
		return f()
	}
	done := make(chan error)
	d.calls <- func() { done <- f() }
	return <-done
}

// end gives up the namespace. The programs in it must have ended.
func (d *disk) end() {
	if d != nil {
		close(d.calls)
	}
}

func makeImage(dir string) error {
	return errors.Join(os.WriteFile(dir+".img", nil, 0o600), os.Truncate(dir+".img", imageBytes), command("mkfs.ext4", "-q", "-F", dir+".img"))
}

func mountImage(dir string, owner unix.Stat_t) error {
	if err := command("mount", "-o", "loop,nosuid,nodev", dir+".img", dir); err != nil {
		return err
	}
	return errors.Join(os.Chown(dir, int(owner.Uid), int(owner.Gid)), os.Chmod(dir, 0o750))
}

// breakDown does to an ext4 what errors of the hardware do: it becomes read-only,
// whoever has files open for writing.
func (d *disk) breakDown(dir string) error {
	return d.do(func() error { return command("mount", "-o", "remount,abort", dir) })
}

// repair makes a disk of which nobody has a file open writable again.
func (d *disk) repair(dir string) error {
	return d.do(func() error {
		var owner unix.Stat_t
		if err := unix.Stat(dir, &owner); err != nil {
			return err
		}
		if err := unix.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmounting: %w", err)
		}
		// It says by its code that it has mended something.
		_ = command("e2fsck", "-f", "-y", dir+".img")
		return mountImage(dir, owner)
	})
}

func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s (Debian packages mount, e2fsprogs): %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// canMount says why no disk can be mounted, or nothing; canBreak the same of those that
// can be broken, which need a loop device.
var (
	canMount = sync.OnceValue(func() error { return tryMount("size=64k") })
	canBreak = sync.OnceValue(func() error { return tryMount(ext4) })
)

func tryMount(options string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("root is missing, which may mount small file systems")
	}
	top, err := os.MkdirTemp("", "faults-mount-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(top)
	dir := filepath.Join(top, options)
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	d, err := mountDisk(dir, options)
	if err == nil {
		d.end()
	}
	return err
}

// TestDisksCanBeBroken says why the table has no disk that breaks.
func TestDisksCanBeBroken(t *testing.T) {
	if err := canBreak(); err != nil {
		t.Skipf("disks that break are written to at the seam below the spool alone (TestDraftWriteErrors runs this): %v", err)
	}
}

// TestDisksCanBeMounted says why TestFaults has no table of the disk's faults, and that
// nobody else sees the disks that it mounts.
func TestDisksCanBeMounted(t *testing.T) {
	if err := canMount(); err != nil {
		t.Skipf("not tested: disks that are full or out of inodes: %v", err)
	}
	dir := t.TempDir()
	d, err := mountDisk(dir, "size=64k")
	if err != nil {
		t.Fatal(err)
	}
	defer d.end()
	if err := os.WriteFile(filepath.Join(d.view, dir, "file"), nil, 0o600); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("outside of the namespace there is %v, error %v", entries, err)
	}
}
