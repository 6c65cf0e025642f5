package spool

import (
	"sync"
	"sync/atomic"
)

const (
	// smallBuffer is the size in bytes of the buffer in which a message begins. It
	// holds most messages whole, and is what a slow client costs while the
	// MTA waits for its data.
	smallBuffer = 8 << 10

	// largeBuffer is the size in bytes of the buffer that a longer message goes on
	// in. It is all of a message that is ever held in memory.
	largeBuffer = 64 << 10

	// maxLargeInAll bounds the large buffers of all messages together, in bytes. Messages
	// beyond it go on in their small ones: their file is begun sooner, and takes more writes.
	maxLargeInAll = 4 << 20
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// buffer gathers what is to be written. The zero value owns no memory.
type buffer struct {
	small *[smallBuffer]byte
	large *[largeBuffer]byte
	n     int // bytes gathered
}

func (b *buffer) space() []byte {
	switch {
	case b.large != nil:
		return b.large[:]
	case b.small != nil:
		return b.small[:]
	}
	return nil
}

// free returns the part that is not yet filled; fill says how much of it was.
func (b *buffer) free() []byte { return b.space()[b.n:] }
func (b *buffer) fill(n int)   { b.n += n }
func (b *buffer) data() []byte { return b.space()[:b.n] }
func (b *buffer) reset()       { b.n = 0 }

// grow makes more room without giving up what is gathered, and reports whether it
// could: a large buffer does not grow, nor does a small one when all messages together
// hold too much.
func (b *buffer) grow(inAll *atomic.Int64) bool {
	switch {
	case b.large != nil:
		return false
	case b.small == nil:
		b.small = smallBuffers.Get().(*[smallBuffer]byte)
	case inAll.Add(largeBuffer) > maxLargeInAll:
		inAll.Add(-largeBuffer)
		return false
	default:
		b.large = largeBuffers.Get().(*[largeBuffer]byte)
		copy(b.large[:], b.small[:b.n])
		smallBuffers.Put(b.small)
		b.small = nil
	}
	return true
}

// release gives the memory back, and with it what was gathered.
func (b *buffer) release(inAll *atomic.Int64) {
	if b.small != nil {
		smallBuffers.Put(b.small)
	}
	if b.large != nil {
		largeBuffers.Put(b.large)
		inAll.Add(-largeBuffer)
	}
	*b = buffer{}
}
