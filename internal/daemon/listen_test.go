package daemon

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func localConfig(path string) ListenConfig {
	return ListenConfig{Network: "unix", Address: path, OwnerUID: -1, GroupGID: -1}
}

func mustListen(t *testing.T, cfg ListenConfig) *Listener {
	t.Helper()
	listener, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// wantError checks the code and parts of the text of an error for the operator.
func wantError(t *testing.T, err error, code int, parts ...string) {
	t.Helper()
	if err == nil || ExitCode(err) != code {
		t.Fatalf("got code %d (%v), want %d", ExitCode(err), err, code)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is there: %v", path, err)
	}
}

// staleSocket leaves a socket as a dead process does.
func staleSocket(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

func TestListenLocal(t *testing.T) {
	root := os.Geteuid() == 0
	tests := []struct {
		name       string
		mode       fs.FileMode
		owner, gid int
		want       fs.FileMode
	}{
		{"default", 0, -1, -1, 0o660},
		{"for all", 0o666, -1, -1, 0o666},
		{"owner only", 0o600, -1, -1, 0o600},
		{"group", 0, -1, 12345, 0o660},
		{"owner and group", 0o640, 23456, 12345, 0o640},
		{"owner", 0o777, 23456, -1, 0o777},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !root && (test.owner >= 0 || test.gid >= 0) {
				t.Skip("giving a socket away needs root")
			}
			path := filepath.Join(shortTempDir(t), "s")
			cfg := ListenConfig{Network: "unix", Address: path, Mode: test.mode, OwnerUID: test.owner, GroupGID: test.gid}
			listener := mustListen(t, cfg)
			var stat unix.Stat_t
			if err := unix.Lstat(path, &stat); err != nil {
				t.Fatal(err)
			}
			if got := fs.FileMode(stat.Mode) & fs.ModePerm; got != test.want {
				t.Errorf("mode %04o, want %04o", got, test.want)
			}
			if test.owner >= 0 && int(stat.Uid) != test.owner || test.owner < 0 && int(stat.Uid) != os.Geteuid() {
				t.Errorf("owner %d, want %d", stat.Uid, test.owner)
			}
			if test.gid >= 0 && int(stat.Gid) != test.gid {
				t.Errorf("group %d, want %d", stat.Gid, test.gid)
			}
			if got := listener.Addr().String(); got != path {
				t.Errorf("address %q, want %q", got, path)
			}
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if err := errors.Join(listener.Close(), listener.Close()); err != nil {
				t.Error(err)
			}
			gone(t, path)
		})
	}
}

// TestListenIgnoresUmask: neither a strict nor a lax umask shows, and ours is back
// afterwards.
func TestListenIgnoresUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		path := filepath.Join(shortTempDir(t), "s")
		old := syscall.Umask(umask)
		listener, err := Listen(localConfig(path))
		if got := syscall.Umask(old); got != umask {
			t.Errorf("umask is %03o after Listen, want %03o", got, umask)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != DefaultSocketMode {
			t.Errorf("umask %03o: mode %v, %v", umask, info.Mode(), err)
		}
	}
}

// TestBindWithMode: not even before it gets its mode does the socket allow more.
func TestBindWithMode(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o666, 0o777} {
		path := filepath.Join(shortTempDir(t), "s")
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		old := syscall.Umask(0)
		err = bindWithMode(fd, path, mode)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %v, %v; want %04o", info.Mode(), err, mode)
		}
	}
}

