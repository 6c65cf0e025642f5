package ampdp

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// readBuffer is the size of the buffer for a reply, in bytes: a usual reply fits.
const readBuffer = 4 << 10

// lineReader splits what it reads into lines, under Limits. Its errors do not
// depend on how the bytes arrive.
type lineReader struct {
	r      *bufio.Reader
	limits Limits
	share  share  // of what the reply takes
	total  int    // bytes read, those of an unfinished line included
	long   []byte // a line that did not fit into r's buffer
}

// newLineReader reads through r itself if that is a *bufio.Reader.
func newLineReader(r io.Reader, limits Limits) *lineReader {
	buffered, ok := r.(*bufio.Reader)
	if !ok {
		buffered = bufio.NewReaderSize(r, readBuffer)
	}
	return &lineReader{r: buffered, limits: limits.withDefaults()}
}

// next returns the next line without its CR LF or bare LF. It is the caller's, to
// decode in its place, until the next call. The end of input is an error, ErrNoReply or ErrTruncated: only an
// empty line ends a reply.
func (l *lineReader) next() ([]byte, error) {
	l.long = l.long[:0]
	for {
		piece, err := l.r.ReadSlice('\n')
		l.total += len(piece)
		if noRoom := l.share.take(len(piece)); noRoom != nil {
			return nil, noRoom
		}
		line := piece
		if err != nil || len(l.long) > 0 {
			l.long = append(l.long, piece...)
			line = l.long
		}
		if tooLarge := l.check(line); tooLarge != nil {
			return nil, tooLarge
		}
		switch {
		case err == nil:
			return trimLineEnd(line), nil
		case err == bufio.ErrBufferFull:
		case err == io.EOF:
			return nil, l.endOfInput()
		default:
			return nil, err
		}
	}
}

// check holds the limits against a line that may still be growing: a CR at its end
// may turn out to be part of the line end.
func (l *lineReader) check(line []byte) error {
	if l.total > l.limits.Bytes {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, l.limits.Bytes)
	}
	if len(trimLineEnd(line)) > l.limits.Line {
		return fmt.Errorf("%w: a line of more than %d bytes", ErrTooLarge, l.limits.Line)
	}
	return nil
}

func (l *lineReader) endOfInput() error {
	if l.total == 0 {
		return ErrNoReply
	}
	return ErrTruncated
}

func trimLineEnd(line []byte) []byte {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	return bytes.TrimSuffix(line, []byte{'\r'})
}

// seen reports whether any byte of a reply has arrived.
func (l *lineReader) seen() bool { return l.total > 0 }
