package spool

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/amavis-milter/amavis-milter/internal/minutely"
	"golang.org/x/sys/unix"
)

// limits is what all messages together may take of the disk, and of memory.
type limits struct {
	bytes account
	space freeSpace
	large atomic.Int64 // bytes of large buffers
	log   *slog.Logger

	maxBytesLog, minFreeLog, blindLog minutely.Cases
}

func newLimits(log *slog.Logger) *limits {
	return &limits{log: log, space: freeSpace{statfs: unix.Fstatfs}}
}

// set puts the limits in force. It is called before there are messages, but after
// the test of the work directory, which is not to fail because of them.
func (l *limits) set(opt Options, h *home) {
	l.bytes.limit = max(opt.MaxBytes, 0)
	l.space.min = max(opt.MinFree, 0)
	if l.space.min == 0 {
		return
	}
	switch now, err := l.space.lookAt(h.dir); {
	case err != nil:
		l.log.Warn(fmt.Sprintf("work directory: %s: its file system does not say how much is free: %v; nothing is kept free (--min-free)", h.path, err))
	case now.total == 0:
		l.log.Warn(fmt.Sprintf("work directory: %s: its file system claims to have no blocks at all, so that nobody knows how much is free; nothing is kept free (--min-free)", h.path))
	case now.free <= l.space.min:
		l.log.Warn(fmt.Sprintf("work directory: %s: %d bytes are free on its file system of %d, but %d are to be left free: mail gets 452 until there is room; make room, or lower --min-free", h.path, now.free, now.total, l.space.min))
	}
}

// takeDir asks for what the directory of a new message takes, a block. It fails
// where there would be no room for the mail file either.
func (l *limits) takeDir(h *home) (taken int64, err error) {
	if err := l.bytes.full(); err != nil {
		return 0, l.refused(h, err, &l.maxBytesLog)
	}
	return l.takeSpace(h, 0, 1)
}

// takeFile asks for n bytes more in a mail file that holds size.
func (l *limits) takeFile(h *home, size, n int64) (taken int64, err error) {
	if err := l.bytes.take(n); err != nil {
		return 0, l.refused(h, err, &l.maxBytesLog)
	}
	taken, err = l.takeSpace(h, size, n)
	if err != nil {
		l.bytes.give(n)
	}
	return taken, err
}

func (l *limits) takeSpace(h *home, size, n int64) (int64, error) {
	taken, err, doubt := l.space.take(h.dir, size, n)
	if doubt != nil {
		if n, ok := l.blindLog.Next(); ok {
			l.log.Warn("spool: the file system does not say how much is free; mail is taken all the same", "dir", h.path, "error", doubt, "cases", n)
		}
	}
	if err != nil {
		return 0, l.refused(h, err, &l.minFreeLog)
	}
	return taken, nil
}

// refused tells that a message could not be stored because of a limit, once a
// minute, and returns err.
func (l *limits) refused(h *home, err error, log *minutely.Cases) error {
	if n, ok := log.Next(); ok {
		l.tell(h, log, n)
	}
	return err
}

func (l *limits) tell(h *home, log *minutely.Cases, messages int) {
	if log == &l.maxBytesLog {
		l.log.Warn("spool: messages cannot be stored: the mail files would hold more than --max-spool lets them; raise it, or see why mail stays so long",
			"dir", h.path, "bytes", l.bytes.held.Load(), "max_spool", l.bytes.limit, "messages", messages)
		return
	}
	var free int64 = -1
	if now, err := l.space.lookAt(h.dir); err == nil {
		free = now.free
	}
	l.log.Warn("spool: messages cannot be stored: less than --min-free would be left on the file system; make room, or lower it",
		"dir", h.path, "free", free, "min_free", l.space.min, "messages", messages)
}

// close tells of the messages that no line has told of yet.
func (l *limits) close(h *home) {
	for _, log := range []*minutely.Cases{&l.maxBytesLog, &l.minFreeLog} {
		if n := log.Rest(); n > 0 {
			l.tell(h, log, n)
		}
	}
}
