package milter

import (
	"os"
	"syscall"
	"time"
)

// readySet tells which of many sockets have something to read, an end or an error
// included: an epoll(7) set.
type readySet struct {
	file *os.File
	conn syscall.RawConn
}

// readyEvents is how many events are read at a time.
const readyEvents = 128

func newReadySet() (*readySet, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// So that Go's poller waits for it, and no thread does.
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &readySet{file: os.NewFile(uintptr(fd), "epoll")}
	if s.conn, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	// What the poller does not take has no deadlines, and nobody would be told of anything.
	// Package os does not tell why: the system has neither memory nor watches left.
	if s.file.SetReadDeadline(time.Time{}) != nil {
		s.file.Close()
		return nil, os.NewSyscallError("epoll_ctl", syscall.ENOMEM)
	}
	return s, nil
}

// add has a socket told once, by that number. It reports whether it could.
func (s *readySet) add(socket syscall.RawConn, number uint64) bool {
	event := &syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT,
		Fd:     int32(number), Pad: int32(number >> 32),
	}
	err := s.control(socket, syscall.EPOLL_CTL_ADD, event)
	if err == syscall.EEXIST { // it was roused in the moment in which it was added
		err = s.control(socket, syscall.EPOLL_CTL_MOD, event)
	}
	return err == nil
}

// remove takes a socket out. One that is closed is out already.
func (s *readySet) remove(socket syscall.RawConn) { _ = s.control(socket, syscall.EPOLL_CTL_DEL, nil) }

func (s *readySet) control(socket syscall.RawConn, op int, event *syscall.EpollEvent) error {
	err := error(os.ErrClosed)
	_ = s.conn.Control(func(set uintptr) {
		_ = socket.Control(func(fd uintptr) {
			err = syscall.EpollCtl(int(set), op, int(fd), event)
		})
	})
	return err
}

// run tells of the sockets until the set is closed.
func (s *readySet) run(tell func(number uint64)) {
	events := make([]syscall.EpollEvent, readyEvents)
	_ = s.conn.Read(func(set uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(set), events, 0)
			if err == syscall.EINTR {
				continue
			}
			if n <= 0 {
				return err != nil // to be called again when there is more
			}
			for _, e := range events[:n] {
				tell(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
			}
		}
	})
}

func (s *readySet) close() { _ = s.file.Close() }
