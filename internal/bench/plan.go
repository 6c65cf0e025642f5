package bench

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// smallMail is the size of a small message, in bytes.
const smallMail = 4096

// wire is how long the way to a remote host is, one way: a round trip takes 1 ms.
const wire = 500 * time.Microsecond

// Report is what one run has measured.
type Report struct {
	Goals  Table // the rows with a goal
	Others Table // other offers, sockets, disks
	Times  Times // what else was seen of them
	Notes  []string
	Doubts []string // why the rows may not be about the programs

	Sections []Section // what has tables of its own
}

// Section is a part of the report.
type Section struct {
	Title, Text string
	Unmet       []string // what is not as it should be
}

// step is a part of the run.
type step struct {
	name string
	run  func(*Rig, *Report) error
}

// Steps are the parts of a run, by name.
func Steps() []string {
	var names []string
	for _, s := range steps {
		names = append(names, s.name)
	}
	return names
}

var steps = []step{
	{"c1", small(1, times(9))},
	{"c8", small(8, times(9))},
	{"c64", small(64, times(10))},
	{"c256", small(256, times(13))},
	{"disk", disk},
	{"strace", countCalls},
	{"remote", remote},
	{"large", large},
	{"idle1000", idleConnections(someConnections, part(1.05))},
	{"idle4000", idleConnections(manyConnections, partWithoutErrors(0.85))},
	{"peak", peak},
	{"others", others},
	{"self", selfCheck},
	{"mta", realMTAs},
	{"growth", costGrowth},
}

// longSteps are too much for a quick run that does not ask for them.
var longSteps = []string{"growth", "idle4000"}

// Run measures the steps of these names, or all. What could be measured is reported also
// if a step failed; only a run that is told to end has no report.
func (r *Rig) Run(names []string) (*Report, error) {
	report := &Report{}
	var failed []error
	for _, name := range names {
		if !slices.Contains(Steps(), name) {
			return nil, fmt.Errorf("there is no %q; there are %q", name, Steps())
		}
	}
	began := now()
	for _, s := range steps {
		if len(names) > 0 && !slices.Contains(names, s.name) || len(names) == 0 && r.Quick && slices.Contains(longSteps, s.name) {
			continue
		}
		fmt.Fprintf(r.Log, "%4.0f s: %s\n", (now() - began).Seconds(), s.name)
		err := s.run(r, report)
		if r.ctx.Err() != nil {
			return nil, fmt.Errorf("told to end in step %s; nothing is left behind", s.name)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			report.Notes = append(report.Notes, fmt.Sprintf("FAILED: %s: %v", s.name, err))
		}
	}
	fmt.Fprintf(r.Log, "%4.0f s: done\n", (now() - began).Seconds())
	return report, errors.Join(failed...)
}

const (
	micro = 1e6 // of them a second has
	milli = 1e3
)

// small measures messages of the usual size on so many connections.
func small(conns int, g goal) func(*Rig, *Report) error {
	return func(r *Rig, report *Report) error {
		m, err := r.measure(Case{MTA: Postfix, Network: "unix", Conns: conns, Size: smallMail}, r.pace.rounds, r.pace.slice)
		if err != nil {
			return err
		}
		report.Goals = append(report.Goals, m.row(fmt.Sprintf("4 KB, C=%d", conns), "msg/s", m.rate, 1, g))
		report.note(fmt.Sprintf("C=%d", conns), m)
		if conns == 8 {
			report.Times.add(Postfix.Name+"; unix; memory", m)
			report.Goals = append(report.Goals,
				m.row("CPU a message, C=8", "µs", m.cpu, micro, part(0.08)),
				m.row("MTA waits a message", "", m.waits, 1, exactly(1)))
		}
		return nil
	}
}

