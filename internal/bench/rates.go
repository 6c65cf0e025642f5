package bench

import (
	"fmt"
	"time"
)

// Case is a load that is measured on both programs.
type Case struct {
	MTA     MTA
	Network string // "unix" or "tcp", between the MTA and the milter
	Disk    bool   // mail files on the disk
	Conns   int
	Size    int           // bytes of a message
	Wire    time.Duration // one way, between the MTA and the milter; 0: none
	PerConn int           // messages on a connection before it is replaced; 0: no end
}

// measured is what was measured of a case, by program.
type measured struct {
	rate    [2]Sample // messages a second
	cpu     [2]Sample // of the program, seconds a message
	waits   [2]Sample // of the MTA, a message
	median  [2]Sample // of the times of messages, seconds
	p99     [2]Sample
	own     [2]Sample // CPU of the load and the scanner, seconds a message
	sent    [2]int    // messages, those before the rounds included
	wrong   [2]int    // of them
	reasons [2]error
}

// side is one program in a case.
type side struct {
	process *Process
	relay   *Relay
	load    *Load
}

// measure runs a case on both programs in turns.
func (r *Rig) measure(c Case, rounds int, slice time.Duration) (*measured, error) {
	var sides [2]side
	defer func() {
		for _, s := range sides {
			r.end(s)
		}
	}()
	for i, p := range r.Programs {
		s, err := r.begin(p, c)
		sides[i] = s
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	m := &measured{}
	for round := range rounds {
		for _, i := range turns(round) {
			if err := r.slice(sides[i], m, i, slice); err != nil {
				return nil, fmt.Errorf("round %d of %s: %w", round+1, r.Programs[i].Name, err)
			}
		}
	}
	for i, s := range sides {
		m.reasons[i] = s.load.Err()
		s.load.Close()
		if err := poll(stopTimeout, func() error { return s.process.clean() }); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Programs[i].Name, err)
		}
	}
	return m, nil
}

// turns is the order of the programs in a round. Who begins changes: what one leaves to the
// other, or the machine does at times, falls to both.
func turns(round int) [2]int { return [2]int{round % 2, 1 - round%2} }

// begin starts a program and its load, and compares a few mail files with what was sent.
func (r *Rig) begin(p Program, c Case) (s side, err error) {
	if s.process, err = r.start(p, c.Network, c.Disk); err != nil {
		return s, err
	}
	to := s.process.At
	if c.Wire > 0 {
		if s.relay, err = NewRelay(r.loop, to, c.Wire); err != nil {
			return s, err
		}
		to = s.relay.At
	}
	s.load = r.load(c.MTA, NewMail(c.Size), to)
	s.load.PerConn = c.PerConn
	if err := s.load.Open(c.Conns); err != nil {
		return s, err
	}
	if err := Verify(s.load, r.scanner, verified); err != nil {
		return s, err
	}
	s.load.Start()
	if err := r.pause(r.pace.warm); err != nil {
		return s, err
	}
	return s, s.load.Stop()
}

// verified is how many messages of each case have their mail file compared.
const verified = 3

func (r *Rig) end(s side) {
	if s.load != nil {
		s.load.Close()
	}
	if s.relay != nil {
		s.relay.Close()
	}
	if s.process != nil {
		r.stop(s.process)
	}
}

// slice measures one program for a while.
func (r *Rig) slice(s side, m *measured, i int, d time.Duration) error {
	s.load.Start()
	defer s.load.Stop()
	if err := r.pause(settled); err != nil {
		return err
	}
	s.load.Latencies()
	own := r.loop.CPU()
	before, err := s.load.Counts(s.process.CPU)
	if err != nil {
		return err
	}
	if err := r.pause(d); err != nil {
		return err
	}
	after, err := s.load.Counts(s.process.CPU)
	if err != nil {
		return err
	}
	own = r.loop.CPU() - own
	times := s.load.Latencies()
	if err := s.load.Stop(); err != nil {
		return err
	}
	n := float64(after.Messages - before.Messages)
	if n == 0 {
		return fmt.Errorf("no message was answered in %v: %v", d, s.load.Err())
	}
	m.rate[i] = append(m.rate[i], n/(after.At-before.At).Seconds())
	m.cpu[i] = append(m.cpu[i], (after.CPU-before.CPU).Seconds()/n)
	m.waits[i] = append(m.waits[i], float64(after.Waits-before.Waits)/n)
	m.median[i] = append(m.median[i], timeQuantile(times, 0.5).Seconds())
	m.p99[i] = append(m.p99[i], timeQuantile(times, 0.99).Seconds())
	m.own[i] = append(m.own[i], own.Seconds()/n)
	sent, wrong := s.load.Check()
	m.sent[i] += sent
	m.wrong[i] += wrong
	return nil
}

// busy is how much of their thread's time the load and the scanner took beside a program, from
// 0 to 1.
func (m *measured) busy(i int) float64 { return m.own[i].Median() * m.rate[i].Median() }

// row makes a row of one of the samples, in units of which there are so many in its own.
func (m *measured) row(name, unit string, values [2]Sample, units float64, g goal) Row {
	r := Row{Name: name, Unit: unit, Sent: m.sent, Wrong: m.wrong, goal: g}
	for i, s := range values {
		for _, v := range s {
			r.Values[i] = append(r.Values[i], v*units)
		}
	}
	return r
}
