package spool

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Draft is a mail file that is being written. What is written is gathered in
// memory up to a bound (largeBuffer) and streamed to the disk beyond it; the file
// is made with the first bytes that go to the disk.
//
// Its errors are sticky: after the first one nothing more is written, what was is
// removed at once to give the space back, and every later call returns that error
// cheaply. Remove must be called in any case. The writing methods are for one
// goroutine at a time; Remove, and Close of the spool, may come from others.
type Draft struct {
	entry  *entry
	err    error    // the first error
	lines  newlines // of the body
	header bool     // the empty line behind the header has been written
	sealed bool
}

// WriteRaw writes bytes as they are. It is for what this program itself puts in
// front of the message.
func (d *Draft) WriteRaw(p []byte) error {
	return d.do(func() {
		d.endLines()
		d.write(p)
	})
}

// Header writes one header field: name, colon, value, LF. The value is the bytes
// behind the colon, its leading space included; CR LF within it becomes LF, all
// else stays as it is. After the end of the header it is an error.
func (d *Draft) Header(name, value string) error {
	return d.do(func() {
		if d.header {
			d.fail(ErrHeaderClosed)
			return
		}
		d.writeString(name)
		d.writeString(":")
		for d.err == nil {
			line, rest, folded := strings.Cut(value, "\r\n")
			d.writeString(line)
			if !folded {
				break
			}
			d.writeString("\n")
			value = rest
		}
		d.writeString("\n")
	})
}

// EndHeader writes the empty line that ends the header, the first time it is
// called.
func (d *Draft) EndHeader() error { return d.do(d.endHeader) }

// Body writes a piece of the body. CR LF becomes LF, also where it is cut in two;
// a CR alone, a CR as the last byte and NUL stay. It ends the header if that was
// not done.
func (d *Draft) Body(chunk []byte) error {
	return d.do(func() {
		d.endHeader()
		for len(chunk) > 0 && d.err == nil {
			nDst, nSrc := d.lines.convert(d.entry.buf.free(), chunk)
			d.entry.buf.fill(nDst)
			chunk = chunk[nSrc:]
			if len(chunk) > 0 {
				d.makeRoom()
			}
		}
	})
}

// Seal completes the mail file: it ends the header if that was not done, writes
// what is still in memory and closes the file. The draft cannot be written any
// more; only Remove may follow. The file is not synced to the disk: it is worth
// nothing after a crash, since the MTA still has the message.
func (d *Draft) Seal() (*Message, error) {
	err := d.do(func() {
		d.endHeader()
		d.endLines()
		d.flush()
		if d.err == nil {
			if err := d.entry.complete(); err != nil {
				d.fail(err)
			}
		}
		d.entry.buf.release(&d.entry.spool.limits.large)
		d.sealed = d.err == nil
	})
	if err != nil {
		return nil, err
	}
	return &Message{entry: d.entry, size: d.entry.size}, nil
}

// Remove removes the directory of the draft with all that lies in it, sealed or
// not. It is idempotent, and may be called again after an error. That somebody
// else has removed the directory is no error.
func (d *Draft) Remove() error { return d.entry.remove() }

// do runs one writing method, if there is no reason not to, and returns the
// draft's error.
func (d *Draft) do(write func()) error {
	d.entry.mu.Lock()
	defer d.entry.mu.Unlock()
	switch {
	case d.err != nil:
	case d.sealed:
		return ErrSealed
	case d.entry.gone || d.entry.dir < 0:
		d.err = ErrRemoved
	default:
		write()
	}
	return d.err
}

// fail notes the first error and gives up what is on the disk: when the disk is
// full, the space is better used by others. If that fails, Remove tries again and
// tells.
func (d *Draft) fail(err error) {
	if d.err != nil {
		return
	}
	d.err = fmt.Errorf("writing %s/%s: %w", d.entry.path, mailFile, err)
	_ = d.entry.removeLocked()
}

func (d *Draft) endHeader() {
	if !d.header {
		d.writeString("\n")
		d.header = true
	}
}

// endLines writes the CR that the body may have ended in.
func (d *Draft) endLines() {
	if d.lines.finish() {
		d.writeString("\r")
	}
}

func (d *Draft) write(p []byte) {
	for len(p) > 0 && d.err == nil {
		n := copy(d.entry.buf.free(), p)
		d.entry.buf.fill(n)
		if p = p[n:]; len(p) > 0 {
			d.makeRoom()
		}
	}
}

func (d *Draft) writeString(s string) {
	for len(s) > 0 && d.err == nil {
		n := copy(d.entry.buf.free(), s)
		d.entry.buf.fill(n)
		if s = s[n:]; len(s) > 0 {
			d.makeRoom()
		}
	}
}

// makeRoom makes sure that there is room in the buffer, or an error.
func (d *Draft) makeRoom() {
	if len(d.entry.buf.free()) == 0 && !d.entry.buf.grow(&d.entry.spool.limits.large) {
		d.flush()
	}
}

// flush writes the buffer to the mail file.
func (d *Draft) flush() {
	if d.err != nil {
		return
	}
	if err := d.entry.append(d.entry.buf.data()); err != nil {
		d.fail(err)
		return
	}
	d.entry.buf.reset()
}

// append adds to the mail file, which it makes first if need be and if the limits
// of the spool allow it.
func (e *entry) append(p []byte) error {
	taken, err := e.spool.limits.takeFile(e.home, e.size, int64(len(p)))
	if err != nil {
		return err
	}
	defer e.spool.limits.space.done(taken)
	e.held += int64(len(p))
	if !e.made {
		fd, err := openat(e.dir, mailFile, createFlags, fileMode)
		if err != nil {
			return err
		}
		e.file, e.made = fd, true
	}
	for len(p) > 0 {
		n, err := e.spool.disk.write(e.file, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n <= 0 {
			return unix.EIO // a file system that takes nothing and says nothing
		}
		e.size += int64(n)
		p = p[n:]
	}
	return nil
}

// complete gives the mail file its mode, makes sure that it is what was written,
// and closes it. An error in closing counts: NFS and quotas report there.
func (e *entry) complete() error {
	st, err := fstat(e.file)
	if err == nil && (st.Nlink == 0 || st.Size != e.size) {
		err = ErrTampered
	}
	if err == nil {
		err = setMode(e.file, st, fileMode)
	}
	if err != nil {
		return err
	}
	fd := e.file
	e.file = -1
	// The descriptor is gone whatever close returns, EINTR included.
	return e.spool.disk.close(fd)
}
