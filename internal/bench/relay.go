package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// Relay passes on what it reads a fixed time later, each way, as a wire of that length
// does: what follows closely does not wait for what is before it. It acknowledges at once
// what it reads (tcp(7) TCP_QUICKACK), so that no end of it waits for a delayed
// acknowledgement as Nagle's algorithm has it: that would be another 40 ms for one who
// writes an answer in pieces.
type Relay struct {
	At Endpoint

	loop  *Loop
	to    Endpoint
	delay time.Duration
	fd    int
	timer int
	queue []flight // in the order in which they are due
	ends  map[*wireEnd]bool
}

// flight is what is on the wire.
type flight struct {
	due  time.Duration
	data []byte // nil: the other end hung up
	to   *wireEnd
}

// NewRelay listens on a TCP port and passes on to an endpoint, with a delay each way.
func NewRelay(loop *Loop, to Endpoint, delay time.Duration) (*Relay, error) {
	fd, at, err := Endpoint{"tcp", "127.0.0.1:0"}.listen()
	if err != nil {
		return nil, err
	}
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	r := &Relay{At: at, loop: loop, to: to, delay: delay, fd: fd, timer: timer, ends: map[*wireEnd]bool{}}
	loop.Do(func() {
		if err = loop.add(fd, r); err == nil {
			err = loop.add(timer, (*relayTimer)(r))
		}
	})
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Close ends the relay and cuts its wires.
func (r *Relay) Close() {
	r.loop.Do(func() {
		for end := range r.ends {
			end.cut()
		}
		r.loop.remove(r.fd)
		r.loop.remove(r.timer)
	})
}

// ready accepts a connection and makes its wire.
func (r *Relay) ready(uint32) {
	fd, errno := accept(r.fd)
	if errno != 0 {
		return
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	far, err := r.to.connect()
	if err != nil {
		closeFD(fd)
		return
	}
	near, other := &wireEnd{relay: r, fd: fd}, &wireEnd{relay: r, fd: far}
	near.other, other.other = other, near
	for _, end := range []*wireEnd{near, other} {
		r.ends[end] = true
		unix.SetsockoptInt(end.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
		if r.loop.add(end.fd, end) != nil {
			end.cut()
		}
	}
}

// wireEnd is one of the two ends of a wire.
type wireEnd struct {
	relay  *Relay
	fd     int
	other  *wireEnd
	closed bool
	unsent []byte
}

func (e *wireEnd) ready(events uint32) {
	if events&unix.EPOLLOUT != 0 {
		e.send(nil)
	}
	if e.closed || events&^unix.EPOLLOUT == 0 {
		return
	}
	data := make([]byte, readSize)
	n, errno := read(e.fd, data)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0 || n == 0:
		e.relay.fly(nil, e.other)
		e.cut()
	default:
		unix.SetsockoptInt(e.fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
		e.relay.fly(data[:n:n], e.other)
	}
}

// send writes to this end what has arrived.
func (e *wireEnd) send(data []byte) {
	if e.closed {
		return
	}
	waiting := len(e.unsent) > 0
	if e.unsent = append(e.unsent, data...); len(e.unsent) == 0 {
		return
	}
	n, errno := write(e.fd, e.unsent)
	if errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR {
		e.cut()
		return
	}
	if n > 0 {
		e.unsent = e.unsent[n:]
	}
	if now := len(e.unsent) > 0; now != waiting {
		e.relay.loop.wantWrite(e.fd, now)
	}
}

func (e *wireEnd) cut() {
	if !e.closed {
		e.closed = true
		e.relay.loop.remove(e.fd)
		delete(e.relay.ends, e)
	}
}

// fly puts data on the wire.
func (r *Relay) fly(data []byte, to *wireEnd) {
	r.queue = append(r.queue, flight{now() + r.delay, data, to})
	if len(r.queue) == 1 {
		r.arm()
	}
}

// arm sets the timer to when the first is due.
func (r *Relay) arm() {
	wait := max(r.queue[0].due-now(), time.Nanosecond)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
	unix.TimerfdSettime(r.timer, 0, &spec, nil)
}

// relayTimer delivers what is due.
type relayTimer Relay

func (t *relayTimer) ready(uint32) {
	r := (*Relay)(t)
	var count [8]byte
	read(r.timer, count[:])
	for len(r.queue) > 0 && r.queue[0].due <= now() {
		f := r.queue[0]
		r.queue = r.queue[1:]
		if f.data == nil {
			f.to.cut()
			continue
		}
		f.to.send(f.data)
	}
	if len(r.queue) > 0 {
		r.arm()
	}
}
