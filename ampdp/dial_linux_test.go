package ampdp

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dialNet is what dialLocal stands for.
func dialNet(t *testing.T, path string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialUnix(t.Context(), "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// listen returns a socket and what a connection to it does to the first client.
func listen(t *testing.T, serve func(*net.UnixConn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			serve(conn)
			conn.Close()
		}
	}()
	return path
}

// A connect that fails gives the same error as package net does, to the byte.
func TestDialLocalErrors(t *testing.T) {
	dir := t.TempDir()
	plain, stale := filepath.Join(dir, "plain"), filepath.Join(dir, "stale")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	for name, path := range map[string]string{
		"missing": filepath.Join(dir, "missing"), "nobody listens": stale, "no socket": plain, "below a file": plain + "/x",
		"longest": "/" + strings.Repeat("x", 106), "too long": "/" + strings.Repeat("x", 107), "abstract": "@nobody listens here",
	} {
		t.Run(name, func(t *testing.T) {
			_, want := dialNet(t, path)
			conn, got := dialLocal(t.Context(), path)
			if conn != nil || !reflect.DeepEqual(got, want) || want == nil {
				t.Errorf("got  %#v, %v\nwant %v", conn, got, want)
			}
		})
	}
}

// So does a connection that breaks, ends, or whose time is up.
func TestLocalConnErrors(t *testing.T) {
	const request = "some bytes"
	for name, tt := range map[string]struct {
		serve func(*net.UnixConn)
		time  time.Duration
	}{
		"closed": {func(c *net.UnixConn) { io.ReadFull(c, make([]byte, len(request))) }, time.Minute},
		"reset":  {func(c *net.UnixConn) { io.ReadFull(c, make([]byte, 1)) }, time.Minute},
		"silent": {func(c *net.UnixConn) { io.ReadFull(c, make([]byte, len(request)+1)) }, 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			path := listen(t, tt.serve)
			errorsOf := func(conn net.Conn, err error) (all []error) {
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.Write([]byte(request))
				conn.SetDeadline(time.Now().Add(tt.time))
				_, err = conn.Read(make([]byte, 10))
				all = append(all, err)
				_, err = conn.Read(make([]byte, 10))
				all = append(all, err)
				for err = nil; err == nil; { // until the buffers are full
					_, err = conn.Write(make([]byte, 1<<20))
				}
				return append(all, err)
			}
			want := errorsOf(dialNet(t, path))
			got := errorsOf(dialLocal(t.Context(), path))
			for i := range want {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Errorf("number %d: got  %v\nwant %v", i, got[i], want[i])
				}
			}
		})
	}
}

// A connection without deadlines would hang for ever: who cannot have them has none,
// and keeps no descriptor.
func TestLocalConnHasDeadlines(t *testing.T) {
	plain, err := os.Create(filepath.Join(t.TempDir(), "plain")) // the poller refuses plain files
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fd, err := syscall.Dup(int(plain.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := newLocalConn(fd, &net.UnixAddr{Name: "x", Net: "unix"})
	if conn != nil || !errors.Is(err, syscall.ENOMEM) {
		t.Errorf("got %v, %v", conn, err)
	}
	if err := syscall.Close(fd); err != syscall.EBADF {
		t.Errorf("the descriptor was left open: %v", err)
	}
	x := newExchange(t.Context(), &Client{Network: "unix", Address: "x"})
	var e *Error
	if !errors.As(x.dialFailure(err), &e) || !e.NoMeans || e.Refused {
		t.Errorf("it is held against the scanner: %+v", e)
	}
}

// Want of descriptors is told alike, too.
func TestDialLocalWithoutDescriptors(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, want := dialNet(t, "/x")
	_, got := dialLocal(t.Context(), "/x")
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) || !errors.Is(got, syscall.EMFILE) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// No program that is started meanwhile inherits the connection.
func TestDialLocalIsClosedOnExec(t *testing.T) {
	conn, err := dialLocal(t.Context(), listen(t, func(*net.UnixConn) {}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*localConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFD, 0)
		if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
			t.Errorf("flags %x, %v", flags, errno)
		}
	})
}
