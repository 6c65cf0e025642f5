package milter

import (
	"io"
	"os"
	"sync"
	"syscall"
)

// This file is the buffer that frames are read into. It grows with the data received,
// never with a length that a peer claims, up to one frame. It is held only while there
// is data: who waits for his MTA holds none, or one of the size of the half frame that
// he has.

// Sizes of the read buffer in bytes. Beyond ordinaryBuffer it doubles.
const (
	// firstReadBytes is the size before the MTA has made its offer, which has some 17
	// bytes: most who never do scan ports.
	firstReadBytes = 512

	// readAheadBytes is what a connection may hold without being counted.
	readAheadBytes = 4 << 10

	// burstBytes is enough for most messages from MAIL to their end: the MTA waits for
	// nothing before, so that one read takes all of it.
	burstBytes = 16 << 10

	// ordinaryBuffer is enough for every frame of the data size that we negotiate (64
	// KiB), and for the macros that Postfix sends before each: one read takes both.
	ordinaryBuffer = 72 << 10

	// maxBufferBytes is the last size: one frame and its length.
	maxBufferBytes = frameHeaderBytes + MaxFrameBytes
)

// Buffers go from hand to hand.
var (
	firstBuffers    = sync.Pool{New: func() any { return new([firstReadBytes]byte) }}
	aheadBuffers    = sync.Pool{New: func() any { return new([readAheadBytes]byte) }}
	burstBuffers    = sync.Pool{New: func() any { return new([burstBytes]byte) }}
	ordinaryBuffers = sync.Pool{New: func() any { return new([ordinaryBuffer]byte) }}
)

// largerBuffers are pools of the sizes beyond them, of *[]byte: half frames of a megabyte
// would leave twice as much garbage each. The collector empties them like all pools.
var largerBuffers = map[int]*sync.Pool{2 * ordinaryBuffer: {}, 4 * ordinaryBuffer: {}, 8 * ordinaryBuffer: {}, maxBufferBytes: {}}

func takeBuffer(size int) []byte {
	switch size {
	case firstReadBytes:
		return firstBuffers.Get().(*[firstReadBytes]byte)[:]
	case readAheadBytes:
		return aheadBuffers.Get().(*[readAheadBytes]byte)[:]
	case burstBytes:
		return burstBuffers.Get().(*[burstBytes]byte)[:]
	case ordinaryBuffer:
		return ordinaryBuffers.Get().(*[ordinaryBuffer]byte)[:]
	}
	if pool := largerBuffers[size]; pool != nil {
		if b, ok := pool.Get().(*[]byte); ok {
			return *b
		}
	}
	return make([]byte, size)
}

func giveBuffer(b []byte) {
	switch len(b) {
	case firstReadBytes:
		firstBuffers.Put((*[firstReadBytes]byte)(b))
	case readAheadBytes:
		aheadBuffers.Put((*[readAheadBytes]byte)(b))
	case burstBytes:
		burstBuffers.Put((*[burstBytes]byte)(b))
	case ordinaryBuffer:
		ordinaryBuffers.Put((*[ordinaryBuffer]byte)(b))
	default:
		if pool := largerBuffers[len(b)]; pool != nil {
			pool.Put(&b)
		}
	}
}

// setBuffer changes to a buffer of another size, 0 for none, with what is in it. The
// room for one beyond ordinaryBuffer must have been taken.
func (g *guard) setBuffer(size int) {
	old := g.in
	if g.in = nil; size > 0 {
		g.in = takeBuffer(size)
	}
	g.end = copy(g.in, old[g.start:g.end])
	g.start = 0
	giveBuffer(old)
	if g.crowd != nil {
		g.count(len(old), size)
	}
}

// count tells the crowd of a change of the buffer's size.
func (g *guard) count(old, size int) {
	beyond := func(size, limit int) int { return max(size, limit) - limit }
	if less := beyond(old, ordinaryBuffer) - beyond(size, ordinaryBuffer); less > 0 {
		g.crowd.large.Add(-int64(less))
	}
	g.buffered.Store(int64(beyond(size, readAheadBytes)))
	if more := beyond(min(size, ordinaryBuffer), readAheadBytes) - beyond(min(old, ordinaryBuffer), readAheadBytes); more != 0 {
		g.crowd.ordinary(more)
	}
}

