package bench

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// growth is a series of loads, each of which has more of one thing than the one before.
type growth struct {
	name  string
	unit  string // of what there is more of; bytes are told as such
	sizes []int
	load  func(n int) growthLoad
}

// growthLoad is one of them. Its work is what one pass does: one message on each
// connection.
type growthLoad struct {
	mail   Mail
	edits  *edits // if any
	conns  int
	atOnce int // messages
}

// The numbers of the series. Each ends where the program's own limits do, or the machine.
var (
	growthCounts = []int{1, 10, 100, 1000}
	growthSizes  = []int{1e3, 1e4, 1e5, 1e6, 1e7, 1e8} // bytes
	growthConns  = []int{1, 10, 100, someConnections, manyConnections}
)

var growths = []growth{
	{"header fields", "field", growthCounts, func(n int) growthLoad {
		return growthLoad{mail: mailOf(n, 1, 1000), conns: 1, atOnce: 1}
	}},
	{"header fields, each changed", "field", growthCounts, func(n int) growthLoad {
		m := mailOf(n, 1, 1000)
		return growthLoad{mail: m, edits: changeFields(m), conns: 1, atOnce: 1}
	}},
	{"recipients", "recipient", growthCounts, func(n int) growthLoad {
		return growthLoad{mail: mailOf(headerFields, n, 1000), conns: 1, atOnce: 1}
	}},
	{"recipients, each replaced", "recipient", growthCounts, func(n int) growthLoad {
		m := mailOf(headerFields, n, 1000)
		return growthLoad{mail: m, edits: changeRecipients(m), conns: 1, atOnce: 1}
	}},
	{"message size", "kB", growthSizes, func(n int) growthLoad {
		return growthLoad{mail: mailOf(1, 1, n), conns: 1, atOnce: 1}
	}},
	{"connections, one busy at a time", "connection", growthConns, func(n int) growthLoad {
		return growthLoad{mail: NewMail(smallMail), conns: n, atOnce: 1}
	}},
	{"connections, all busy", "connection", growthConns, func(n int) growthLoad {
		return growthLoad{mail: NewMail(smallMail), conns: n, atOnce: n}
	}},
}

// mailOf makes a mail with so many header fields, recipients and, of the body, bytes. Its
// fields are those that no program looks at.
func mailOf(fields, recipients, size int) Mail {
	m := Mail{Recipients: recipients}
	for i := range fields {
		m.Header = append(m.Header, [2]string{fmt.Sprintf("X-Growth-%d", i), " a value of the usual length, forty bytes."})
	}
	line := []byte("This is a line of text of the usual length, as mail programs make them.\r\n")
	m.Body = bytes.Repeat(line, max(1, size/len(line)))
	return m
}

// growthPoint is what one load cost a program.
type growthPoint struct {
	n     int
	time  Sample // seconds a pass
	cpu   Sample // of the program, seconds a pass
	peak  Sample // resident memory of the process, bytes
	sent  int
	wrong int
	err   error // why there is nothing
}

// growthPace is how long things take.
type growthPace struct {
	rounds int
	slice  time.Duration // at least; of one program in a round
}

var (
	fullGrowth  = growthPace{5, 300 * time.Millisecond}
	quickGrowth = growthPace{2, 50 * time.Millisecond}
)

// measureGrowth measures all loads of a series on both programs, in turns.
func (r *Rig) measureGrowth(g growth, pace growthPace) (points [2][]growthPoint, err error) {
	for _, n := range g.sizes {
		both, err := r.growthPair(g.load(n), pace)
		if err != nil {
			return points, fmt.Errorf("%s, %d: %w", g.name, n, err)
		}
		for i := range both {
			both[i].n = n
			points[i] = append(points[i], both[i])
		}
	}
	return points, r.doubt(g, points[0], pace)
}

// doubt measures again what seems to have grown faster than its work: the machine may have
// been busy with something else.
func (r *Rig) doubt(g growth, points []growthPoint, pace growthPace) error {
	for i := 1; i < len(points); i++ {
		for attempt := 1; attempt < attempts && len(verdict(points, i)) > 0; attempt++ {
			from := max(0, i-2)
			fmt.Fprintf(r.Log, "  %s, %d to %d: again\n", g.name, points[from].n, points[i].n)
			for j := from; j <= i; j++ {
				if err := r.again(g.load(points[j].n), pace, &points[j]); err != nil {
					return fmt.Errorf("%s, %d: %w", g.name, points[j].n, err)
				}
			}
		}
	}
	return nil
}

