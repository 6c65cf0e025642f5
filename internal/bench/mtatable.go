package bench

import (
	"fmt"
	"slices"
	"time"
)

// mtaKind is one of the times of a message.
type mtaKind struct {
	name  string
	of    func(MTARound) []time.Duration
	fresh bool // only where each message has a connection of its own
}

var mtaKinds = []mtaKind{
	{"end of message", func(r MTARound) []time.Duration { return r.Ends }, false},
	{"MAIL to 250", func(r MTARound) []time.Duration { return r.Transactions }, false},
	{"connect to 250", func(r MTARound) []time.Duration { return r.Sessions }, true},
}

// MTARow is what the programs add to one kind of time at one MTA, at one quantile.
type MTARow struct {
	MTA        string
	Connection string // "kept" or "new"
	Kind       string
	Quantile   string
	Messages   int           // of each program at least
	None       time.Duration // the time without a milter
	Floor      time.Duration // added to it by a milter that does nothing
	Ours       time.Duration // added to it
	Theirs     time.Duration // added to it

	// The least and the most that was added in any round.
	OursLow, OursHigh, TheirsLow, TheirsHigh time.Duration
}

// ratio is what ours adds as a share of what theirs adds. Where one of them added nothing in
// one of the rounds the noise is more than both.
func (r MTARow) ratio() string {
	if min(r.Ours, r.Theirs, r.OursLow, r.TheirsLow) <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2fx", float64(r.Ours)/float64(r.Theirs))
}

// mtaRows makes the table of what was measured.
func mtaRows(all []*MTASeries) []MTARow {
	find := func(mta, program string, kept bool) *MTASeries {
		i := slices.IndexFunc(all, func(s *MTASeries) bool { return s.MTA == mta && s.Program == program && s.Kept == kept })
		if i < 0 {
			return &MTASeries{}
		}
		return all[i]
	}
	var rows []MTARow
	for _, base := range all {
		if base.Program != noMilter {
			continue
		}
		floor := find(base.MTA, floorMilter, base.Kept)
		mine, other := find(base.MTA, ours, base.Kept), find(base.MTA, theirs, base.Kept)
		for _, kind := range mtaKinds {
			if kind.fresh && base.Kept {
				continue
			}
			for _, q := range []float64{0.5, 0.99} {
				row := MTARow{MTA: base.MTA, Connection: "new", Kind: kind.name, Quantile: fmt.Sprintf("p%g", q*100)}
				if base.Kept {
					row.Connection = "kept"
				}
				without := base.all(kind)
				row.None = timeQuantile(without, q)
				row.Messages = min(len(without), len(floor.all(kind)), len(mine.all(kind)), len(other.all(kind)))
				if row.Messages == 0 {
					continue
				}
				row.Floor, _, _ = floor.added(base, kind, q)
				row.Ours, row.OursLow, row.OursHigh = mine.added(base, kind, q)
				row.Theirs, row.TheirsLow, row.TheirsHigh = other.added(base, kind, q)
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// all is the times of a kind of all rounds.
func (s *MTASeries) all(kind mtaKind) (times []time.Duration) {
	for _, round := range s.Rounds {
		times = append(times, kind.of(round)...)
	}
	return times
}

// added is the time of a kind beyond that of the same messages without a milter, at the
// same quantile: of all rounds together, and the least and the most of any of them.
func (s *MTASeries) added(base *MTASeries, kind mtaKind, q float64) (all, low, high time.Duration) {
	for i := range min(len(s.Rounds), len(base.Rounds)) {
		d := timeQuantile(kind.of(s.Rounds[i]), q) - timeQuantile(kind.of(base.Rounds[i]), q)
		if i == 0 {
			low, high = d, d
		}
		low, high = min(low, d), max(high, d)
	}
	return timeQuantile(s.all(kind), q) - timeQuantile(base.all(kind), q), low, high
}

// mtaHead is the head of the table, each time in milliseconds.
var mtaHead = []string{"MTA", "connection", "time, ms", "", "without a milter", "+ doing nothing", "+ ours", "+ amavisd-milter", "ours / amavisd-milter"}

// cells are those of a row.
func (r MTARow) cells() []string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*milli) }
	spread := func(d, low, high time.Duration) string {
		return fmt.Sprintf("%s (%s–%s)", ms(d), ms(low), ms(high))
	}
	return []string{r.MTA, r.Connection, r.Kind, r.Quantile, ms(r.None), ms(r.Floor),
		spread(r.Ours, r.OursLow, r.OursHigh), spread(r.Theirs, r.TheirsLow, r.TheirsHigh), r.ratio()}
}

// mtaMarkdown makes the table.
func mtaMarkdown(rows []MTARow) string {
	lines := [][]string{mtaHead}
	for _, row := range rows {
		lines = append(lines, row.cells())
	}
	return align(lines)
}
