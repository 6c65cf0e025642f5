package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// phase is what a stage is to a program that ends.
type phase int

const (
	between phase = iota // between messages: DATA was not accepted, or the message has its verdict
	content              // the MTA still sends the message
	waiting              // the MTA waits for the verdict
)

// A stage is how far the mail has come when the program or its machine is struck.
type stage struct {
	name     string
	phase    phase
	args     []string
	noSocket bool // the scanner does not listen
	reach    func(l *liveStage) error
}

// liveStage is a stage that has been reached.
type liveStage struct {
	stage
	d       *daemon
	m       *miltertest.MTA // nil if nobody is connected
	holder  *miltertest.MTA // of the only slot, if there is one
	rest    []frame         // what the MTA has not sent yet
	sent    int             // but for so many bytes of the first frame
	release chan struct{}   // closed to let the scanner go on
	once    sync.Once
}

// answered is an MTA that wants an answer to each event: then the program has seen
// what was sent.
var answered = miltertest.Offer{
	Version: 6, Actions: miltertest.Sendmail817.Actions, Protocol: miltertest.Sendmail817.Protocol &^ miltertest.NoReplies,
}

// stages are all stages of a connection.
func stages() []stage {
	list := []stage{
		{name: "nobody connected", reach: func(*liveStage) error { return nil }},
		{name: "connected", reach: func(l *liveStage) error { return l.connect(0) }},
		{name: "half an offer", reach: func(l *liveStage) error {
			if err := l.connect(0); err != nil {
				return err
			}
			l.sent = 6
			return l.m.SendRaw(l.rest[0].raw[:l.sent])
		}},
	}
	for _, name := range []string{"OPTNEG", "CONNECT", "HELO", "MAIL", "RCPT 2"} {
		list = append(list, stage{name: "after " + name, reach: after(name)})
	}
	for _, name := range []string{"DATA", "header 2", "EOH", "body 2"} {
		list = append(list, stage{name: "after " + name, phase: content, reach: after(name)})
	}
	for _, name := range []string{"header 2", "body 2"} {
		list = append(list, stage{name: "in the middle of " + name, phase: content, reach: inMiddle(name)})
	}
	return append(list,
		stage{name: "large body", phase: content, reach: func(l *liveStage) error { return l.largeBody() }},
		stage{name: "waiting for a slot", phase: waiting, args: []string{"-m", "1"}, reach: func(l *liveStage) error { return l.waitForSlot() }},
		stage{name: "scanner is dead", phase: waiting, noSocket: true, reach: func(l *liveStage) error {
			return errors.Join(l.toTheEnd(), l.awaitLog("refuses connections"))
		}},
		stage{name: "request sent", phase: waiting, reach: func(l *liveStage) error { return l.scanning(ampdptest.Hold(l.release, goodIfWhole)) }},
		stage{name: "in mid-reply", phase: waiting, reach: func(l *liveStage) error { return l.scanning(l.halfReply) }},
		stage{name: "verdict out", reach: func(l *liveStage) error { return l.passOne() }},
		stage{name: "second message, RCPT", reach: func(l *liveStage) error { return l.second("RCPT 2") }},
		stage{name: "second message, header", phase: content, reach: func(l *liveStage) error { return l.second("header 2") }},
	)
}

// connect connects and plays the first n frames of a dialogue.
func (l *liveStage) connect(n int) (err error) {
	if l.m, err = l.d.dial(); err != nil {
		return err
	}
	frames := dialogue(answered, l.d.queueID())
	l.rest = frames[n:]
	return play(l.m, frames[:n])
}

// after plays a dialogue up to and with a frame.
func after(name string) func(l *liveStage) error {
	return func(l *liveStage) error {
		n := slices.IndexFunc(dialogue(answered, ""), func(f frame) bool { return f.name == name }) + 1
		if n == 0 {
			return fmt.Errorf("there is no frame %s", name)
		}
		return l.connect(n)
	}
}

// inMiddle plays a dialogue up to the middle of the data of a frame.
func inMiddle(name string) func(l *liveStage) error {
	return func(l *liveStage) error {
		n := slices.IndexFunc(dialogue(answered, ""), func(f frame) bool { return f.name == name })
		if n < 0 {
			return fmt.Errorf("there is no frame %s", name)
		}
		if err := l.connect(n); err != nil {
			return err
		}
		const header = 4 + 1 // bytes: the length and the command
		raw := l.rest[0].raw
		l.sent = header + (len(raw)-header)/2
		return l.m.SendRaw(raw[:l.sent])
	}
}

