package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// The differential test sends the same mail through the C program amavisd-milter of
// Debian and through ours under that name, on both MTAs, with the same letters,
// and compares all that can be seen: every SMTP reply, what is delivered to
// whom, what amavisd is asked, what lies in the spool. Whatever differs must be
// a row of diffRows, and each row must be seen.

// Where the two programs work: Debian's defaults for the C program.
const (
	diffWorkDir = lab.AmavisHome + "/tmp"
	diffScanner = lab.AmavisHome + "/differential.sock" // where the tape listens
	diffNobody  = lab.AmavisHome + "/nobody.sock"       // where nobody does
	diffPIDFile = "/run/amavis/amavisd-milter.pid"
)

// diffRetry is --retry-time of ours: the C program knows no second try, and the
// default of 30 s would only lengthen the test.
const diffRetry = 300 * time.Millisecond

// diffSetup is a way to call the programs, and the cases are grouped by it.
type diffSetup struct {
	letters string // given to both
	scanner string // socket of amavisd; the tape's if it is empty
}

// diffProgram is one of the two.
type diffProgram struct {
	name string
	path string
	more []string // options for what the other one has no letter for
	slow bool     // to end: its library looks for TERM every 5 s
}

// TestDifferential: what is different for a postmaster who changes nothing but the
// binary.
func TestDifferential(t *testing.T) {
	needLab(t)
	ours := diffLink(t)
	programs := [2]diffProgram{
		{name: "theirs", path: "/usr/sbin/amavisd-milter", slow: true},
		{name: "ours", path: ours, more: []string{"--retry-time", diffRetry.String()}},
	}
	cases := diffCases(t)
	seen := diffSeen{cases: map[string]map[string]int{}, patterns: map[string]bool{}}
	ran := 0
	onEach(t, lab.Extensions, func(t *testing.T, p *lab.Pipeline) {
		began := time.Now()
		undo, err := p.UseOldMacros()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(p.RestartMilter(), undo()); err != nil {
				t.Fatal(err)
			}
		})
		var both [2]map[string]diffFacts
		for i, program := range programs {
			both[i] = diffRun(t, p, program, cases)
		}
		for _, c := range cases {
			if !c.runsOn(p.MTA) {
				continue
			}
			seen.explain(t, p.MTA, c.name, both[0][c.name].compare(both[1][c.name]))
		}
		ran++
		t.Logf("%d cases through both programs in %v", len(both[0]), time.Since(began).Round(time.Second))
	})
	t.Log(seen.report())
	if ran < len(lab.MTAs()) {
		return // part of the test was asked for: what it did not see means nothing
	}
	for _, row := range diffRows {
		for i, pattern := range row.shows {
			if !seen.patterns[row.name(i)] {
				t.Errorf("row %q: no case shows this any more in %s (cases %q); take it out, of docs/MIGRATING.md as well if it was the last", row.id, pattern.where, pattern.cases)
			}
		}
	}
}

// diffLink makes the link under whose name our program follows the C program; its
// account must get there.
func diffLink(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "amavisd-milter-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "amavisd-milter")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// diffSeen is what was seen of the table.
type diffSeen struct {
	cases    map[string]map[string]int // by row and MTA: how many
	patterns map[string]bool           // by diffRow.name
}

// report is the table of the run: one line for each difference.
func (s *diffSeen) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "differences, and the number of cases that show them:\n%-20s", "")
	for _, mta := range lab.MTAs() {
		fmt.Fprintf(&b, "%9s", mta.Name)
	}
	b.WriteString("\n")
	for _, row := range diffRows {
		fmt.Fprintf(&b, "%-20s", row.id)
		for _, mta := range lab.MTAs() {
			fmt.Fprintf(&b, "%9d", s.cases[row.id][mta.Name])
		}
		fmt.Fprintf(&b, "  %s -> %s\n", row.theirs, row.ours)
	}
	return b.String()
}

// explain matches each difference of a case with the table. What no row explains is
// an error.
func (s *diffSeen) explain(t *testing.T, mta *lab.MTA, name string, found []diffDifference) {
	t.Helper()
	rows := map[string]bool{}
	for _, d := range found {
		row, pattern := diffRowOf(mta, name, d)
		if row == nil {
			t.Errorf("%s, case %q: unexplained difference in %s:\ntheirs: %s\nours:   %s", mta.Name, name, d.where, diffQuote(d.theirs), diffQuote(d.ours))
			continue
		}
		rows[row.id] = true
		s.patterns[row.name(pattern)] = true
	}
	for id := range rows {
		if s.cases[id] == nil {
			s.cases[id] = map[string]int{}
		}
		s.cases[id][mta.Name]++
	}
}

