package milter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/minutely"
	"github.com/amavis-milter/amavis-milter/internal/panics"
	gomilter "github.com/d--j/go-milter"
)

// Times are the bounds on waiting for an MTA. None may be 0.
type Times struct {
	Negotiate time.Duration // for the first frame of a connection
	Idle      time.Duration // between two frames: a slow SMTP client is silent as long (libmilter smfi_settimeout)
	Frame     time.Duration // from the first byte of a frame to its last
	Write     time.Duration // for one write
	Watch     time.Duration // for a Verdict that nobody looks after: then progress, and whether the MTA is still there
	Progress  time.Duration // between two progress packets; below the MTA's reply timer, 10 s in sendmail
	Verdict   time.Duration // for a Verdict: a handler that keeps its own deadlines is never cut off by this one
	Content   time.Duration // from the first header field of a message to its end: MTAs have all of it by then
	Session   time.Duration // without any message answered; well over Idle, for SMTP clients are slow
}

// DefaultTimes returns the defaults.
func DefaultTimes() Times {
	return Times{
		Negotiate: time.Minute,
		Idle:      7210 * time.Second,
		Frame:     time.Minute,
		Write:     30 * time.Second,
		Watch:     time.Second,
		Progress:  4 * time.Second,
		Verdict:   9*time.Minute + 30*time.Second,
		Content:   30 * time.Minute,
		Session:   5 * time.Hour,
	}
}

// Bounds of the pause after a failed accept, which is mostly EMFILE: connections
// must end before there are descriptors again.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// Server serves the MTA's connections.
type Server struct {
	handler Handler
	log     *slog.Logger
	times   Times

	ctx    context.Context // done when messages must end: the cause is ErrServerClosed
	cancel context.CancelCauseFunc

	quiet      quiet
	attendants attendants
	dormitory  dormitory

	*crowd
	listener net.Listener // guarded by crowd.mu

	warnMissing minutely.Cases
	warnFrame   minutely.Cases
	warnEnd     minutely.Cases
	warnOrder   minutely.Cases
	warnTo      minutely.Cases
	warnField   minutely.Cases
}

// NewServer makes a server that gives the messages of its connections to handler.
func NewServer(handler Handler, log *slog.Logger, times Times) *Server {
	ctx, cancel := context.WithCancelCause(context.Background())
	setLibraryLog(log)
	srv := &Server{
		handler: handler, log: log, times: times,
		ctx: ctx, cancel: cancel,
		crowd: newCrowd(log),
	}
	srv.dormitory.log, srv.dormitory.after = log, dozeAfter
	context.AfterFunc(ctx, srv.dormitory.close)
	return srv
}

// Limit sets limits, from the next connection on. Without it there are none.
func (srv *Server) Limit(limits Limits) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.limits = limits
}

// Prepare takes what the server needs of the system besides its connections, which is one
// descriptor. Serve does it as well.
func (srv *Server) Prepare() { srv.dormitory.prepare() }

// Serve accepts connections until Shutdown, when it returns nil. An accept that
// fails is tried again; Serve returns an error only when the listener is closed by
// somebody else.
func (srv *Server) Serve(ln net.Listener) error {
	srv.Prepare()
	srv.mu.Lock()
	srv.listener = ln
	draining := srv.draining
	srv.mu.Unlock()
	if draining {
		return ln.Close()
	}
	var pause time.Duration
	var warn minutely.Cases
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			go srv.serveConn(conn)
		case srv.isDraining():
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting connections: %w", err)
		default:
			pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
			if n, tell := warn.Next(); tell {
				srv.log.Error("cannot accept a connection, trying again; if descriptors are short, raise the limit on open files", "error", err, "cases", n)
			}
			srv.rest(pause)
		}
	}
}

// rest waits for d or until the server ends.
func (srv *Server) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-srv.ctx.Done():
	}
}

// serveConn waits for the MTA's offer and starts the library on the connection.
func (srv *Server) serveConn(conn net.Conn) {
	g := newGuard(conn, srv.times)
	defer func() {
		if p := recover(); p != nil {
			panics.Log(srv.peerLog(conn), "negotiation", p)
			g.Close()
		}
	}()
	g.panicked = func(p any) { panics.Log(srv.peerLog(conn), "reading", p) }
	g.refused = func(err error) { srv.warnRefused(conn, err) }
	standing := srv.track(g)
	if standing == outside {
		conn.Close()
		return
	}
	if standing == refusing {
		g.times.Idle = min(g.times.Idle, refusingIdle)
		g.times.Negotiate = min(g.times.Negotiate, refusingNegotiate)
	}
	srv.quiet.note()
	g.released = func() {
		srv.untrack(g)
		srv.quiet.note()
	}
	frame, err := g.next(g.times.Negotiate)
	if err != nil {
		g.Close()
		return
	}
	o, err := srv.readOffer(conn, frame)
	if err != nil {
		g.refused(err)
		g.Close()
		return
	}
	s := newSession(srv, g)
	s.refusing = standing == refusing
	g.admitted = frame
	g.doze = &doze{in: &srv.dormitory, session: s, offer: o, after: srv.dormitory.after}
	g.doze.begin()
}