// largeBody has the first part of a body on the disk.
func (l *liveStage) largeBody() error {
	l.d.scanner.Handle(good)
	if err := after("EOH")(l); err != nil {
		return err
	}
	for range 5 {
		if err := play(l.m, []frame{named("large body", 'B', string(bytes.Repeat([]byte("a line\r\n"), 8000)))}); err != nil {
			return err
		}
	}
	return l.awaitFiles(1)
}

// awaitFiles waits until so many mail files are in the spool.
func (l *liveStage) awaitFiles(n int) error {
	return await("mail files in the spool", func() error {
		files, err := filepath.Glob(filepath.Join(l.d.spool, "*", "email.txt"))
		if err == nil && len(files) != n {
			err = fmt.Errorf("%d, want %d", len(files), n)
		}
		return err
	})
}

// toTheEnd sends all of a message.
func (l *liveStage) toTheEnd() error {
	if err := after("body 3")(l); err != nil {
		return err
	}
	return l.sendRest()
}

func (l *liveStage) sendRest() error {
	rest := l.rest
	l.rest = nil
	if l.sent > 0 {
		if err := l.m.SendRaw(rest[0].raw[l.sent:]); err != nil {
			return err
		}
		if err := takeAnswer(l.m, rest[0]); err != nil {
			return err
		}
		rest = rest[1:]
	}
	return play(l.m, rest)
}

// scanning waits until the scanner has the message.
func (l *liveStage) scanning(h ampdptest.Handler) error {
	l.d.scanner.Handle(h)
	had := len(l.d.scanner.Requests())
	if err := l.toTheEnd(); err != nil {
		return err
	}
	return await("the request", func() error {
		if got := len(l.d.scanner.Requests()); got != had+1 {
			return fmt.Errorf("%d requests, want one more than %d", got, had)
		}
		return nil
	})
}

// halfReply is a scanner that stops in the middle of its reply.
func (l *liveStage) halfReply(c *ampdptest.Conn) {
	if _, err := c.ReadRequest(); err != nil {
		return
	}
	const half = 150 // bytes: some of the edits
	c.Send(goodReply[:half])
	select {
	case <-l.release:
		c.Send(goodReply[half:])
		c.WaitClosed()
	case <-c.Done():
	}
}

// waitForSlot has another message in the only slot, with the scanner.
func (l *liveStage) waitForSlot() error {
	if err := l.scanning(ampdptest.Hold(l.release, goodIfWhole)); err != nil {
		return err
	}
	l.holder = l.m
	if err := l.toTheEnd(); err != nil {
		return err
	}
	return l.awaitFiles(2)
}

// passOne passes a message.
func (l *liveStage) passOne() error {
	if err := l.toTheEnd(); err != nil {
		return err
	}
	if err := wantVerdict(l.m, goodVerdict); err != nil {
		return err
	}
	l.rest = message(answered, l.d.queueID())
	return l.d.settle(1)
}

// second passes a message and plays another one up to and with a frame.
func (l *liveStage) second(name string) error {
	if err := l.passOne(); err != nil {
		return err
	}
	n := slices.IndexFunc(l.rest, func(f frame) bool { return f.name == name }) + 1
	frames := l.rest[:n]
	l.rest = l.rest[n:]
	return play(l.m, frames)
}

// finish has everybody go on; the messages get their verdicts.
func (l *liveStage) finish() error {
	if l.m == nil {
		return nil
	}
	l.resume()
	if err := l.scannerIsBack(); err != nil {
		return err
	}
	if err := l.sendRest(); err != nil {
		return fmt.Errorf("the rest of the message: %w", err)
	}
	for _, m := range l.mtas() {
		if err := wantVerdict(m, goodVerdict); err != nil {
			return err
		}
	}
	return nil
}

// mtas are all connections.
func (l *liveStage) mtas() []*miltertest.MTA {
	var list []*miltertest.MTA
	for _, m := range []*miltertest.MTA{l.holder, l.m} {
		if m != nil {
			list = append(list, m)
		}
	}
	return list
}

// resume lets the scanner go on.
func (l *liveStage) resume() { l.once.Do(func() { close(l.release) }) }

// scannerIsBack starts a scanner that did not listen.
func (l *liveStage) scannerIsBack() error {
	if err := l.d.scanner.Start(); err != nil {
		return err
	}
	return os.Chmod(l.d.scanner.Address(), 0o666)
}
