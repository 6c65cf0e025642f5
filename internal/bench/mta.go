package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// mtaPlan is how much is sent to find what a milter adds to the time of a message at
// a real MTA: one message at a time, so that nobody waits for anybody else.
type mtaPlan struct {
	Rounds int // from one to the next the spread is told
	Turns  int // of each program in a round, all in turn
	Kept   int // messages of one turn over one connection that is kept
	New    int // messages of one turn over a connection each
}

// The plans of a full run, with a thousand messages of each kind, and of a quick one.
var (
	fullMTAPlan  = mtaPlan{Rounds: 20, Turns: 5, Kept: 10, New: 10}
	quickMTAPlan = mtaPlan{Rounds: 5, Turns: 2, Kept: 10, New: 5}
)

// MTASeries is what one program's messages took at one MTA.
type MTASeries struct {
	MTA     string
	Program string // or noMilter: what the MTA takes by itself
	Kept    bool   // over one connection after the other, or over a new one each
	Rounds  []MTARound
	Failed  int    // messages that were not accepted, or whose connection failed
	Failure string // the first one's
}

// MTARound is the times of one turn, one of each kind for each message.
type MTARound struct {
	Sessions     []time.Duration // from connect to the reply to the message; new connections only
	Transactions []time.Duration // from MAIL to the reply to the message
	Ends         []time.Duration // from the write with the message and its final dot to the reply
}

// mtaTurn is a turn that can be taken in each round.
type mtaTurn struct {
	program mtaProgram
	series  *MTASeries
}

// measureMTA takes all turns of a plan at one MTA. The first turn of each is not counted:
// processes start and files come into memory.
func measureMTA(r *mtaRig, plan mtaPlan, progress io.Writer) ([]*MTASeries, error) {
	var turns []mtaTurn
	var all []*MTASeries
	for _, kept := range []bool{true, false} {
		for _, p := range r.programs {
			s := &MTASeries{MTA: r.mta.Name, Program: p.name, Kept: kept}
			turns = append(turns, mtaTurn{p, s})
			all = append(all, s)
		}
	}
	for _, turn := range turns {
		if err := turn.take(r, plan, &MTARound{}); err != nil {
			return nil, err
		}
	}
	for n := range plan.Rounds {
		for _, turn := range turns {
			turn.series.Rounds = append(turn.series.Rounds, MTARound{})
		}
		for i := range plan.Turns * len(turns) {
			turn := turns[(i+i/len(turns))%len(turns)] // another begins each time
			if err := turn.take(r, plan, &turn.series.Rounds[n]); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(progress, "%s: round %d of %d\n", r.mta.Name, n+1, plan.Rounds)
	}
	return all, nil
}

// take sends the messages of one turn. The MTA has to have what it has accepted.
func (t mtaTurn) take(r *mtaRig, plan mtaPlan, round *MTARound) error {
	accepted := 0
	if t.series.Kept {
		accepted = t.series.connection(r.address(t.program), r.message, plan.Kept, round)
	} else {
		for range plan.New {
			accepted += t.series.connection(r.address(t.program), r.message, 1, round)
		}
	}
	return r.empty(t.program, accepted)
}

// connection sends some messages over one connection, and says how many were accepted.
// The rest of a connection that fails counts as failed.
func (s *MTASeries) connection(address string, message []byte, messages int, round *MTARound) (accepted int) {
	c, err := dialSMTP(address)
	for err == nil && accepted < messages {
		var times smtpTimes
		if times, err = c.send(message); err != nil {
			break
		}
		accepted++
		round.Transactions = append(round.Transactions, times.transaction)
		round.Ends = append(round.Ends, times.end)
		if times.session > 0 && !s.Kept {
			round.Sessions = append(round.Sessions, times.session)
		}
	}
	if err == nil {
		err = c.quit()
	} else if c != nil {
		c.conn.Close()
	}
	if err != nil {
		s.Failed += max(messages-accepted, 1)
		if s.Failure == "" {
			s.Failure = err.Error()
		}
	}
	return accepted
}

// measureMTAs measures at both MTAs, inside a lab: with our program at a path, and with
// the C program of the lab. An error is one of the measurement; messages that failed are
// counted.
func measureMTAs(contrib, binary string, plan mtaPlan, progress io.Writer) ([]*MTASeries, error) {
	drain, err := drainLog("/dev/log")
	if err != nil {
		return nil, err
	}
	defer drain.Close()
	other, err := Theirs("/")
	if err != nil {
		return nil, err
	}
	loop, err := NewLoop()
	if err != nil {
		return nil, err
	}
	defer loop.Close()
	scanner, err := NewScanner(loop, Endpoint{"unix", lab.AmavisHome + "/scanner.sock"})
	if err != nil {
		return nil, err
	}
	defer scanner.Close()
	// Ours logs to where a service logs.
	programs := []mtaProgram{
		{name: noMilter},
		{name: floorMilter},
		{name: ours, program: Ours(binary), more: []string{"--log-target", "syslog"}},
		{name: theirs, program: other},
	}
	var all []*MTASeries
	for _, mta := range []*lab.MTA{lab.Postfix, lab.Sendmail} {
		r, err := startMTARig(mta, contrib, loop, scanner.At, programs)
		if err != nil {
			return nil, err
		}
		series, err := measureMTA(r, plan, progress)
		if err := errors.Join(err, r.close()); err != nil {
			return nil, err
		}
		all = append(all, series...)
	}
	return all, nil
}

// drainLog reads what is logged, as a system log does, and keeps nothing of it.
func drainLog(path string) (io.Closer, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listening for log lines: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go func() {
		for line := make([]byte, 64<<10); ; {
			if _, err := conn.Read(line); err != nil {
				return
			}
		}
	}()
	return conn, nil
}
