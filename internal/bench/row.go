package bench

import (
	"fmt"
	"slices"
	"strings"
)

// goal is what a row is to show.
type goal struct {
	text string
	met  func(ours, theirs Sample, wrong int) bool
}

// times is a goal for the ratio of ours to theirs: at least, where more is better.
func times(x float64) goal {
	return goal{fmt.Sprintf("≥ %gx", x), func(ours, theirs Sample, _ int) bool { return ours.Median()/theirs.Median() >= x }}
}

// part is a goal for the same ratio: at most, where less is better.
func part(x float64) goal {
	return goal{fmt.Sprintf("≤ %gx", x), func(ours, theirs Sample, _ int) bool { return ours.Median()/theirs.Median() <= x }}
}

// partWithoutErrors is part, and every message must have been answered rightly.
func partWithoutErrors(x float64) goal {
	p := part(x)
	return goal{p.text + ", 0 errors", func(ours, theirs Sample, wrong int) bool { return wrong == 0 && p.met(ours, theirs, wrong) }}
}

// most is a goal for ours alone, in no round more.
func most(x float64, unit string) goal {
	return goal{strings.TrimSpace(fmt.Sprintf("≤ %g %s", x, unit)), func(ours, _ Sample, _ int) bool {
		return len(ours) > 0 && slices.Max(ours) <= x
	}}
}

// exactly is a goal for ours alone, in each round.
func exactly(x float64) goal {
	return goal{fmt.Sprintf("exactly %g", x), func(ours, _ Sample, _ int) bool {
		for _, v := range ours {
			if v != x {
				return false
			}
		}
		return len(ours) > 0
	}}
}

// Row is one line of the table.
type Row struct {
	Name   string
	Unit   string
	Values [2]Sample // of ours and of theirs
	Sent   [2]int    // messages
	Wrong  [2]int    // of them, not answered as the scanner was told to
	goal   goal
}

// Met says whether the goal is met; "" if there is none. A program that answers wrongly
// meets none.
func (r *Row) Met() string {
	switch {
	case r.goal.met == nil:
		return ""
	case r.Wrong[0] > 0:
		return "NOT met"
	case r.goal.met(r.Values[0], r.Values[1], r.Wrong[0]):
		return "met"
	}
	return "NOT met"
}

// Table is a list of rows.
type Table []Row

// Markdown prints a table.
func (t Table) Markdown() string {
	withGoals := false
	for _, r := range t {
		withGoals = withGoals || r.goal.met != nil
	}
	lines := [][]string{{"", "ours", "amavisd-milter", "ratio"}}
	if withGoals {
		lines[0] = append(lines[0], "goal", "")
	}
	for _, r := range t {
		name := r.Name
		if r.Unit != "" {
			name += ", " + r.Unit
		}
		cells := []string{name, r.cell(0), r.cell(1), "-"}
		if paired := ratios(r.Values[0], r.Values[1]); len(paired) > 0 {
			cells[3] = number(r.Values[0].Median()/r.Values[1].Median()) + "x"
			if len(paired) > 1 {
				cells[3] += strings.TrimPrefix(paired.String(), number(paired.Median()))
			}
		}
		if withGoals {
			cells = append(cells, r.goal.text, r.Met())
		}
		lines = append(lines, cells)
	}
	return align(lines)
}

// cell prints what was measured of one program, and what went wrong.
func (r *Row) cell(i int) string {
	s := r.Values[i].String()
	if r.Wrong[i] > 0 {
		s += fmt.Sprintf("; %d of %d WRONG", r.Wrong[i], r.Sent[i])
	}
	return s
}

// Times is the table of what is seen of a case besides its rates: one line for each.
type Times [][]string

var timesHead = []string{"", "ours: waits", "median, ms", "p99, ms", "load and scanner, CPU µs/msg", "busy",
	"amavisd-milter: waits", "median, ms", "p99, ms", "load and scanner, CPU µs/msg", "busy"}

// add adds a case, with the medians of its rounds.
func (t *Times) add(name string, m *measured) {
	cells := []string{name}
	for i := range m.waits {
		cells = append(cells, number(m.waits[i].Median()), number(m.median[i].Median()*milli),
			number(m.p99[i].Median()*milli), number(m.own[i].Median()*micro), fmt.Sprintf("%.0f %%", 100*m.busy(i)))
	}
	*t = append(*t, cells)
}

// Markdown prints the table.
func (t Times) Markdown() string { return align(append([][]string{timesHead}, t...)) }

// align makes a Markdown table whose columns stand one below the other.
func align(lines [][]string) string {
	widths := make([]int, len(lines[0]))
	for _, cells := range lines {
		for i, cell := range cells {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	var b strings.Builder
	for n, cells := range lines {
		for i, cell := range cells {
			b.WriteString("| " + cell + strings.Repeat(" ", widths[i]-len([]rune(cell))+1))
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i := range cells {
			b.WriteString("|" + strings.Repeat("-", widths[i]+1))
			if i == 0 {
				b.WriteString("-")
			} else {
				b.WriteString(":")
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}
