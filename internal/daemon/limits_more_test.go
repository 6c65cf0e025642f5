package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLinksAround: a path with as many symbolic links as the kernel follows, one less,
// and one more.
func TestLinksAround(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := func(n int) string { return filepath.Join(dir, fmt.Sprint("link", n)) }
	if err := os.Mkdir(link(0), 0o750); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= maxLinks+1; n++ {
		if err := os.Symlink(link(n-1), link(n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{maxLinks - 1, maxLinks, maxLinks + 1} {
		fd, _, err := openWay(link(n))
		if n <= maxLinks && err != nil || n > maxLinks && !errors.Is(err, unix.ELOOP) {
			t.Errorf("%d links: %v", n, err)
		}
		if err == nil {
			unix.Close(fd)
		}
		if _, kernel := os.Stat(link(n)); (err == nil) != (kernel == nil) {
			t.Errorf("%d links: we say %v, the kernel %v", n, err, kernel)
		}
	}
}

// TestPIDTextAround: what is told of somebody's pid file, and how much of it is read.
func TestPIDTextAround(t *testing.T) {
	read := func(content string) (string, bool) {
		path := filepath.Join(t.TempDir(), "pid")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		return readPID(int(file.Fd()))
	}
	for _, n := range []int{maxPIDText - 1, maxPIDText, maxPIDText + 1} {
		number := strings.Repeat("7", n)
		want := " (" + number + ")"
		if n > maxPIDText {
			want = ""
		}
		if got, ok := read(number + "\n"); got != want || !ok {
			t.Errorf("a number of %d digits: %q, %v", n, got, ok)
		}
	}
	// The byte that makes a file somebody's data is the last one of so many.
	for _, n := range []int{maxPIDRead - 1, maxPIDRead, maxPIDRead + 1} {
		if _, ok := read("7" + strings.Repeat("\n", n-2) + "x"); ok != (n > maxPIDRead) {
			t.Errorf("text in byte %d: taken for a pid file: %v", n, ok)
		}
	}
}

// TestIDAround: the largest group id.
func TestIDAround(t *testing.T) {
	for _, n := range []int{maxID - 1, maxID, maxID + 1} {
		if gid, err := LookupGID(fmt.Sprint(n)); (err == nil) != (n <= maxID) || err == nil && gid != n {
			t.Errorf("group %d: %d, %v", n, gid, err)
		}
	}
}

// TestSocketPathAround: the longest path of a local socket.
func TestSocketPathAround(t *testing.T) {
	dir := shortTempDir(t)
	for _, n := range []int{maxSocketPath - 1, maxSocketPath, maxSocketPath + 1} {
		listener, err := Listen(localConfig(filepath.Join(dir, strings.Repeat("x", n-len(dir)-1))))
		if (err == nil) != (n <= maxSocketPath) {
			t.Errorf("a path of %d bytes: %v", n, err)
		}
		if err == nil {
			listener.Close()
		}
	}
}

// TestLegacyDescriptorsAround: where the kernel cannot close all descriptors, each one
// below the bound of the page is looked at, and none at or above it.
func TestLegacyDescriptorsAround(t *testing.T) {
	const bound = 65_536 // docs/SECURITY.md
	looked := map[int]int{}
	closeInheritedOneByOne(func(fd int) { looked[fd]++ })
	for fd, want := range map[int]int{0: 0, 2: 0, firstExtraFD: 1, bound - 1: 1, bound: 0, bound + 1: 0} {
		if looked[fd] != want {
			t.Errorf("descriptor %d was looked at %d times, want %d", fd, looked[fd], want)
		}
	}
	if len(looked) != bound-firstExtraFD {
		t.Errorf("%d descriptors were looked at", len(looked))
	}
}