// note tells what else was seen of a case.
func (report *Report) note(name string, m *measured) {
	ms := func(s Sample) string { return number(s.Median()*milli) + " ms" }
	report.Notes = append(report.Notes, fmt.Sprintf("%s: a message took ours %s (p99 %s), amavisd-milter %s (p99 %s); the load and the scanner used %s and %s µs of CPU.",
		name, ms(m.median[0]), ms(m.p99[0]), ms(m.median[1]), ms(m.p99[1]), number(m.own[0].Median()*micro), number(m.own[1].Median()*micro)))
	report.doubt(name, m)
	report.reasons(name, m)
}

// reasons tells what went wrong in a case.
func (report *Report) reasons(name string, m *measured) {
	for i, err := range m.reasons {
		if err != nil {
			report.Notes = append(report.Notes, fmt.Sprintf("%s: WRONG of %s: %v.", name, [2]string{ours, "amavisd-milter"}[i], err))
		}
	}
}

func disk(r *Rig, report *Report) error {
	m, err := r.measure(Case{MTA: Postfix, Network: "unix", Disk: true, Conns: 8, Size: smallMail}, r.pace.rounds, r.pace.slice)
	if err == nil {
		kind := fileSystem(r.disk)
		report.Goals = append(report.Goals, m.row("4 KB, C=8 on disk ("+kind+")", "msg/s", m.rate, 1, times(5)))
		report.note("C=8 on disk", m)
		report.Times.add(Postfix.Name+"; unix; disk", m)
	}
	return err
}

func countCalls(r *Rig, report *Report) error {
	if !haveStrace() {
		report.Notes = append(report.Notes, "System calls were not counted for want of strace: as root on Debian, apt-get install strace.")
		return nil
	}
	row, notes, err := r.systemCalls("system calls a message", Postfix, r.pace.traced, most(34, ""))
	if err == nil {
		report.Goals = append(report.Goals, row)
		report.Notes = append(report.Notes, notes...)
	}
	return err
}

func haveStrace() bool {
	_, err := exec.LookPath("strace")
	return err == nil
}

// remote is a message whose MTA and milter have a wire between them, as with a remote
// scanning host on which milter and scanner run.
func remote(r *Rig, report *Report) error {
	m, err := r.measure(Case{MTA: Postfix, Network: "tcp", Conns: 1, Size: smallMail, Wire: wire}, r.pace.rounds, r.pace.slice)
	if err == nil {
		report.Goals = append(report.Goals, m.row("latency with 1 ms RTT", "ms", m.median, milli, part(0.04)))
		report.note("1 ms RTT", m)
	}
	return err
}

func large(r *Rig, report *Report) error {
	m, err := r.measure(Case{MTA: Postfix, Network: "unix", Conns: 4, Size: largeMail}, r.pace.rounds, r.pace.slice)
	if err == nil {
		report.Goals = append(report.Goals,
			m.row("10 MB, C=4", "MB/s", m.rate, largeMail/megabyte, times(1.8)),
			m.row("CPU for 10 MB", "ms", m.cpu, milli, part(0.5)))
		report.note("10 MB", m)
	}
	return err
}

func idleConnections(conns int, g goal) func(*Rig, *Report) error {
	return func(r *Rig, report *Report) error {
		row, err := r.idleMemory(conns, fmt.Sprintf("resident, %s idle connections", number(float64(conns))), g)
		if err == nil {
			report.Goals = append(report.Goals, row)
		}
		return err
	}
}

func peak(r *Rig, report *Report) error {
	row, err := r.peakMemory(fmt.Sprintf("peak resident, %d × 10 MB at once", largeAtOnce), most(20, "MB"))
	if err == nil {
		report.Goals = append(report.Goals, row)
	}
	return err
}

// others are the offers, sockets and file systems that the rows with a goal have not.
func others(r *Rig, report *Report) error {
	for _, c := range otherCases(r.Quick) {
		if err := r.other(report, c); err != nil {
			return fmt.Errorf("%s: %w", c.name(), err)
		}
	}
	if r.Quick || !haveStrace() {
		return nil
	}
	name := Case{MTA: SendmailAsItWrites, Network: "unix", Conns: 1}.name() + ", system calls a message"
	row, notes, err := r.systemCalls(name, SendmailAsItWrites, fewTraced, goal{})
	if err == nil {
		report.Others = append(report.Others, row)
		report.Notes = append(report.Notes, notes...)
	}
	return err
}

