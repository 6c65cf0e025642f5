package bench

import (
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// eventsAtOnce is how many events are taken from the kernel with one call.
const eventsAtOnce = 512

// began is when the clock of now starts.
var began = time.Now()

// now reads a clock that nobody sets.
func now() time.Duration { return time.Since(began) }

// handler is told that its descriptor is ready, with the bits of epoll_wait(2). It may be
// told so in vain.
type handler interface{ ready(events uint32) }

// Loop serves descriptors on one thread of its own. What is registered is used by that
// thread only: others come in by Do.
//
// It waits without telling Go's scheduler: told of it, that would look every 20 µs whether
// the wait is long, which costs as much as half of the load. So a loop keeps one of
// the processors that Go believes to have, and brings that with it (GOMAXPROCS).
type Loop struct {
	ep, wake int
	handlers []handler // by descriptor
	closing  bool
	busy     bool // the last wait brought several events
	done     chan struct{}

	mu     sync.Mutex
	posted []func()
}

// NewLoop starts a loop.
func NewLoop() (*Loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("starting an event loop: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(ep)
		return nil, fmt.Errorf("starting an event loop: %w", err)
	}
	l := &Loop{ep: ep, wake: wake, done: make(chan struct{})}
	if err := l.add(wake, (*waker)(l)); err != nil {
		unix.Close(ep)
		unix.Close(wake)
		return nil, err
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	go l.run()
	return l, nil
}

// Close ends the loop. What is registered is not closed.
func (l *Loop) Close() {
	l.post(func() { l.closing = true })
	<-l.done
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) - 1)
	unix.Close(l.ep)
	unix.Close(l.wake)
}

// Do runs f on the loop's thread and returns when it has.
func (l *Loop) Do(f func()) {
	done := make(chan struct{})
	l.post(func() { f(); close(done) })
	<-done
}

func (l *Loop) post(f func()) {
	l.mu.Lock()
	l.posted = append(l.posted, f)
	l.mu.Unlock()
	one := [8]byte{0: 1}
	write(l.wake, one[:])
}

// waker runs what was posted.
type waker Loop

func (w *waker) ready(uint32) {
	var count [8]byte
	read(w.wake, count[:])
	w.mu.Lock()
	posted := w.posted
	w.posted = nil
	w.mu.Unlock()
	for _, f := range posted {
		f()
	}
}

func (l *Loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(l.done)
	events := make([]unix.EpollEvent, eventsAtOnce)
	for !l.closing {
		n, errno := epollWait(l.ep, events)
		if errno != 0 {
			continue // EINTR; nothing else can happen to descriptors of our own
		}
		l.busy = n > 1
		for i := range n {
			if h := l.handlers[events[i].Fd]; h != nil {
				h.ready(events[i].Events)
			}
		}
	}
}

// add registers a descriptor for reading. Only the loop's thread may call it once the
// loop runs.
func (l *Loop) add(fd int, h handler) error {
	for fd >= len(l.handlers) {
		l.handlers = append(l.handlers, make([]handler, max(64, len(l.handlers)))...)
	}
	l.handlers[fd] = h
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		l.handlers[fd] = nil
		return fmt.Errorf("registering a descriptor: %w", err)
	}
	return nil
}

// wantWrite says whether a descriptor is waited for until it takes more as well.
func (l *Loop) wantWrite(fd int, want bool) {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(fd)}
	if want {
		event.Events |= unix.EPOLLOUT
	}
	unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, fd, &event)
}

// remove closes a registered descriptor.
func (l *Loop) remove(fd int) {
	l.handlers[fd] = nil
	unix.Close(fd)
}

// CPU is what the loop's thread has used of the processors so far.
func (l *Loop) CPU() time.Duration {
	var used unix.Rusage
	l.Do(func() { unix.Getrusage(unix.RUSAGE_THREAD, &used) })
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