// TestDefaultACL: an access control list that new files inherit does not take
// rights away from the MTA.
func TestDefaultACL(t *testing.T) {
	if _, err := exec.LookPath("setfacl"); err != nil {
		t.Skip("needs setfacl (Debian package acl)")
	}
	dir := shortTempDir(t)
	if out, err := exec.Command("setfacl", "-d", "-m", "u::rwx,g::---,o::---", dir).CombinedOutput(); err != nil {
		t.Skipf("needs a file system with access control lists: %s", out)
	}
	path := filepath.Join(dir, "s")
	mustListen(t, localConfig(path))
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != DefaultSocketMode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := shortTempDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	mustListen(t, localConfig(in("live")))
	datagram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: in("datagram"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	full := mustListen(t, ListenConfig{Network: "unix", Address: in("full"), Backlog: 1, OwnerUID: -1, GroupGID: -1})
	fillBacklog(t, full.Addr().String())
	staleSocket(t, in("stale"))
	if err := errors.Join(os.Mkdir(in("open"), 0o700), os.Chmod(in("open"), 0o777)); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.WriteFile(in("file"), []byte("precious"), 0o600), os.Mkdir(in("dir"), 0o700),
		os.Symlink("stale", in("link")), os.Symlink("nowhere", in("dangling")), syscall.Mkfifo(in("fifo"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	long := in(strings.Repeat("x", maxSocketPath-len(dir)-1))
	mustListen(t, localConfig(long))
	tests := []struct {
		path  string
		code  int
		parts []string
	}{
		{in("live"), ExitUnavailable, []string{"another process (", ") listens on socket " + in("live"), "--socket"}},
		{in("full"), ExitUnavailable, []string{in("full")}},
		{in("datagram"), ExitUnavailable, []string{in("datagram")}},
		{in("file"), ExitCannotCreate, []string{"is a regular file, not a socket", "remove it"}},
		{in("dir"), ExitCannotCreate, []string{"is a directory"}},
		{in("dir") + "/", ExitCannotCreate, []string{"is a directory"}},
		{in("link"), ExitCannotCreate, []string{"is a symbolic link"}},
		{in("dangling"), ExitCannotCreate, []string{"is a symbolic link"}},
		{in("fifo"), ExitCannotCreate, []string{"is a FIFO"}},
		{"/dev/null", ExitCannotCreate, []string{"is a device"}},
		{in("missing/s"), ExitCannotCreate, []string{"directory " + in("missing") + " does not exist", "create it"}},
		{in("open/s"), ExitConfiguration, []string{"directory " + in("open") + " is writable by everybody (mode 0777)", "chmod o-w", "--socket"}},
		{in("file/s"), ExitCannotCreate, []string{in("file") + " is not a directory"}},
		{"", ExitUsage, []string{"empty"}},
		{long + "x", ExitConfiguration, []string{"108 bytes", "107"}},
	}
	before := list(t, dir)
	for _, test := range tests {
		listener, err := Listen(localConfig(test.path))
		if err == nil {
			listener.Close()
		}
		wantError(t, err, test.code, test.parts...)
	}
	if after := list(t, dir); after != before {
		t.Errorf("the directory holds %s, held %s", after, before)
	}
	if text, err := os.ReadFile(in("file")); err != nil || string(text) != "precious" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if _, err := Listen(ListenConfig{Network: "udp", Address: ":0"}); ExitCode(err) != ExitUsage {
		t.Errorf("network udp: %v", err)
	}
}

// TestLocalBacklog: Linux lets one more than the backlog wait.
func TestLocalBacklog(t *testing.T) {
	dir := shortTempDir(t)
	for _, backlog := range []int{1, 7, 100} {
		cfg := localConfig(filepath.Join(dir, "s"))
		cfg.Backlog = backlog
		listener := mustListen(t, cfg)
		if waiting := fillBacklog(t, cfg.Address); waiting != backlog+1 {
			t.Errorf("%d wait, want %d", waiting, backlog+1)
		}
		listener.Close()
	}
}

// fillBacklog connects until nobody else can, and says how many could.
func fillBacklog(t *testing.T, path string) int {
	t.Helper()
	for waiting := 0; ; waiting++ {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if errors.Is(err, unix.EAGAIN) {
			return waiting
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " ")
}

func TestListenTakesStaleSocket(t *testing.T) {
	path := filepath.Join(shortTempDir(t), "s")
	staleSocket(t, path)
	mustListen(t, localConfig(path))
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestRelativePath: the listener still finds its path after the process has gone
// elsewhere.
func TestRelativePath(t *testing.T) {
	dir := shortTempDir(t)
	t.Chdir(dir)
	listener := mustListen(t, localConfig("./s"))
	if got := listener.Addr().String(); got != filepath.Join(dir, "s") {
		t.Errorf("address %q, want an absolute one", got)
	}
	if err := os.Chdir("/"); err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	gone(t, filepath.Join(dir, "s"))
}

// TestLocked: who cannot get the lock of a name gives up and says so; who ends does so
// all the same.
func TestLocked(t *testing.T) {
	t.Parallel() // it takes lockTimeout
	dir := shortTempDir(t)
	listener := mustListen(t, localConfig(filepath.Join(dir, "first")))
	pidFile := mustWritePID(t, filepath.Join(dir, "pid"))
	for _, name := range []string{"first", "second", "pid"} {
		handle, err := os.OpenFile(filepath.Join(dir, "."+name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer handle.Close()
		if err := unix.Flock(int(handle.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
	}
	before := list(t, dir)
	_, err := Listen(localConfig(filepath.Join(dir, "second")))
	wantError(t, err, ExitUnavailable, filepath.Join(dir, ".second.lock")+" has been locked by another process", "fuser")
	if got := list(t, dir); got != before {
		t.Errorf("the directory holds %s, held %s", got, before)
	}
	begin := time.Now()
	if err := errors.Join(listener.Close(), pidFile.Remove()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > lockTimeout/2 {
		t.Errorf("the end took %v", took)
	}
	gone(t, filepath.Join(dir, "first"))
	gone(t, filepath.Join(dir, "pid"))
}

// TestStrangeLock: what is no lock file of ours is not waited for, nor believed.
func TestStrangeLock(t *testing.T) {
	needRoot(t)
	for what, prepare := range map[string]func(path string) error{
		"another's file":  func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o666), os.Chown(path, 54321, 0)) },
		"a symbolic link": func(path string) error { return os.Symlink("/etc/passwd", path) },
		"a FIFO":          func(path string) error { return syscall.Mkfifo(path, 0o666) },
		"a directory":     func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		dir := shortTempDir(t)
		lock := filepath.Join(dir, ".s.lock")
		if err := prepare(lock); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err := Listen(localConfig(filepath.Join(dir, "s")))
		wantError(t, err, ExitCannotCreate, lock+" is not a lock file of ours: remove it")
		if took := time.Since(begin); took > lockTimeout/2 {
			t.Errorf("%s: it took %v", what, took)
		}
		if got := list(t, dir); got != ".s.lock" {
			t.Errorf("%s: the directory holds %s", what, got)
		}
	}
}

// TestStickyDirectory: in a directory like /tmp we serve, and say what is wrong with it.
func TestStickyDirectory(t *testing.T) {
	for mode, warns := range map[uint32]bool{0o1777: true, 0o1775: false, 0o755: false, 0o2775: false} {
		dir := shortTempDir(t)
		if err := syscall.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		listener, pidFile := mustListen(t, localConfig(filepath.Join(dir, "s"))), mustWritePID(t, filepath.Join(dir, "pid"))
		for name, warning := range map[string]string{"take the place of s ": listener.Warning, "take the place of pid ": pidFile.Warning} {
			if (warning != "") != warns || warns && !strings.Contains(warning, name) || strings.Contains(warning, "\n") {
				t.Errorf("mode %04o: %q", mode, warning)
			}
		}
		if err := pidFile.Remove(); err != nil {
			t.Error(err)
		}
	}
}