// attempts is how often a row is measured before it is said to grow.
const attempts = 3

// again adds what a fresh process of ours takes to a point.
func (r *Rig) again(l growthLoad, pace growthPace, p *growthPoint) error {
	if l.edits != nil {
		r.scanner.answerWith(l.edits.reply())
		defer r.scanner.answerWith(reply)
	}
	s, err := r.growthSide(r.Programs[0], l)
	defer func() { r.end(s) }()
	for range pace.rounds {
		if err == nil {
			err = r.growthSlice(s, l, pace.slice, p)
		}
	}
	if err != nil {
		return err
	}
	s.load.Close()
	return errors.Join(p.readPeak(s.process), poll(stopTimeout, s.process.clean))
}

// readPeak takes the peak of a process's memory.
func (p *growthPoint) readPeak(process *Process) error {
	_, peak, err := process.Memory()
	p.peak = append(p.peak, float64(peak))
	return err
}

// growthPair measures one load on fresh processes of both programs. What goes wrong with
// ours is an error; theirs may have a limit there.
func (r *Rig) growthPair(l growthLoad, pace growthPace) (points [2]growthPoint, err error) {
	if l.edits != nil {
		r.scanner.answerWith(l.edits.reply())
		defer r.scanner.answerWith(reply)
	}
	var sides [2]side
	defer func() {
		for _, s := range sides {
			r.end(s)
		}
	}()
	for i, p := range r.Programs {
		sides[i], points[i].err = r.growthSide(p, l)
		if points[i].err != nil && i == 0 {
			return points, points[i].err
		}
	}
	for round := range pace.rounds {
		for _, i := range turns(round) {
			if points[i].err == nil {
				points[i].err = r.growthSlice(sides[i], l, pace.slice, &points[i])
			}
		}
		if points[0].err != nil {
			return points, points[0].err
		}
	}
	for i, s := range sides {
		if points[i].err != nil {
			continue
		}
		if err := points[i].readPeak(s.process); err != nil {
			return points, err
		}
		if err := s.load.Err(); err != nil {
			fmt.Fprintf(r.Log, "  %s: %v\n", r.Programs[i].Name, err)
		}
		s.load.Close()
		if err := poll(stopTimeout, s.process.clean); err != nil && i == 0 {
			return points, err
		}
	}
	return points, nil
}

// answerWith changes what the scanner says.
func (s *Scanner) answerWith(reply []byte) { s.loop.Do(func() { s.reply = reply }) }

// growthSide starts a program with its connections and lets it do a pass that is not
// counted.
func (r *Rig) growthSide(p Program, l growthLoad) (s side, err error) {
	if s.process, err = r.start(p, "unix", false); err != nil {
		return s, err
	}
	s.load = r.load(Postfix, l.mail, s.process.At)
	s.load.edits = l.edits
	if err := s.load.Open(l.conns); err != nil {
		return s, err
	}
	return s, s.load.Send(l.conns, l.atOnce)
}

// growthSlice has a program do passes for a while, one at least.
func (r *Rig) growthSlice(s side, l growthLoad, slice time.Duration, p *growthPoint) error {
	before, err := s.load.Counts(s.process.CPU)
	if err != nil {
		return err
	}
	after := before
	passes := 0
	for batch := 1; after.At-before.At < slice; batch = min(2*batch, growthBatch) {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		if err := s.load.Send(batch*l.conns, l.atOnce); err != nil {
			return err
		}
		passes += batch
		if after, err = s.load.Counts(s.process.CPU); err != nil {
			return err
		}
	}
	p.time = append(p.time, (after.At-before.At).Seconds()/float64(passes))
	p.cpu = append(p.cpu, (after.CPU-before.CPU).Seconds()/float64(passes))
	sent, wrong := s.load.Check()
	p.sent += sent
	p.wrong += wrong
	return nil
}

// growthBatch is the most passes that are sent without a look at the clock.
const growthBatch = 16
