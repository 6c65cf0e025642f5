package milter

import (
	"time"

	gomilter "github.com/d--j/go-milter"
)

// watchDelay is how long a message waits for its verdict before somebody looks whether
// the MTA still does. To look costs as much as a quick verdict.
const watchDelay = 20 * time.Millisecond

// lateGrace is how long a Verdict that was called off may take to return before it is
// answered in its place.
const lateGrace = time.Second

// attendant looks after the MTA while the goroutine of its connection runs a Verdict that
// is not quick: it sends progress, notices that the MTA has hung up, and answers for a
// Verdict that does not return. The guard is its own meanwhile. The zero value has
// nothing to do.
type attendant struct {
	s     *session
	alarm *time.Timer   // begins it after watchDelay
	stop  chan struct{} // the Verdict is there
	ended chan error    // the attendant is gone, and what it has noticed
	late  chan struct{} // closed for good when it answers itself
}

// begin has the attendant begin unless end is called soon.
func (a *attendant) begin(s *session) {
	if a.alarm != nil {
		a.alarm.Reset(watchDelay)
		return
	}
	a.s = s
	a.stop, a.ended, a.late = make(chan struct{}), make(chan error), make(chan struct{})
	a.alarm = time.AfterFunc(watchDelay, a.attend)
}

// end ends the attendance. Its error says that nobody waits for the verdict any more:
// ErrPeerGone, or ErrVerdictLate, after which the connection is closed.
func (a *attendant) end() error {
	if a.alarm.Stop() {
		return nil
	}
	select {
	case a.stop <- struct{}{}:
	case <-a.late:
		_ = a.s.g.shut()
	}
	return <-a.ended
}

// attend is the goroutine of the attendant.
func (a *attendant) attend() {
	times := &a.s.srv.times
	progress := time.NewTimer(times.Progress - watchDelay)
	defer progress.Stop()
	late := time.NewTimer(times.Verdict - watchDelay)
	defer late.Stop()
	hungUp, stopWatch := a.s.g.watch()
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
			a.s.cancel(ErrVerdictLate)
			late.Reset(lateGrace)
		}
		if gone != nil {
			a.s.cancel(gone)
		}
	}
}

// standIn answers in the place of a Verdict that does not return, as on a disk that
// hangs, and refuses what comes on that connection until it does.
func (a *attendant) standIn(gone error) {
	a.s.logger().Error("the message is tempfailed, and those that follow on its connection", "error", ErrVerdictLate)
	close(a.late)
	if gone == nil && a.s.g.tempfail() == nil {
		a.refuseAll()
	}
	_ = a.s.g.shut()
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
	answerReplyCode = 'y' // SMFIR_REPLYCODE
)

// tempfail sends an answer to the end of a message without the library.
func (g *guard) tempfail() error {
	g.out = appendFrame(g.out, answerReplyCode, append([]byte(replyFailure.String()), 0))
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
