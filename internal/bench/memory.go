package bench

import (
	"fmt"
	"time"
)

// Sizes of the rows about memory.
const (
	someConnections = 1000
	manyConnections = 4000
	largeAtOnce     = 64
	largeMail       = 10_000_000 // bytes
	megabyte        = 1e6        // bytes

	// inTurn is how many of many connections are opened, and have their message, at once.
	inTurn = 4
)

// Memory is read this often, over a second.
const (
	memoryReads = 5
	memoryPause = 200 * time.Millisecond
)

// idleMemory measures what a fresh process of each program holds after one small message on
// each of so many connections, all of them still open.
func (r *Rig) idleMemory(conns int, name string, g goal) (Row, error) {
	row := Row{Name: name, Unit: "MB", goal: g}
	for round := range r.pace.memoryRounds {
		for _, i := range turns(round) {
			if err := r.fresh(&row, i, conns, smallMail, inTurn, r.settledMemory); err != nil {
				return row, err
			}
		}
	}
	return row, nil
}

// settledMemory is what a program holds a while after its last message, in megabytes.
func (r *Rig) settledMemory(p *Process) (float64, error) {
	if err := r.pause(r.pace.settle); err != nil {
		return 0, err
	}
	var sum float64
	for range memoryReads {
		now, _, err := p.Memory()
		if err != nil {
			return 0, err
		}
		sum += float64(now)
		if err := r.pause(memoryPause); err != nil {
			return 0, err
		}
	}
	return sum / memoryReads / megabyte, nil
}

// peakMemory measures the most that a fresh process of each program ever holds while large
// messages come on many connections at once.
func (r *Rig) peakMemory(name string, g goal) (Row, error) {
	row := Row{Name: name, Unit: "MB", goal: g}
	for round := range r.pace.memoryRounds {
		for _, i := range turns(round) {
			err := r.fresh(&row, i, largeAtOnce, largeMail, largeAtOnce, func(p *Process) (float64, error) {
				_, peak, err := p.Memory()
				return float64(peak) / megabyte, err
			})
			if err != nil {
				return row, err
			}
		}
	}
	return row, nil
}

// fresh starts a program, sends a message on each of so many connections, and measures it.
func (r *Rig) fresh(row *Row, i, conns, size, atOnce int, value func(*Process) (float64, error)) error {
	p, err := r.start(r.Programs[i], "unix", false)
	if err != nil {
		return err
	}
	defer r.stop(p)
	load := r.load(Postfix, NewMail(size), p.At)
	defer load.Close()
	if err := r.hold(row, i, load, conns, atOnce, func() (float64, error) { return value(p) }); err != nil {
		return fmt.Errorf("%s: %w", r.Programs[i].Name, err)
	}
	if err := load.Err(); err != nil {
		fmt.Fprintf(r.Log, "  %s: %v\n", r.Programs[i].Name, err)
	}
	load.Close()
	if err := poll(stopTimeout, p.clean); err != nil {
		return fmt.Errorf("%s: %w", r.Programs[i].Name, err)
	}
	return nil
}

// hold sends a message on each of so many connections, measures, and sends another one on
// each. Who has hung up meanwhile, or does not wake, holds nothing that is worth a row: a
// message that is not answered then is wrong.
func (r *Rig) hold(row *Row, i int, load *Load, conns, atOnce int, value func() (float64, error)) error {
	var err error
	if atOnce < conns {
		err = load.Fill(conns, atOnce)
	} else if err = load.Open(conns); err == nil { // all of them begin in the same moment
		err = load.SendEach(conns)
	}
	if err != nil {
		return err
	}
	v, err := value()
	if err != nil {
		return err
	}
	if err := load.SendEach(atOnce); err != nil {
		return err
	}
	sent := 2 * conns
	answered, wrong := load.Check()
	row.Values[i] = append(row.Values[i], v)
	row.Sent[i] += sent
	row.Wrong[i] += max(wrong, sent-answered)
	return nil
}
