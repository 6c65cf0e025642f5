package daemon

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenTakesForeignStaleSocket: what a crash left of a socket that an init
// script had given to another user is replaced; a live one is not, nor one that may
// be live. It runs as another user, in a process of its own.
func TestListenTakesForeignStaleSocket(t *testing.T) {
	needRoot(t)
	const variable = "DAEMON_TEST_FOREIGN"
	if dir := os.Getenv(variable); dir != "" {
		if err := DropPrivileges(&Account{Name: "somebody", UID: 23456, GID: 34567, Groups: []int{34567}}); err != nil {
			t.Fatal(err)
		}
		checkForeignSockets(t, dir)
		return
	}
	dir := shortTempDir(t)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "s"), 0o700), os.Chown(filepath.Join(dir, "s"), 23456, 34567),
		os.Symlink(filepath.Join(dir, "s"), filepath.Join(dir, "other")), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stale", "live", "link", "bound"} {
		path := filepath.Join(dir, "s", name)
		switch name {
		case "stale":
			staleSocket(t, path)
		case "live":
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
		case "link": // bound through another name of the directory
			listener, err := net.Listen("unix", filepath.Join(dir, "other", name))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
		case "bound": // about to listen
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
		}
		if err := errors.Join(os.Chown(path, 45678, 45678), os.Chmod(path, 0o660)); err != nil {
			t.Fatal(err)
		}
	}
	// A living socket of the same name elsewhere is another.
	elsewhere, err := net.Listen("unix", filepath.Join(dir, "stale"))
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func checkForeignSockets(t *testing.T, dir string) {
	for _, name := range []string{"live", "link", "bound"} {
		path := filepath.Join(dir, "s", name)
		_, err := Listen(localConfig(path))
		wantError(t, err, ExitNoPermission, "user 23456 cannot tell whether anybody listens on socket "+path, "(owner 45678:45678, mode 0660)", "--socket")
		if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	listener, err := Listen(localConfig(filepath.Join(dir, "s", "stale")))
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	gone(t, filepath.Join(dir, "s", "stale"))
}

// TestIsAmong: what the kernel's table says, and that all doubts are a yes.
func TestIsAmong(t *testing.T) {
	dir := shortTempDir(t)
	ours, other := filepath.Join(dir, "a b.sock"), filepath.Join(dir, "other", "a b.sock")
	if err := os.Mkdir(filepath.Dir(other), 0o700); err != nil {
		t.Fatal(err)
	}
	staleSocket(t, ours)
	staleSocket(t, other)
	var stat unix.Stat_t
	if err := unix.Lstat(ours, &stat); err != nil {
		t.Fatal(err)
	}
	const heading = "Num       RefCount Protocol Flags    Type St Inode Path\n"
	const columns = "00000000ea001092: 00000002 00000000 00010000 0001 01  1163"
	tests := []struct {
		name, table string
		want        bool
	}{
		{"nobody", heading, false},
		{"sockets without a path", heading + columns + "\n" + columns + "\n", false},
		{"ours", heading + columns + "\n" + columns + " " + ours + "\n", true},
		{"ours, the last line cut", heading + columns + " " + ours, true},
		{"a link's way to ours", heading + columns + " " + dir + "/./a b.sock\n", true},
		{"of the same name, and another", heading + columns + " " + other + "\n", false},
		{"of the same name, not to be seen", heading + columns + " /chroot/a b.sock\n", true},
		{"relative", heading + columns + " a b.sock\n", true},
		{"abstract", heading + columns + " @a b.sock\n", false},
		{"another name", heading + columns + " " + dir + "/x a b.sock\n" + columns + " " + ours + ".old\n", false},
		{"a path with a line end", heading + columns + " /a\nb/a b.sock\n", true},
		{"no table", "", true},
		{"another table", "Num RefCount\n", true},
	}
	for _, tt := range tests {
		p := &placed{name: filepath.Base(ours), path: ours}
		if got := p.isAmong(tt.table, &stat); got != tt.want {
			t.Errorf("%s: %v\n%s", tt.name, got, tt.table)
		}
	}
	table, err := os.ReadFile(unixSockets)
	if err != nil {
		t.Skipf("needs %s: %v", unixSockets, err)
	}
	if !strings.HasPrefix(string(table), heading) {
		t.Errorf("the kernel's table begins with %.100q", table)
	}
}