// readOffer reads the first frame of a connection.
func (srv *Server) readOffer(conn net.Conn, frame []byte) (offer, error) {
	o, err := parseOffer(frame[frameHeaderBytes:])
	switch {
	case err != nil:
		return o, err
	case o.version < minVersion:
		return o, fmt.Errorf("milter protocol version %d is too old", o.version)
	}
	if missing := missingActions(o); missing != nil {
		if n, tell := srv.warnMissing.Next(); tell {
			srv.peerLog(conn).Warn("the MTA does not offer every change that amavisd may ask for: those to the header are left out, a message that needs those to recipients is tempfailed", "missing", missing, "cases", n)
		}
	}
	return o, nil
}

// warnRefused tells of a frame that was refused, or did not come, with which a connection
// ends.
func (srv *Server) warnRefused(conn net.Conn, err error) {
	cases, text := &srv.warnFrame, "closing a connection that does not speak the milter protocol"
	if err == errNoProgress || err == errNoRoom {
		cases, text = &srv.warnEnd, "closing a connection before its end"
	}
	if n, tell := cases.Next(); tell {
		srv.peerLog(conn).Warn(text, "error", err, "cases", n)
	}
}

// lastAnswers is the time that Shutdown gives to tempfail what is unfinished when
// its context ends. Who calls it allows a second more than its context.
const lastAnswers = 700 * time.Millisecond

// Shutdown stops accepting, closes the connections between messages at once and
// waits for messages whose DATA was accepted. When ctx is done, messages that wait
// for their verdict are tempfailed and the other connections closed. It returns
// nil when every message had its verdict, and the cause of ctx otherwise.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	if srv.draining {
		srv.mu.Unlock()
		return errors.New("already shutting down")
	}
	srv.draining = true
	ln := srv.listener
	conns := srv.list()
	if len(conns) == 0 {
		close(srv.empty)
	}
	srv.mu.Unlock()
	srv.closeListener(ln)
	for _, g := range conns {
		g.drain()
	}
	defer srv.cancel(ErrServerClosed)
	select {
	case <-srv.empty:
		return nil
	case <-ctx.Done():
	}
	late := time.After(lastAnswers) // from now on: to cut thousands of connections takes its time, too
	srv.cancel(ErrServerClosed)
	srv.mu.Lock()
	conns = srv.list()
	srv.mu.Unlock()
	for _, g := range conns {
		g.cut()
	}
	select {
	case <-srv.empty:
	case <-late:
	}
	return context.Cause(ctx)
}

// Close ends the server at once: the wait for verdicts is called off, all
// connections are closed, whether that still sends an answer or not. It does not
// wait for the handler.
func (srv *Server) Close() {
	srv.mu.Lock()
	srv.draining = true
	ln := srv.listener
	conns := srv.list()
	srv.mu.Unlock()
	srv.cancel(ErrServerClosed)
	srv.closeListener(ln)
	for _, g := range conns {
		_ = g.shut()
	}
}

// closeListener stops accepting. A local socket goes with its listener, or an error
// says why not.
func (srv *Server) closeListener(ln net.Listener) {
	if ln == nil {
		return
	}
	if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		srv.log.Warn("the socket could not be given up in order", "error", err)
	}
}

// oneShot is a listener with one connection.
type oneShot struct{ conn net.Conn }

func (l *oneShot) Accept() (net.Conn, error) {
	conn := l.conn
	if conn == nil {
		return nil, net.ErrClosed
	}
	l.conn = nil
	return conn, nil
}

func (l *oneShot) Close() error   { return nil }
func (l *oneShot) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// peerLog returns the log with the MTA's end of a connection.
func (srv *Server) peerLog(conn net.Conn) *slog.Logger { return srv.log.With("mta", peerName(conn)) }

// peerName names the MTA's end of a connection; that of a local socket has no
// name.
func peerName(conn net.Conn) string {
	if a := conn.RemoteAddr(); a != nil && a.String() != "" && a.String() != "@" {
		return a.String()
	}
	return "local"
}

// libraryLog is where the library's only logging variable leads.
var (
	libraryLog     atomic.Pointer[slog.Logger]
	libraryLogOnce sync.Once
)

func setLibraryLog(log *slog.Logger) {
	libraryLog.Store(log)
	libraryLogOnce.Do(func() {
		gomilter.LogWarning = func(format string, v ...any) {
			libraryLog.Load().Warn("milter library", "text", fmt.Sprintf(format, v...))
		}
	})
}