func diffQuote(s string) string {
	const most = 600 // bytes
	if len(s) > most {
		return fmt.Sprintf("%q… (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// diffRun sends the mail of all cases through one program and returns what was seen
// of each.
func diffRun(t *testing.T, p *lab.Pipeline, program diffProgram, cases []diffCase) map[string]diffFacts {
	t.Helper()
	tape := diffStartTape(t)
	defer tape.Close()
	all := map[string]diffFacts{}
	for _, setup := range diffSetups(cases) {
		program.use(t, p, setup)
		delivered := p.Sink.Mark()
		for _, c := range cases {
			if c.setup == setup && c.runsOn(p.MTA) {
				all[c.name] = c.send(t, p, tape)
			}
		}
		held := diffFlush(t, p)
		for _, facts := range all {
			for _, id := range facts["queue id"] {
				if held[id] {
					facts["held in quarantine"] = []string{"yes"}
				}
			}
		}
		for _, d := range p.Sink.Deliveries(delivered) {
			mark := strings.Join(d.Values(caseField), "|")
			m := diffMark.FindStringSubmatch(mark)
			if m == nil || all[m[2]] == nil {
				t.Fatalf("%s: a mail marked %q was delivered", program.name, mark)
			}
			all[m[2]].delivered(m[1], d)
		}
		if program.slow {
			syscall.Kill(p.Milter.PID(), syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("%s (%+v) said:\n%s", program.name, setup, p.Milter.Output())
		}
	}
	for _, facts := range all {
		facts.normalise()
	}
	return all
}

// diffMark takes the value of the field caseField apart: which mail of the session,
// if it is not the first, and the name of the case.
var diffMark = regexp.MustCompile(`^(mail \d, )?(.*)$`)

// diffFlush returns when the MTA has delivered all but what it holds in its
// quarantine; it returns the queue ids of that, and removes it.
func diffFlush(t *testing.T, p *lab.Pipeline) map[string]bool {
	t.Helper()
	held := map[string]bool{}
	err := lab.Poll(noticeTimeout, p.MTA.Name+" to deliver", func() error {
		names, err := p.MTA.Queued()
		if err != nil {
			return err
		}
		for _, name := range names {
			if id, ok := diffHeldID(name); ok {
				held[id] = true
			}
		}
		for _, name := range names {
			if id := strings.TrimPrefix(filepath.Base(name), "df"); !held[id] && !held[strings.TrimPrefix(filepath.Base(name), "hf")] {
				return fmt.Errorf("%s is in the queue", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	names, err := p.MTA.Queued()
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// diffHeldID returns the queue id of a file that is in an MTA's quarantine:
// sendmail's hf files, Postfix's queue hold.
func diffHeldID(file string) (id string, held bool) {
	dir, name := filepath.Split(file)
	if filepath.Base(dir) == "hold" {
		return name, true
	}
	return strings.CutPrefix(name, "hf")
}

// diffSetups are the setups of the cases, each once.
func diffSetups(cases []diffCase) []diffSetup {
	setups := map[diffSetup]bool{}
	for _, c := range cases {
		setups[c.setup] = true
	}
	return slices.SortedFunc(maps.Keys(setups), func(a, b diffSetup) int {
		return strings.Compare(a.letters+a.scanner, b.letters+b.scanner)
	})
}

// use runs the program for the MTA of p, and then does with the socket what
// Debian's init script does where its settings say so (MILTERSOCKETOWNER,
// MILTERSOCKETMODE).
func (d *diffProgram) use(t *testing.T, p *lab.Pipeline, setup diffSetup) {
	t.Helper()
	scanner := setup.scanner
	if scanner == "" {
		scanner = diffScanner
	}
	args := []string{"-f", "-s", "local:" + p.MTA.MilterSocket, "-S", scanner, "-w", diffWorkDir, "-p", diffPIDFile}
	args = append(append(args, strings.Fields(setup.letters)...), d.more...)
	if err := p.UseProgram(d.name, exec.Command(d.path, args...)); err != nil {
		t.Fatal(err)
	}
	if p.MTA != lab.Postfix {
		return // sendmail is root
	}
	for _, args := range [][]string{{"chgrp", "postfix", p.MTA.MilterSocket}, {"chmod", "0660", p.MTA.MilterSocket}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
}
