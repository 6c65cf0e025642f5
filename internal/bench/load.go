package bench

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of the generator.
const (
	readSize = 64 << 10 // bytes; read at once

	// keptLatencies is how many times of messages are kept.
	keptLatencies = 1 << 20

	// idleTimeout is how long the messages that are under way may take to end.
	idleTimeout = 60 * time.Second

	// mostBreaks is how many connections may break before they are not replaced any more.
	mostBreaks = 2000
)

// Counts are what a load has done since it was made.
type Counts struct {
	Messages int // answered, rightly or not
	Wrong    int // of them, or without an answer, or connections that broke between two
	Waits    int // answers that the MTA waited for in them
	Scanned  int // what the scanner was rightly asked, up to when the last of them was answered
	At       time.Duration
	CPU      time.Duration // of the milter; whoever asked for the counts fills it in
}

// Load sends mail over connections of one milter.
type Load struct {
	loop *Loop
	mta  MTA
	mail Mail
	to   Endpoint

	conns    []*conn
	shared   sharedBody
	scratch  []byte
	right    []byte // an answer to the end of a message that was right, byte for byte
	running  bool
	left     int  // messages to begin; negative without an end
	atOnce   int  // of them, how many may be under way
	turnOf   int  // the connection that is next
	filling  int  // connections to open, each for one message
	each     bool // one message on each connection
	active   int  // connections with a message under way
	greeting int  // connections that have not been greeted
	nextID   uint64
	counts   Counts
	kinds    map[string]int // of errors
	breaks   int            // connections
	lat      []time.Duration
	quiet    chan struct{}

	// PerConn is how many messages a connection has before it is replaced; 0: no end.
	PerConn int

	// scanner is asked for the messages, if that is to be checked. It has the load's loop.
	scanner *Scanner
	asked   int    // what it had been when messages began to be sent
	checked Counts // those of the last Check

	// edits are what the scanner asks for, if it is not what is Told.
	edits *edits
}

// NewLoad makes a load of mail for the milter at an endpoint; it has no connections yet.
func NewLoad(loop *Loop, mta MTA, mail Mail, to Endpoint) *Load {
	return &Load{
		loop: loop, mta: mta, mail: mail, to: to, scratch: make([]byte, readSize),
		kinds: map[string]int{}, lat: make([]time.Duration, 0, keptLatencies), left: -1,
	}
}

// Open opens connections until there are n and returns when the milter has been greeted on
// all of them.
func (l *Load) Open(n int) error {
	var err error
	var quiet chan struct{}
	l.loop.Do(func() {
		for len(l.conns) < n && err == nil {
			c := &conn{load: l, fd: -1}
			if err = c.open(); err == nil {
				l.conns = append(l.conns, c)
			}
		}
		quiet = l.awaitQuiet()
	})
	if err != nil {
		return err
	}
	return l.wait(quiet)
}

// Close closes all connections, with QUIT.
func (l *Load) Close() {
	l.loop.Do(func() {
		l.running = false
		for _, c := range l.conns {
			if c.fd >= 0 {
				write(c.fd, quit)
				c.close()
			}
		}
		l.conns = nil
	})
}

// Start begins to send mail on all connections without a pause.
func (l *Load) Start() {
	l.loop.Do(func() {
		l.begin()
		l.running, l.left = true, -1
		for _, c := range l.conns {
			c.next()
		}
	})
}

// Stop lets the messages that are under way end and returns when they have.
func (l *Load) Stop() error {
	var quiet chan struct{}
	l.loop.Do(func() {
		l.running = false
		quiet = l.awaitQuiet()
	})
	err := l.wait(quiet)
	l.loop.Do(l.end)
	return err
}

// begin and end keep account of what the scanner is asked while this load sends: in the
// turns of others it is asked for theirs. At both no message is under way, so that none is
// answered on one side of them and scanned on the other.
func (l *Load) begin() {
	if l.scanner != nil {
		l.asked = l.scanner.requests - l.scanner.wrong
	}
}

func (l *Load) end() {
	before := l.asked
	l.begin()
	l.counts.Scanned += l.asked - before
}

// Check returns how many messages were answered since the last check and how many of them
// were wrong: not as the scanner was told to, or without that it was asked. It is called
// while no message is under way.
func (l *Load) Check() (answered, wrong int) {
	l.loop.Do(func() {
		answered = l.counts.Messages - l.checked.Messages
		wrong = l.counts.Wrong - l.checked.Wrong
		missed := answered - (l.counts.Scanned - l.checked.Scanned)
		if l.scanner != nil && missed > 0 {
			l.kinds["answered without asking the scanner"] += missed
			wrong = max(wrong, missed) // a message may be both
		}
		l.checked = l.counts
	})
	return answered, wrong
}

