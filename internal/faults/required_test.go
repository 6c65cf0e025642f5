package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// A requirement is what a table must have: so many cases at least, about nine tenths of
// those it was written with, and these faults among its columns.
type requirement struct {
	table  string
	least  int // cases
	faults []string
}

// requirements are of all tables, so that none of them shrinks or goes unnoticed. What
// this machine cannot have is left out for the reason alone for which a test of its own
// is skipped: TestDisksCanBeMounted, TestDisksCanBeBroken.
func requirements() []requirement {
	workDir := requirement{"work directory", 91, []string{"removed", "renamed", "a link to it", "replaced", "chmod 0", "chown"}}
	if os.Geteuid() != 0 { // only root can give the directory away
		workDir.least, workDir.faults = 76, workDir.faults[:5]
	}
	list := []requirement{
		{"signals", 180, []string{"TERM", "INT", "HUP", "USR1", "KILL", "TERM, stall", "INT, stall", "TERM TERM", "TERM INT", "TERM KILL"}},
		workDir,
		{"limits of the process", 12, []string{"no descriptors", "none for long", "file too large"}},
		{"left by amavisd", 18, []string{"amavisd replies", "amavisd dies", "KILL"}},
		{"amavisd", 1400, []string{"stopped", "killed", "not allowed", "ends", "reset", "empty", "another protocol", "garbage", "unknown", "missing", "twice", "malformed", "escape"}},
		{"amavisd over TCP", 212, []string{"stopped", "ends", "reset"}},
		{"amavisd too slow", 75, []string{"hangs", "late", "a byte at a time, slowly", "backlog full", "none free"}},
		{"amavisd, odd but whole replies", 96, []string{"in pieces", "before the request", "twice", "garbage behind it", "wrong", "hostile", "setreply of another class", "hostile edit"}},
		{"amavisd dies and comes back", 20, []string{"stopped", "killed", "ends", "reset", "backlog full"}},
		{"amavisd stays away", 13, []string{"stopped", "killed", "ends", "reset", "dead"}},
		{"amavisd floods", 14, []string{"64 MiB", "endless", "limit-1", "limit", "limit+1"}},
		{"MTA", 790, []string{"hangs up before", "hangs up in it", "hangs up after", "closes for writing", "ABORT", "QUIT", "unknown command", "malformed", "another protocol", "stalls before", "stalls in it"}},
		{"MTA, verdict", 19, []string{"hangs up", "hangs up in it", "closes for writing", "ABORT", "QUIT", "garbage"}},
		{"MTA, order of frames", 88, []string{"alone, then EOM", "too early", "too late", "twice", "missing", "in pieces"}},
		{"MTA and amavisd", 172, []string{"hangs up at once", "hangs up in the next message", "ABORT, then the message again"}},
	}
	disk := requirement{"disk", 16, []string{"full", "out of inodes", "--min-free", "--max-spool", "read-only"}}
	if canBreak() != nil {
		disk.least, disk.faults = 12, disk.faults[:4]
	}
	if canMount() == nil {
		list = append(list, disk)
	}
	return list
}

// missing says what the tables do not have of what they must; a case that was not run
// because of the failures before it is there. A table without a requirement needs one.
func (ts *tables) missing(list []requirement) []string {
	var missing []string
	for _, r := range list {
		t := ts.named(r.table)
		if t == nil {
			missing = append(missing, fmt.Sprintf("there is no table %q", r.table))
			continue
		}
		if n := t.cases + t.notRun; n < r.least {
			missing = append(missing, fmt.Sprintf("table %q has %d cases, want %d at least", r.table, n, r.least))
		}
		for _, fault := range r.faults {
			if t.played[fault] == 0 {
				missing = append(missing, fmt.Sprintf("table %q has no case of %q", r.table, fault))
			}
		}
	}
	for _, t := range ts.list {
		if !slices.ContainsFunc(list, func(r requirement) bool { return r.table == t.name }) {
			missing = append(missing, fmt.Sprintf("nothing is required of table %q", t.name))
		}
	}
	return missing
}

// TestShrunkMatrixIsNoticed takes tables, faults and cases from the matrix.
func TestShrunkMatrixIsNoticed(t *testing.T) {
	without := func(drop func(g group, c faultCase) bool) []group {
		list := groups()
		for i, g := range list {
			list[i].cases = slices.DeleteFunc(slices.Clone(g.cases), func(c faultCase) bool { return drop(g, c) })
		}
		return list
	}
	for _, test := range []struct {
		name   string
		groups []group
		want   string // in what is missing; empty: nothing may be missing
	}{
		{"all", groups(), ""},
		{"those of the MTA alone", mtaGroups(), `there is no table "amavisd"`},
		{"no signals", slices.DeleteFunc(groups(), func(g group) bool { return g.name == "signals" }), `there is no table "signals"`},
		{"a new table", append(groups(), group{name: "new"}), `nothing is required of table "new"`},
		{"no stalls", without(func(_ group, c faultCase) bool { return c.fault == "stalls in it" }), `no case of "stalls in it"`},
		{"one reset", without(func(g group, c faultCase) bool {
			return g.name == "amavisd" && c.fault == "reset" && c.detail != "byte 1"
		}), `table "amavisd" has`},
	} {
		t.Run(test.name, func(t *testing.T) {
			tables := newTables()
			for _, g := range test.groups {
				table := tables.of(g.name, g.cases)
				for _, c := range g.cases {
					table.skip(c)
				}
			}
			missing := strings.Join(tables.missing(requirements()), "\n")
			if (missing == "") != (test.want == "") || !strings.Contains(missing, test.want) {
				t.Errorf("missing is %q, want %q in it", missing, test.want)
			}
		})
	}
}