// growBuffer makes the read buffer larger. For a frame that is larger than any we
// negotiate it waits if all connections together hold too much, or if that is not
// wanted returns errNoRoom.
func (g *guard) growBuffer(wait bool) error {
	size := g.nextSize()
	if larger := size - max(len(g.in), ordinaryBuffer); larger > 0 && g.crowd != nil {
		if err := g.awaitRoom(larger, wait); err != nil {
			return err
		}
	}
	g.setBuffer(size)
	return nil
}

// nextSize returns the size of the read buffer after this one.
func (g *guard) nextSize() int {
	switch {
	case len(g.in) == 0 && !g.greeted:
		return firstReadBytes
	case len(g.in) < readAheadBytes:
		return readAheadBytes
	case len(g.in) < burstBytes:
		return burstBytes
	case len(g.in) < ordinaryBuffer:
		return ordinaryBuffer
	}
	return min(2*len(g.in), maxBufferBytes)
}

// dropBuffer gives the read buffer back with what is in it.
func (g *guard) dropBuffer() {
	g.start, g.end = 0, 0
	if g.in != nil {
		g.setBuffer(0)
	}
}

// compact empties the buffer when all of it was admitted. One that a large frame has
// grown is let go between messages, and when others need the room.
func (g *guard) compact() {
	if g.start < g.end {
		return
	}
	g.start, g.end = 0, 0
	switch {
	case len(g.in) > readAheadBytes && (!g.isInMessage() || g.crowd != nil && g.crowd.isShort()),
		g.greeted && len(g.in) < readAheadBytes: // the one for the offer
		g.dropBuffer()
	}
}

// receive reads once into the buffer. When that is full, what was admitted makes
// room; if nothing was, it grows, for a frame is then larger than the buffer.
func (g *guard) receive(wait bool) {
	if g.end == len(g.in) && (g.end > 0 || g.ready.conn == nil) {
		if g.start > 0 {
			g.end = copy(g.in, g.in[g.start:g.end])
			g.start = 0
		} else if g.inErr = g.growBuffer(wait); g.inErr != nil {
			return
		}
	}
	if g.ready.conn != nil {
		g.ready.receive()
		return
	}
	n, err := g.conn.Read(g.in[g.end:])
	g.end += n
	if err != nil {
		g.inErr = err
	}
}

// readiness is how a socket is read: a buffer is taken when there is something to read,
// and given back when there is not. Other kinds of connections have none.
type readiness struct {
	g    *guard
	conn syscall.RawConn
	read func(fd uintptr) bool // g.ready.attempt, made once
}

func (r *readiness) init(g *guard) {
	socket, ok := g.conn.(syscall.Conn)
	if !ok {
		return
	}
	if conn, err := socket.SyscallConn(); err == nil {
		r.g, r.conn, r.read = g, conn, r.attempt
	}
}

// receive waits until it has read something, or an error.
func (r *readiness) receive() {
	if err := r.conn.Read(r.read); err != nil {
		r.g.inErr = err
	}
}

// attempt reads once; it reports false to be called again when there may be more.
func (r *readiness) attempt(fd uintptr) bool {
	g := r.g
	switch {
	case !g.greeted && g.in == nil:
		g.setBuffer(firstReadBytes)
	case g.greeted && len(g.in) < burstBytes:
		g.setBuffer(burstBytes)
	}
	for {
		n, err := syscall.Read(int(fd), g.in[g.end:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			g.rest()
			return false
		case err != nil:
			g.inErr = os.NewSyscallError("read", err)
		case n == 0:
			g.inErr = io.EOF
		}
		g.end += max(n, 0)
		return true
	}
}

// rest gives up what is not needed of the buffer while there is nothing to read.
func (g *guard) rest() {
	have := g.end - g.start
	switch {
	case have == 0:
		g.dropBuffer()
	case have < firstReadBytes && len(g.in) > firstReadBytes:
		g.setBuffer(firstReadBytes)
	case have < readAheadBytes && len(g.in) > readAheadBytes:
		g.setBuffer(readAheadBytes)
	case have < ordinaryBuffer && len(g.in) > ordinaryBuffer:
		g.setBuffer(ordinaryBuffer) // larger ones are few
	}
}