// Send sends n messages, at most atOnce at a time, on the connections in turn, and returns
// when they are answered.
func (l *Load) Send(n, atOnce int) error {
	var quiet chan struct{}
	l.loop.Do(func() {
		l.begin()
		l.running, l.left, l.atOnce = true, n, atOnce
		l.turn()
		quiet = l.awaitQuiet()
	})
	err := l.wait(quiet)
	l.loop.Do(func() {
		l.running, l.left = false, -1
		l.end()
	})
	return err
}

// Fill opens n connections, at most atOnce at a time, and sends one message on each; it
// returns when all are answered. The connections stay open; what breaks is not replaced.
func (l *Load) Fill(n, atOnce int) error {
	var quiet chan struct{}
	l.loop.Do(func() {
		l.begin()
		l.running, l.left, l.filling = true, n, n
		for range atOnce {
			l.fill()
		}
		quiet = l.awaitQuiet()
	})
	err := l.wait(quiet)
	l.loop.Do(func() {
		l.running, l.left, l.filling = false, -1, 0
		l.end()
	})
	return err
}

// SendEach sends one message on each connection that is open, at most atOnce at a time,
// and returns when all are answered. What breaks is not replaced.
func (l *Load) SendEach(atOnce int) error {
	var quiet chan struct{}
	l.loop.Do(func() {
		l.begin()
		l.running, l.each, l.left, l.atOnce, l.turnOf = true, true, len(l.conns), atOnce, 0
		l.turn()
		quiet = l.awaitQuiet()
	})
	err := l.wait(quiet)
	l.loop.Do(func() {
		l.running, l.each, l.left = false, false, -1
		l.end()
	})
	return err
}

// fill opens one connection more, which has its message when it has been greeted.
func (l *Load) fill() {
	if len(l.conns) >= l.filling {
		return
	}
	c := &conn{load: l, fd: -1}
	if err := c.open(); err != nil {
		l.kinds["no new connection"]++
		l.counts.Wrong++
		return
	}
	l.conns = append(l.conns, c)
}

// turn begins messages on connections that have none, each in its turn.
func (l *Load) turn() {
	for range l.conns {
		if l.left == 0 || l.active >= l.atOnce || l.each && l.turnOf >= len(l.conns) {
			return
		}
		c := l.conns[l.turnOf%len(l.conns)]
		l.turnOf++ // first: when this one breaks it is the next one's turn
		c.next()
	}
}

// awaitQuiet returns what is closed as soon as no message is under way and no
// connection in its greeting.
func (l *Load) awaitQuiet() chan struct{} {
	l.quiet = make(chan struct{})
	quiet := l.quiet
	l.checkQuiet()
	return quiet
}

func (l *Load) checkQuiet() {
	if l.quiet != nil && l.active == 0 && l.greeting == 0 {
		close(l.quiet)
		l.quiet = nil
	}
}

func (l *Load) wait(quiet chan struct{}) error {
	select {
	case <-quiet:
		return nil
	case <-time.After(idleTimeout):
		return fmt.Errorf("messages were under way for %v", idleTimeout)
	}
}

// Counts returns what was done so far; cpu, if there is one, is asked at the same moment.
func (l *Load) Counts(cpu func() (time.Duration, error)) (Counts, error) {
	var c Counts
	var err error
	l.loop.Do(func() {
		c = l.counts
		c.At = now()
		if cpu != nil {
			c.CPU, err = cpu()
		}
	})
	return c, err
}

// Latencies returns the times of the messages so far and forgets them.
func (l *Load) Latencies() []time.Duration {
	var all []time.Duration
	l.loop.Do(func() {
		all = slices.Clone(l.lat)
		l.lat = l.lat[:0]
	})
	return all
}

// Err tells what went wrong, by kind; nil if nothing did.
func (l *Load) Err() error {
	var kinds map[string]int
	l.loop.Do(func() { kinds = maps.Clone(l.kinds) })
	if len(kinds) == 0 {
		return nil
	}
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		list = append(list, fmt.Sprintf("%d × %s", kinds[kind], kind))
	}
	return errors.New(strings.Join(list, ", "))
}
