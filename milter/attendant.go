package milter

import (
	"context"
	"sync"
	"time"

	gomilter "github.com/d--j/go-milter"
)

// lateGrace is how long a Verdict that was called off may take to return before it is
// answered in its place.
const lateGrace = time.Second

// idleAttendants is how many attendants are kept for messages that have not come yet.
const idleAttendants = 64

// attendant looks after the MTA while the goroutine of its connection runs a Verdict that
// is not quick: it sends progress, notices that the MTA has hung up, and answers for a
// Verdict that does not return. The guard is its own meanwhile.
type attendant struct {
	s      *session
	ctx    context.Context // of the Verdict
	cancel context.CancelCauseFunc
	alarm  *time.Timer   // begins it
	stop   chan struct{} // the Verdict is there
	ended  chan error    // the attendant is gone, and what it has noticed
	late   chan struct{} // closed for good when it answers itself
}

// unwatched is how long a message waits for its verdict before somebody looks whether
// the MTA still does. To look costs a part of what a quick message costs.
func (t *Times) unwatched() time.Duration { return min(t.Watch, t.Progress, t.Verdict) }

// attendants are those that have nothing to do. Messages that wait for their verdict have
// one each; a connection between messages has none.
type attendants struct {
	mu   sync.Mutex
	idle []*attendant
}

// take returns an attendant for a message.
func (as *attendants) take(s *session) *attendant {
	as.mu.Lock()
	defer as.mu.Unlock()
	if last := len(as.idle) - 1; last >= 0 {
		a := as.idle[last]
		as.idle[last], as.idle = nil, as.idle[:last]
		a.s = s
		a.alarm.Reset(s.srv.times.unwatched())
		return a
	}
	a := &attendant{s: s, stop: make(chan struct{}), ended: make(chan error), late: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancelCause(s.srv.ctx)
	a.alarm = time.AfterFunc(s.srv.times.unwatched(), a.attend)
	return a
}

// give takes back an attendant that has ended. One whose Verdict was called off is of
// no more use.
func (as *attendants) give(a *attendant) {
	a.s = nil
	as.mu.Lock()
	defer as.mu.Unlock()
	if a.ctx.Err() == nil && len(as.idle) < idleAttendants {
		as.idle = append(as.idle, a)
	} else {
		a.cancel(nil)
	}
}

// end ends the attendance. Its error says that nobody waits for the verdict any more:
// ErrPeerGone, or ErrVerdictLate, after which the connection is closed. errPanic says that
// the attendant could not go on.
func (a *attendant) end() error {
	if a.alarm.Stop() {
		return nil
	}
	select {
	case a.stop <- struct{}{}:
	case <-a.late:
		a.s.g.drain() // not in the middle of another message: that would get no answer
	}
	return <-a.ended
}

// attend is the goroutine of the attendant.
func (a *attendant) attend() {
	times := &a.s.srv.times
	progress := time.NewTimer(times.Progress - times.unwatched())
	defer progress.Stop()
	late := time.NewTimer(times.Verdict - times.unwatched())
	defer late.Stop()
	hungUp, stopWatch := a.s.g.watch()
	defer a.s.recovered("attendance", func() {
		stopWatch()
		a.cancel(errPanic)
		select {
		case <-a.stop:
			a.ended <- errPanic
		case <-a.late:
			_ = a.s.g.shut()
			a.ended <- ErrVerdictLate
		}
	})
	var calledOff bool
	var gone error
	for {
		select {
		case <-a.stop:
			stopWatch()
			a.ended <- gone
			return
		case <-hungUp:
			hungUp, gone = nil, ErrPeerGone
		case <-progress.C:
			progress.Reset(times.Progress)
			if gone == nil && a.s.g.progress() != nil {
				gone = ErrPeerGone
			}
		case <-late.C:
			if calledOff {
				stopWatch()
				a.standIn(gone)
				return
			}
			calledOff = true
			a.s.logger().Warn("a verdict is called off", "error", ErrVerdictLate)
			a.cancel(ErrVerdictLate)
			late.Reset(lateGrace)
		}
		if gone != nil {
			a.cancel(gone)
		}
	}
}

// standIn answers in the place of a Verdict that does not return, as on a disk that
// hangs, and refuses what comes on that connection until it does.
func (a *attendant) standIn(gone error) {
	a.s.logger().Error("the message is tempfailed, and those that follow on its connection", "error", ErrVerdictLate)
	answered := gone == nil && a.s.g.tempfail() == nil
	close(a.late) // not before: who waits for it closes the connection
	if answered {
		a.refuseAll()
	}
	_ = a.s.g.shut()
	a.s.g.released() // nobody is to wait for a connection that is gone
	a.ended <- ErrVerdictLate
}

// refuseAll tempfails messages until the connection ends.
func (a *attendant) refuseAll() {
	g := a.s.g
	for {
		frame, err := g.next(g.times.Idle)
		if err != nil {
			return
		}
		command, data := frame[frameHeaderBytes], frame[frameHeaderBytes+1:]
		if checkFrame(command, data) != nil || g.note(command) != nil || command == cmdQuit {
			return
		}
		switch {
		case command == cmdBodyEOB:
			err = g.tempfail()
		case a.s.isAwaited(command):
			g.out = appendFrame(g.out, answerContinue, nil)
			err = g.flush(g.times.Write)
		}
		if err != nil {
			return
		}
	}
}

// Answers of the milter (libmilter mfdef.h, SMFIR_*).
const (
	answerContinue  = 'c' // SMFIR_CONTINUE
	answerReject    = 'r' // SMFIR_REJECT
	answerTempFail  = 't' // SMFIR_TEMPFAIL
	answerReplyCode = 'y' // SMFIR_REPLYCODE
)

// tempfail sends an answer to the end of a message without the library.
func (g *guard) tempfail() error {
	g.out = appendReply(g.out, replyFailure)
	err := g.flush(g.times.Write)
	g.messageDone()
	return err
}

// silentCommands are the commands to which an MTA waits for no answer if that was
// negotiated.
var silentCommands = map[byte]gomilter.OptProtocol{
	cmdConnect: gomilter.OptNoConnReply, cmdHelo: gomilter.OptNoHeloReply, cmdMail: gomilter.OptNoMailReply,
	cmdRcpt: gomilter.OptNoRcptReply, cmdData: gomilter.OptNoDataReply, cmdUnknown: gomilter.OptNoUnknownReply,
	cmdHeader: gomilter.OptNoHeaderReply, cmdEOH: gomilter.OptNoEOHReply, cmdBody: gomilter.OptNoBodyReply,
}

// isAwaited reports whether the MTA waits for the answer to a command, the end of the
// message aside.
func (s *session) isAwaited(command byte) bool {
	bit, ok := silentCommands[command]
	return ok && s.protocol&bit == 0
}
