// Package logging holds the slog handlers of the daemon: one for stderr, one for
// syslog.
//
// A record becomes one line and one write:
//
//	QUEUEID: message key=value key="other value"
//
// The queue id is that of the attribute [QueueIDKey], if there is one, whether it
// came with the record or with [slog.Logger.With]. Much of what is logged was sent
// by strangers; values are quoted so that nobody can write a line or a pair of his
// own, and lines are cut at a limit.
package logging

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

// sink takes finished lines.
type sink interface {
	// write writes one line, without its end. It does not keep the line, and does not
	// wait for long.
	write(at time.Time, level slog.Level, line []byte) error
	// limit is the length of the longest line in bytes.
	limit() int
}

// Handler is a slog.Handler that writes lines as the package describes them.
type Handler struct {
	sink  sink
	level slog.Leveler

	given  pairs  // from WithAttrs, formatted already
	groups string // open groups, each with a dot behind it
}

var _ slog.Handler = (*Handler)(nil)

func newHandler(s sink, level slog.Leveler) *Handler {
	// One value may take half of the line, so that it cannot push out the others.
	return &Handler{sink: s, level: level, given: pairs{longest: s.limit() / 2}}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.given.text = slices.Clone(h.given.text)
	for _, a := range attrs {
		next.given.add(h.groups, a)
	}
	return &next
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.groups += name + "."
	return &next
}

// Handle implements slog.Handler. Its error says that the line was not written,
// or not in time.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	b := buffers.Get().(*buffer)
	defer b.release()
	p := h.given
	p.text = append(b.pairs[:0], h.given.text...)
	r.Attrs(func(a slog.Attr) bool {
		p.add(h.groups, a)
		return true
	})
	line := b.line[:0]
	if p.queueID != "" {
		line = append(append(line, p.queueID...), ": "...)
	}
	line = append(line, message(cut(r.Message, p.longest))...)
	b.pairs = p.text
	if r.Message == "" && len(p.text) > 0 {
		p.text = p.text[1:] // the space before the first pair
	}
	line = append(line, p.text...)
	b.line = line
	if limit := h.sink.limit(); len(line) > limit {
		line = append(line[:cutEnd(line, limit)], cutMark...)
	}
	return h.sink.write(r.Time, r.Level, line)
}
