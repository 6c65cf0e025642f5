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
	for range r.pace.memoryRounds {
		for i := range r.Programs {
			err := r.fresh(&row, i, conns, smallMail, inTurn, func(p *Process) (float64, error) {
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
			})
			if err != nil {
				return row, err
			}
		}
	}
	return row, nil
}

// peakMemory measures the most that a fresh process of each program ever holds while large
// messages come on many connections at once.
func (r *Rig) peakMemory(name string, g goal) (Row, error) {
	row := Row{Name: name, Unit: "MB", goal: g}
	for range r.pace.memoryRounds {
		for i := range r.Programs {
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
	load := NewLoad(r.loop, Postfix, NewMail(size), p.At)
	defer load.Close()
	if atOnce < conns {
		err = load.Fill(conns, atOnce)
	} else if err = load.Open(conns); err == nil { // all of them begin in the same moment
		err = load.Send(conns, conns)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Programs[i].Name, err)
	}
	v, err := value(p)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Programs[i].Name, err)
	}
	counts, err := load.Counts(nil)
	if err != nil {
		return err
	}
	row.Values[i] = append(row.Values[i], v)
	row.Sent[i] += conns
	row.Wrong[i] += counts.Wrong
	if err := load.Err(); err != nil {
		fmt.Fprintf(r.Log, "  %s: %v\n", r.Programs[i].Name, err)
	}
	return nil
}
