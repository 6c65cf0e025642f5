package logging

import "sync"

// keptBytes is the size in bytes of the largest buffer that is kept for the next line:
// a few values of the longest line.
const keptBytes = 2 * maxStderrLine

// buffer is the memory in which one line is put together.
type buffer struct{ pairs, line []byte }

var buffers = sync.Pool{New: func() any { return new(buffer) }}

func (b *buffer) release() {
	if cap(b.pairs) <= keptBytes && cap(b.line) <= keptBytes {
		buffers.Put(b)
	}
}
