package milter

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// closeFlushTimeout bounds the last write to a connection that is closed.
const closeFlushTimeout = time.Second

// errDraining ends a connection between two messages when the server shuts down.
var errDraining = errors.New("connection closed between messages: shutting down")

// errNoAnswer ends a connection on which the library writes something else than the answer
// that is to be replaced: a reply must not become that of another message.
var errNoAnswer = errors.New("the milter library does not write the answer that it was given")

// What ends a connection that speaks the protocol well, and does nothing.
var (
	errNoProgress = errors.New("no progress: no message was answered in time, or not all of a message came")
	errNoRoom     = errors.New("no room for a larger frame in time")
)

// guard stands between the socket and the protocol library as the library's
// net.Conn. It admits only whole, well-formed frames of at most MaxFrameBytes,
// reads ahead, gathers what is written until the next read, owns all deadlines,
// and knows whether the connection is inside a message.
//
// Read, Write and watch belong to one goroutine at a time; drain, cut and shut may
// be called from another.
type guard struct {
	conn  net.Conn
	times Times

	ready      readiness
	in         []byte // bytes received; in[start:end] are not yet admitted
	start, end int
	inErr      error // why nothing more will be received

	admitted []byte // what the library may read now: one frame, or two

	out      []byte
	outErr   error
	instead  []byte      // goes in the place of the library's answer, see replyInstead; nil: that goes itself
	onFlush  func(error) // told once how the next flush went
	argument string      // raw argument of the last MAIL or RCPT frame
	told     bool        // macros for a RCPT came, and that not yet
	tail     bool        // the body packet being read is one that no MTA sent

	macros   macros
	sequence sequence
	content  func(command byte, data []byte) bool // takes header fields and body; nil: the library does

	crowd    *crowd       // all connections; nil if this one is not counted
	address  netip.Prefix // of the peer, as it is counted
	standing standing     // guarded by crowd.mu
	buffered atomic.Int64 // bytes of the read buffer beyond readAheadBytes
	owed     atomic.Int64 // when the MTA began to owe us bytes, since crowd.began; 0: it does not
	greeted  bool         // the MTA has made its offer

	owesContent atomic.Bool // what it owes is of a message's content

	sessionEnd time.Time // no message answered until then ends the connection
	contentEnd time.Time // the same for the content of this message; zero outside of it

	doze    *doze     // nil before the offer
	dozing  bool      // the library has ended, the connection has not
	idleEnd time.Time // when the wait for the next frame ends that began before a doze; zero: there is none

	panicked func(any)   // told of a panic, which ends the connection
	refused  func(error) // told of a frame that was refused
	released func()      // told once when the connection is closed

	mu        sync.Mutex
	inMessage bool // DATA was accepted and the answer not yet sent
	atEnd     bool // the end of the message was read
	draining  bool
	closed    bool
	bed       uint64 // in the dormitory; 0: it is awake
}

func newGuard(conn net.Conn, times Times) *guard {
	g := &guard{
		conn: conn, times: times, sessionEnd: time.Now().Add(times.Session),
		panicked: func(p any) { panic(p) }, refused: func(error) {}, released: func() {},
	}
	g.ready.init(g)
	return g
}

// Read gives the library the next bytes of admitted frames. What was written
// before is sent first: the MTA may be waiting for it. Every end is io.EOF to the
// library, which would put other errors into the log by words of its own.
func (g *guard) Read(p []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			g.panicked(r)
			n, err = 0, io.EOF
		}
	}()
	if len(g.admitted) == 0 {
		if g.doze != nil && g.doze.again {
			g.doze.again = false
			g.releaseOut() // the library has answered the offer once more
		}
		if g.flush(g.times.Write) != nil || g.admit() != nil {
			return 0, io.EOF
		}
	}
	n = copy(p, g.admitted)
	g.admitted = g.admitted[n:]
	if len(g.admitted) == 0 {
		g.admitted = nil // or it would keep a large buffer alive
	}
	return n, nil
}

// admit reads frames until one is to be handed to the library.
func (g *guard) admit() error {
	for len(g.admitted) == 0 {
		frame, err := g.awaitFrame()
		if err != nil {
			return err
		}
		g.macros.settle()
		command, data := frame[frameHeaderBytes], frame[frameHeaderBytes+1:]
		if err := checkFrame(command, data); err != nil {
			g.refused(err)
			return err
		}
		if err := g.note(command); err != nil {
			return err
		}
		if !g.serve(command, data) {
			g.handOn(command, data, frame)
		}
	}
	return nil
}

// note keeps track of whether the connection is inside a message, and ends it at
// the first chance when the server is draining.
func (g *guard) note(command byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining && !g.inMessage {
		return errDraining
	}
	switch {
	case beginsMessage(command):
		g.inMessage, g.atEnd = true, command == cmdBodyEOB
		if command != cmdData && g.contentEnd.IsZero() {
			g.contentEnd = time.Now().Add(g.times.Content)
		}
	case command != cmdMacro && command != cmdUnknown:
		g.inMessage, g.atEnd = false, false
		g.contentEnd = time.Time{}
	}
	return nil
}

// messageDone says that the message has its answer.
func (g *guard) messageDone() {
	g.mu.Lock()
	g.inMessage, g.atEnd = false, false
	end := g.draining
	g.mu.Unlock()
	g.contentEnd, g.sessionEnd = time.Time{}, time.Now().Add(g.times.Session)
	if end {
		_ = g.shut()
	}
}

