package ampdp

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// dialLocal connects to a local socket. It does what net.Dialer.DialUnix does, with
// its errors, but for asking the system for both ends' names, which nobody wants to
// know; that and what goes with it is more than the connect itself. connect does not
// wait, so there is nothing for a context to end.
func dialLocal(_ context.Context, path string) (net.Conn, error) {
	address := &net.UnixAddr{Name: path, Net: "unix"}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, dialError(address, "socket", err)
	}
	err = syscall.EINTR
	for err == syscall.EINTR {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
	}
	if err != nil {
		syscall.Close(fd)
		return nil, dialError(address, "connect", err)
	}
	return newLocalConn(fd, address)
}

func dialError(address *net.UnixAddr, call string, err error) error {
	return &net.OpError{Op: "dial", Net: "unix", Addr: address, Err: os.NewSyscallError(call, err)}
}

// localConn is a connection to a local socket, with the errors of a net.UnixConn.
type localConn struct {
	*os.File
	address *net.UnixAddr
}

// newLocalConn takes a connected socket over, which must not block.
func newLocalConn(fd int, address *net.UnixAddr) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), address.Name)
	// What the poller does not take has no deadlines. Package os does not tell why it
	// did not: the system has neither memory nor watches left.
	if err := file.SetDeadline(time.Time{}); err != nil {
		file.Close()
		return nil, dialError(address, "epoll_ctl", syscall.ENOMEM)
	}
	return &localConn{file, address}, nil
}

func (c *localConn) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	return n, c.opError(err)
}

func (c *localConn) Write(p []byte) (int, error) {
	n, err := c.File.Write(p)
	return n, c.opError(err)
}

// opError turns an error of package os into one of package net.
func (c *localConn) opError(err error) error {
	failed, ok := err.(*fs.PathError)
	if !ok {
		return err // nil and io.EOF
	}
	cause := failed.Err
	if errno, ok := errors.AsType[syscall.Errno](cause); ok {
		cause = os.NewSyscallError(failed.Op, errno)
	}
	return &net.OpError{Op: failed.Op, Net: "unix", Source: c.LocalAddr(), Addr: c.address, Err: cause}
}

// LocalAddr returns how package net calls an end without a name.
func (c *localConn) LocalAddr() net.Addr  { return &net.UnixAddr{Name: "@", Net: "unix"} }
func (c *localConn) RemoteAddr() net.Addr { return c.address }
