package milter

import (
	"bytes"
	"strings"
)

// This file is the short way of what a message mostly consists of: header fields and
// pieces of the body go from the guard to the session without the library, which
// would copy each of them several times. Only those take it that the library would do
// nothing else with: the MTA waits for no answer to them, and they are where they
// belong. The same checks come before it and the same calls behind.

// sequence knows at which command a connection is, macros counting as the command that
// they are for: in truth, and for the library, which forgets a message by itself when a
// command comes that belongs before the last one.
type sequence struct {
	last   int // place of the last command
	handed int // place of the last one that the library has seen
}

// place returns where a command belongs in a connection, as the library counts; 0 for
// those that may come anywhere.
func place(command byte) int { return bytes.IndexByte([]byte("CHMRTLNBE"), command) + 1 }

// step notes a command, or macros for it. It reports whether the message before is
// to be forgotten.
func (q *sequence) step(command byte) (forget bool) {
	p := place(command)
	forget = p > 0 && p < q.last // after an ABORT there is nothing to forget
	if p > 0 {
		q.last = p
	}
	return forget
}

// hand notes that the library is to see a command. It reports whether the library would
// not forget a message by itself.
func (q *sequence) hand(command byte) (unnoticed bool) {
	p := place(command)
	if p == 0 {
		return false
	}
	unnoticed = p >= q.handed
	q.handed = p
	return unnoticed
}

// serve gives content to the session, if that takes it.
func (g *guard) serve(command byte, data []byte) bool {
	if command != cmdHeader && command != cmdBody {
		return false
	}
	if g.content == nil || g.sequence.last > place(command) || !g.content(command, data) {
		return false
	}
	g.sequence.step(command)
	g.macros.command(command)
	g.told = false
	return true
}

// takeContent has the guard serve content if the MTA does not wait for the answer.
func (s *session) takeContent() {
	s.g.content = nil
	if !s.isAwaited(cmdHeader) && !s.isAwaited(cmdBody) {
		s.g.content = s.content
	}
}

// content takes a header field or a piece of the body. It does not unless it knows what
// to do with it: before the transaction has begun the library's macros are needed.
func (s *session) content(command byte, data []byte) bool {
	switch {
	case s.refusal != nil:
		return true
	case s.tx == nil:
		return false
	case command == cmdHeader:
		s.protect("header", func() { s.header(data) })
	default:
		s.protect("body", func() { s.tx.Body(data) })
	}
	return true
}

// header passes on a header field: name NUL value NUL.
func (s *session) header(data []byte) {
	field := string(data[:len(data)-1])
	end := strings.IndexByte(field, 0)
	name, value := field[:end], field[end+1:]
	if !s.hasLeadingSpace() {
		value = " " + value
	}
	s.tx.Header(name, value)
}