// fewTraced is how many messages of an MTA that writes each frame are traced: there are
// many calls of amavisd-milter's in each, and each of them is slow then.
const fewTraced = 50

// usualConns is how many connections a row of small messages has unless it says otherwise.
const usualConns = 8

// otherCases are the cases of these rows; a quick run has none with few or with many
// connections.
func otherCases(quick bool) []Case {
	var cases []Case
	for _, mta := range []MTA{Postfix, SendmailAsItWrites, SendmailGathered} {
		for _, network := range []string{"unix", "tcp"} {
			for _, disk := range []bool{false, true} {
				if mta.Name != Postfix.Name || network != "unix" {
					cases = append(cases, Case{MTA: mta, Network: network, Disk: disk, Conns: usualConns, Size: smallMail})
				}
			}
		}
	}
	if !quick {
		for _, conns := range []int{1, 64, 256} {
			cases = append(cases, Case{MTA: SendmailAsItWrites, Network: "unix", Conns: conns, Size: smallMail})
		}
		cases = append(cases,
			Case{MTA: SendmailAsItWrites, Network: "tcp", Conns: 1, Size: smallMail, Wire: wire},
			Case{MTA: SendmailAsItWrites, Network: "unix", Conns: 4, Size: largeMail})
	}
	return cases
}

// name names a case by what its row is about.
func (c Case) name() string {
	where := "memory"
	if c.Disk {
		where = "disk"
	}
	name := fmt.Sprintf("%s; %s; %s", c.MTA.Name, c.Network, where)
	if c.Conns != usualConns {
		name += fmt.Sprintf("; C=%d", c.Conns)
	}
	if c.Size == largeMail {
		name += "; 10 MB"
	}
	if c.Wire > 0 {
		name += "; 1 ms RTT"
	}
	return name
}

func (r *Rig) other(report *Report, c Case) error {
	m, err := r.measure(c, r.pace.otherRounds, r.pace.otherSlice)
	if err != nil {
		return err
	}
	report.Others = append(report.Others,
		m.row(c.name(), "msg/s", m.rate, 1, goal{}),
		m.row(c.name(), "CPU µs/msg", m.cpu, micro, goal{}))
	report.Times.add(c.name(), m)
	report.reasons(c.name(), m)
	return nil
}

// selfCheck shows that the load and the scanner can do more than what they measure.
func selfCheck(r *Rig, report *Report) error {
	for _, size := range []int{smallMail, largeMail} {
		load, scan, err := SelfCheck(r.memory+"/check.sock", 8, size, r.pace.check)
		if err != nil {
			return err
		}
		if size == largeMail {
			report.Notes = append(report.Notes, fmt.Sprintf("The load alone, against a milter that does nothing: %s messages of 10 MB a second, %s ms of CPU each.", number(load.PerSecond), number(load.CPU.Seconds()*milli)))
			continue
		}
		report.Notes = append(report.Notes,
			fmt.Sprintf("The load alone, C=8, against a milter that does nothing: %s msg/s, %s µs of CPU each.", number(load.PerSecond), number(load.CPU.Seconds()*micro)),
			fmt.Sprintf("The scanner alone, against 8 raw clients: %s requests a second, %s µs of CPU each.", number(scan.PerSecond), number(scan.CPU.Seconds()*micro)))
	}
	return nil
}

// mostBusy is how much of their thread's time the load and the scanner may take, of 1: with
// more the numbers may be theirs and not the program's.
const mostBusy = 0.5

// doubt says so in the report of a case with a goal.
func (report *Report) doubt(name string, m *measured) {
	for i, program := range []string{ours, "amavisd-milter"} {
		if busy := m.busy(i); busy > mostBusy {
			report.Doubts = append(report.Doubts, fmt.Sprintf("%s, %s: the load and the scanner are busy for %.0f %% of the time", name, program, 100*busy))
		}
	}
}
