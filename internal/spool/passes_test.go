package spool

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// nest makes a directory of so many levels, however long its path would be.
func nest(t *testing.T, top, levels int) {
	t.Helper()
	parent := top
	for range levels {
		must(t, mkdirat(parent, "d", 0o750))
		fd, err := openat(parent, "d", openDirFlags, 0)
		must(t, err)
		if parent != top {
			unix.Close(parent)
		}
		parent = fd
	}
	unix.Close(parent)
}

// quickPlace is where directories are made in memory, if there is such a place.
func quickPlace() string {
	const memory = "/dev/shm"
	if unix.Access(memory, unix.W_OK) == nil {
		return memory
	}
	return os.TempDir()
}

// showsRenamed reports whether a file system shows a name that was changed while its
// directory is read once more in the same reading.
func showsRenamed(t *testing.T) bool {
	t.Helper()
	fd := openPath(t, workDirIn(t, quickPlace()))
	must(t, mkdirat(fd, "d", 0o750))
	shown := 0
	must(t, readDir(fd, func(name string) error {
		if shown++; shown > 1 {
			return nil
		}
		return unix.Renameat(fd, name, fd, ".deep-1")
	}))
	return shown > 1
}

func openPath(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, openDirFlags, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// TestTreePassesAround: a directory is read anew as often as the page says, and given up
// then although something was removed each time. Each pass takes away one level of what
// is too deep to be walked down, the last one two.
func TestTreePassesAround(t *testing.T) {
	if showsRenamed(t) {
		t.Skip("a file system is missing on which one pass is one level")
	}
	for levels, want := range map[int]error{4096: nil, 4097: errRefilled} { // docs/SECURITY.md
		fd := openPath(t, workDirIn(t, quickPlace()))
		nest(t, fd, levels)
		tree := &tree{top: fd, uid: os.Geteuid()}
		if err := tree.empty(fd, ".", maxTreeDepth-1); !errors.Is(err, want) {
			t.Errorf("%d levels: %v, want %v", levels, err, want)
		}
		must(t, emptyDir(fd, os.Geteuid(), ""))
	}
}
