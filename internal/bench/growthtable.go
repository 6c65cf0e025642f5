package bench

import (
	"fmt"
	"slices"
	"strings"
)

// tolerance is how much more than its work the cost of a load may grow before that is no
// noise of the machine's any more.
const tolerance = 1.25

// grows reports whether a cost grew faster than its work: the cost of a pass, from one load
// to the next, for the number of units in each. With cost = a + b·n it never does.
func grows(before, after float64, n0, n1 int) bool {
	return after > before*float64(n1)/float64(n0)*tolerance
}

// A cost of the form a + b·n has the same marginal cost everywhere: what one unit more
// costs. It may become steeper by a half, which is what leaving the processor's caches
// takes, or a pool that is not enough any more; with a term of n·n it becomes ten times as
// steep from each load to the next.
//
// Where n is small nearly all of a cost is fixed, and the difference of two of them is
// mostly noise, or less than nothing. The best rounds of two processes with the same load
// differ by up to a tenth, so that much of the cost is added to the difference. What that
// can hide is a term that makes the largest load dearer by one and a half of its fixed cost.
//
// Of memory as much again is chance as there may be garbage before it is collected the
// first time: four megabytes by GOGC, which the program sets to 400 where there is much mail.
const (
	steeper = 1.5
	noise   = 0.1
	garbage = 4 * (4 << 20)
)

// steepens reports whether a cost grew by more from the second load to the third than from
// the first to the second, for the units in each. The rule for the whole of a cost does not
// see that as long as the fixed part of it is large. So much of the cost is chance.
func steepens(c0, c1, c2 float64, n0, n1, n2 int, chance float64) bool {
	work := float64(n2-n1) / float64(n1-n0)
	return c2-c1 > steeper*work*(max(0, c1-c0)+noise*c1)+chance
}

// growthCost is one of the costs of a load.
type growthCost struct {
	name string
	of   func(growthPoint) Sample

	// chance is how much of it may be there or not, whatever the load.
	chance float64
}

var growthCosts = []growthCost{
	{"time", func(p growthPoint) Sample { return p.time }, 0},
	{"CPU", func(p growthPoint) Sample { return p.cpu }, 0},
	{"memory", func(p growthPoint) Sample { return p.peak }, garbage},
}

// least is the cost in the best of the rounds: noise of the machine only ever adds.
func (c growthCost) least(p growthPoint) float64 { return slices.Min(c.of(p)) }

// verdict says which costs of a program grew faster than its work up to the i-th load of a
// series.
func verdict(points []growthPoint, i int) []string {
	var faster []string
	for _, c := range growthCosts {
		before, after := points[i-1], points[i]
		grown := grows(c.least(before), c.least(after), before.n, after.n)
		if i > 1 {
			first := points[i-2]
			grown = grown || steepens(c.least(first), c.least(before), c.least(after), first.n, before.n, after.n, c.chance)
		}
		if grown {
			faster = append(faster, c.name)
		}
	}
	return faster
}

// growthHead is the head of a table.
func growthHead(g growth) []string {
	return []string{g.name, "ours, ms", "CPU µs", "CPU µs/" + g.unit, "peak MB", "grows faster than its work",
		"amavisd-milter, ms", "CPU µs", "CPU µs/" + g.unit, "peak MB"}
}

// growthMarkdown makes the table of one series, and returns which of our rows have grown
// faster than their work.
func growthMarkdown(g growth, points [2][]growthPoint) (table string, faster []string) {
	lines := [][]string{growthHead(g)}
	units := 1.0
	if g.unit == "kB" {
		units = 1e3
	}
	for i, p := range points[0] {
		word := "-"
		if i > 0 {
			word = "no"
			if list := verdict(points[0], i); len(list) > 0 {
				word = "YES: " + strings.Join(list, ", ")
				faster = append(faster, fmt.Sprintf("%s, %s to %s: %s", g.name, number(float64(points[0][i-1].n)), number(float64(p.n)), strings.Join(list, ", ")))
			}
		}
		cells := append([]string{number(float64(p.n) / units)}, p.cells(units)...)
		cells = append(append(cells, word), points[1][i].cells(units)...)
		lines = append(lines, cells)
	}
	return align(lines), faster
}

// cells are those of one program.
func (p growthPoint) cells(units float64) []string {
	if p.err != nil {
		return []string{"fails: " + p.err.Error(), "-", "-", "-"}
	}
	if p.wrong > 0 {
		return []string{fmt.Sprintf("fails: %d of %d messages", p.wrong, p.sent), "-", "-", "-"}
	}
	return []string{
		number(p.time.Median() * milli), number(p.cpu.Median() * micro),
		number(p.cpu.Median() * micro / float64(p.n) * units), number(p.peak.Median() / megabyte),
	}
}

// costGrowth is the step that measures all series.
func costGrowth(r *Rig, report *Report) error {
	pace := fullGrowth
	if r.Quick {
		pace = quickGrowth
	}
	var text strings.Builder
	var all []string
	for _, g := range growths {
		points, err := r.measureGrowth(g, pace)
		if err != nil {
			return err
		}
		table, faster := growthMarkdown(g, points)
		text.WriteString(table + "\n")
		all = append(all, faster...)
		for _, p := range points[0] {
			if p.wrong > 0 {
				all = append(all, fmt.Sprintf("%s, %d: ours FAILED %d of %d messages", g.name, p.n, p.wrong, p.sent))
			}
		}
	}
	if len(all) == 0 {
		text.WriteString("No row of ours grows faster than its work.\n")
	}
	for _, line := range all {
		fmt.Fprintf(&text, "- %s\n", line)
	}
	report.Sections = append(report.Sections, Section{"Cost as work grows", growthPreface + text.String(), all})
	return nil
}

const growthPreface = "One connection and one message at a time unless a row says otherwise, each row with a process of its\n" +
	"own. A row of connections is about a message on each of them, the others about one message. A row\n" +
	"grows faster than its work if the best of its rounds costs more than the best of the row above it, by\n" +
	"the ratio of their work and a quarter for the noise, or if a unit more costs over one and a half of\n" +
	"what it cost between the two rows above it. Of the difference between two rows a tenth of the lower\n" +
	"one is taken for noise, and 16 MiB of memory for garbage, so that a term of n·n within that is not\n" +
	"seen. What fails is measured again, up to twice, and the best of all rounds counts.\n\n"