// next returns the next whole frame with its length field; it stays valid until
// the next call. idle bounds the wait for its first byte.
func (g *guard) next(idle time.Duration) ([]byte, error) {
	g.compact()
	begun := false
	for {
		if have := g.end - g.start; have >= frameHeaderBytes {
			length := binary.BigEndian.Uint32(g.in[g.start:])
			if err := checkLength(length); err != nil {
				g.refused(err)
				return nil, err
			}
			if whole := frameHeaderBytes + int(length); have >= whole {
				frame := g.in[g.start : g.start+whole : g.start+whole]
				g.start += whole
				g.greeted = true
				g.settled()
				return frame, nil
			}
		}
		if g.inErr != nil {
			return nil, g.endOfInput()
		}
		if g.isDrained() {
			return nil, errDraining
		}
		switch partial := g.end > g.start; {
		case !partial:
			g.setReadDeadline(idle)
		case !begun:
			begun = true
			g.settled() // what it owed before was the frame's beginning
			g.setReadDeadline(g.times.Frame)
		}
		if g.end > g.start || !g.greeted || !g.contentEnd.IsZero() {
			g.owing()
		}
		g.receive(true)
	}
}

// endOfInput says why nothing more comes; an end inside a frame is no clean end.
func (g *guard) endOfInput() error {
	switch {
	case g.inErr == errNoRoom:
		g.refused(errNoRoom)
		return g.inErr
	case errors.Is(g.inErr, os.ErrDeadlineExceeded) && !time.Now().Before(g.lastMoment()):
		g.refused(errNoProgress)
		return g.inErr
	case g.end == g.start:
		return g.inErr
	}
	err := g.inErr
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		g.refused(errors.New("frame not complete in time"))
	}
	return err
}

func (g *guard) setReadDeadline(wait time.Duration) {
	deadline := time.Time{}
	if wait > 0 {
		deadline = time.Now().Add(wait)
		if last := g.lastMoment(); last.Before(deadline) {
			deadline = last
		}
	}
	// An error here means a closed connection, which the next read reports.
	_ = g.conn.SetReadDeadline(deadline)
}

// Write keeps what the library writes until the next flush.
func (g *guard) Write(p []byte) (int, error) {
	if g.outErr != nil {
		return 0, g.outErr
	}
	g.takeOut()
	if g.instead == nil {
		g.out = append(g.out, p...)
		return len(p), nil
	}
	if len(p) != frameHeaderBytes+1 || p[frameHeaderBytes] != answerReject && p[frameHeaderBytes] != answerTempFail {
		g.outErr = errNoAnswer
		return 0, g.outErr
	}
	g.out, g.instead = append(g.out, g.instead...), nil
	return len(p), nil
}

// takeOut takes a buffer for what is written, if there is none.
func (g *guard) takeOut() {
	if g.out == nil {
		g.out = takeBuffer(readAheadBytes)[:0]
	}
}

// releaseOut gives that buffer up with what is in it.
func (g *guard) releaseOut() {
	if cap(g.out) == readAheadBytes {
		giveBuffer(g.out[:readAheadBytes])
	}
	g.out = nil
}

// rollback takes back what was written since the last flush, so that a set of
// changes is sent as a whole or not at all.
func (g *guard) rollback() { g.out, g.instead = g.out[:0], nil }

// progress tells the MTA that the verdict is still to come (SMFIR_PROGRESS). The
// library refuses it to versions before 6; libmilter sends it to all.
func (g *guard) progress() error {
	g.out = appendFrame(g.out, 'p', nil)
	return g.flush(g.times.Write)
}

// flush sends what was written, in one write, and tells onFlush.
func (g *guard) flush(timeout time.Duration) error {
	if len(g.out) > 0 && g.outErr == nil {
		_ = g.conn.SetWriteDeadline(time.Now().Add(timeout))
		_, g.outErr = g.conn.Write(g.out)
		g.releaseOut()
	}
	g.flushed(g.outErr)
	return g.outErr
}

func (g *guard) flushed(err error) {
	if told := g.onFlush; told != nil {
		g.onFlush = nil
		told(err)
	}
}

// Close sends what is left and closes the connection.
func (g *guard) Close() error {
	if g.dozing {
		g.lieDown()
		return nil
	}
	_ = g.flush(closeFlushTimeout)
	err := g.shut()
	g.dropBuffer()
	g.released()
	return err
}

// shut closes the connection once.
func (g *guard) shut() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	err, bed := g.conn.Close(), g.bed
	g.mu.Unlock()
	if bed != 0 {
		g.doze.in.rouse(bed)
	}
	return err
}

// drain closes the connection if it is between two messages, and otherwise has it
// closed when its message is done.
func (g *guard) drain() {
	g.mu.Lock()
	g.draining = true
	idle := !g.inMessage
	g.mu.Unlock()
	if idle {
		_ = g.shut()
	}
}

// cut ends the wait for the rest of a message. A message that is complete and
// waits for its verdict is left alone: it is about to be answered.
func (g *guard) cut() {
	g.mu.Lock()
	waiting := g.atEnd
	g.mu.Unlock()
	if !waiting {
		_ = g.shut()
	}
}

// isDrained reports whether the server is draining and there is no message to wait for:
// the last one may have been aborted.
func (g *guard) isDrained() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.draining && !g.inMessage
}

func (g *guard) isInMessage() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inMessage
}

// The library's deadlines are not obeyed: it would drop an MTA that takes more
// than a second to negotiate, and hold half a frame for ever.

func (g *guard) SetDeadline(time.Time) error      { return nil }
func (g *guard) SetReadDeadline(time.Time) error  { return nil }
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
func (g *guard) LocalAddr() net.Addr              { return g.conn.LocalAddr() }
func (g *guard) RemoteAddr() net.Addr             { return g.conn.RemoteAddr() }

var _ net.Conn = (*guard)(nil)

// cString returns the bytes before the first NUL.
func cString(data []byte) string {
	for i, c := range data {
		if c == 0 {
			return string(data[:i])
		}
	}
	return string(data)
}
