package bench

import (
	"fmt"
	"net"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls that are made without telling Go's scheduler of them: that would cost as much
// as the shorter of them take. All but epollWait are on descriptors that never block.

func read(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

func write(fd int, p []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	return int(n), errno
}

func epollWait(fd int, events []unix.EpollEvent) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), ^uintptr(0), 0, 0)
	return int(n), errno
}

// piecesAtOnce is how many pieces are written with one call, at most.
const piecesAtOnce = 64

func writev(fd int, pieces [][]byte) (int, unix.Errno) {
	if len(pieces) == 1 {
		return write(fd, pieces[0])
	}
	var vec [piecesAtOnce]unix.Iovec
	n := min(len(pieces), len(vec))
	for i, p := range pieces[:n] {
		vec[i].Base = unsafe.SliceData(p)
		vec[i].SetLen(len(p))
	}
	written, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&vec[0])), uintptr(n))
	return int(written), errno
}

func accept(fd int) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
	return int(n), errno
}

func closeFD(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Endpoint is where somebody listens: a path, or a host's address and a port as net has
// them.
type Endpoint struct {
	Network string // "unix" or "tcp"
	Address string
}

// String is the endpoint as both programs' command lines have it.
func (e Endpoint) String() string {
	if e.Network == "unix" {
		return "local:" + e.Address
	}
	host, port, _ := strings.Cut(e.Address, ":")
	return "inet:" + port + "@" + host
}

func (e Endpoint) sockaddr() (unix.Sockaddr, int, error) {
	if e.Network == "unix" {
		return &unix.SockaddrUnix{Name: e.Address}, unix.AF_UNIX, nil
	}
	a, err := net.ResolveTCPAddr("tcp4", e.Address)
	if err != nil {
		return nil, 0, err
	}
	to := &unix.SockaddrInet4{Port: a.Port}
	copy(to.Addr[:], a.IP.To4())
	return to, unix.AF_INET, nil
}

// connect returns a connected descriptor that does not block. To connect it may wait:
// whoever listens needs nothing of us to accept.
func (e Endpoint) connect() (int, error) {
	to, family, err := e.sockaddr()
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		err = unix.Connect(fd, to)
		if err != unix.EINTR {
			break
		}
	}
	if err == nil && family == unix.AF_INET {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connecting to %s: %w", e, err)
	}
	return fd, nil
}

// backlog is how many connections may wait to be accepted.
const backlog = 4096

// listen returns a listening descriptor that does not block, and where it listens: the
// port may have been 0. Anybody may connect.
func (e Endpoint) listen() (int, Endpoint, error) {
	at, family, err := e.sockaddr()
	if err != nil {
		return -1, e, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, e, err
	}
	if family == unix.AF_INET {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, at)
	}
	if err == nil && family == unix.AF_UNIX {
		err = unix.Chmod(e.Address, 0o666)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err == nil && family == unix.AF_INET {
		var bound unix.Sockaddr
		if bound, err = unix.Getsockname(fd); err == nil {
			host, _, _ := strings.Cut(e.Address, ":")
			e.Address = fmt.Sprintf("%s:%d", host, bound.(*unix.SockaddrInet4).Port)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, e, fmt.Errorf("listening on %s: %w", e, err)
	}
	return fd, e, nil
}
