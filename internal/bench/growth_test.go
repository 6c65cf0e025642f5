package bench

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// point is a load of n units whose rounds cost so many milliseconds and a tenth of that
// in CPU.
func point(n int, peak float64, times ...float64) growthPoint {
	p := growthPoint{n: n, peak: Sample{peak * megabyte}, sent: len(times)}
	for _, t := range times {
		p.time = append(p.time, t/milli)
		p.cpu = append(p.cpu, t/milli/10)
	}
	return p
}

// TestVerdict: costs may grow as the work does, and a quarter more.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after growthPoint
		want          string
	}{
		{"the same", point(10, 1, 4), point(100, 1, 4), ""},
		{"as the work", point(10, 1, 4), point(100, 10, 40), ""},
		{"within the noise", point(10, 1, 4), point(100, 12.4, 49.9), ""},
		{"faster", point(10, 1, 4), point(100, 1, 50.1), "time, CPU"},
		{"memory faster", point(10, 1, 4), point(100, 12.6, 4), "memory"},
		{"by the square", point(100, 1, 1), point(1000, 1, 100), "time, CPU"},
		{"four times the connections", point(1000, 1, 100), point(4000, 1, 501), "time, CPU"},
		{"one round was disturbed", point(10, 1, 4), point(100, 1, 400, 39, 800), ""},
		{"the round before was", point(10, 1, 400, 4), point(100, 1, 60, 60), "time, CPU"},
	} {
		if got := strings.Join(verdict([]growthPoint{c.before, c.after}, 1), ", "); got != c.want {
			t.Errorf("%s: grows faster: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestMarginal: what a unit more costs may not grow, however large the fixed cost is.
func TestMarginal(t *testing.T) {
	// square is a load whose cost has a fixed part and a quadratic one.
	square := func(n int, fixed, square float64) growthPoint {
		return point(n, 1, fixed+square*float64(n)*float64(n))
	}
	for _, c := range []struct {
		name   string
		points [3]growthPoint
		want   string
	}{
		{"fixed", [3]growthPoint{point(10, 12, 4), point(100, 12, 4), point(1000, 12, 4)}, ""},
		{"as the work", [3]growthPoint{point(10, 10, 4), point(100, 100, 40), point(1000, 1000, 400)}, ""},
		{"fixed and as the work", [3]growthPoint{point(10, 12, 1.1), point(100, 13, 2), point(1000, 23, 11)}, ""},
		{"by half as much again", [3]growthPoint{point(10, 1, 1), point(100, 1, 10), point(1000, 1, 124)}, ""},
		{"with a tenth of noise", [3]growthPoint{point(10, 12, 4.4), point(100, 12, 4), point(1000, 13, 9.9)}, ""},
		{"by the square", [3]growthPoint{square(10, 0, 1), square(100, 0, 1), square(1000, 0, 1)}, "time, CPU"},
		{"by the square, behind a fixed cost", [3]growthPoint{square(10, 100, 1e-3), square(100, 100, 1e-3), square(1000, 100, 1e-3)}, "time, CPU"},
		{"memory by the square, behind a fixed cost", [3]growthPoint{point(10, 10.001, 4), point(100, 10.1, 4), point(1000, 60, 4)}, "memory"},
		{"memory until garbage is collected", [3]growthPoint{point(10, 11.7, 4), point(100, 8.5, 4), point(1000, 24.3, 4)}, ""},
		{"four times the connections", [3]growthPoint{point(100, 1, 20), point(1000, 1, 100), point(4000, 1, 499)}, ""},
		{"the same, steeper", [3]growthPoint{point(100, 1, 80), point(1000, 1, 100), point(4000, 1, 499)}, "time, CPU"},
	} {
		points := c.points[:]
		if got := strings.Join(verdict(points, 2), ", "); got != c.want {
			t.Errorf("%s: grows faster: %q, want %q", c.name, got, c.want)
		}
		hidden := strings.Contains(c.name, "behind") || strings.Contains(c.name, "steeper")
		if whole := verdict(points[1:], 1); hidden && len(whole) > 0 {
			t.Errorf("%s: the rule for the whole cost sees it: %v", c.name, whole)
		}
	}
}

// TestGrowthMarkdown: a row that grows, one that theirs cannot do, and one where it fails.
func TestGrowthMarkdown(t *testing.T) {
	failed := point(1000, 2, 90)
	failed.wrong, failed.sent = 3, 7
	g := growth{name: "fields", unit: "field"}
	table, faster := growthMarkdown(g, [2][]growthPoint{
		{point(1, 12, 1), point(10, 12, 2), point(1000, 13, 400)},
		{point(1, 2, 10), {n: 10, err: errors.New("no room")}, failed},
	})
	want := `| fields | ours, ms | CPU µs | CPU µs/field | peak MB | grows faster than its work | amavisd-milter, ms     | CPU µs | CPU µs/field | peak MB |
|--------|---------:|-------:|-------------:|--------:|---------------------------:|-----------------------:|-------:|-------------:|--------:|
| 1      | 1        | 100    | 100          | 12      | -                          | 10                     | 1,000  | 1,000        | 2       |
| 10     | 2        | 200    | 20           | 12      | no                         | fails: no room         | -      | -            | -       |
| 1,000  | 400      | 40,000 | 40           | 13      | YES: time, CPU             | fails: 3 of 7 messages | -      | -            | -       |
`
	if table != want {
		t.Errorf("the table is\n%s\nwant\n%s", table, want)
	}
	if got, want := strings.Join(faster, "; "), "fields, 10 to 1,000: time, CPU"; got != want {
		t.Errorf("what grows is %q, want %q", got, want)
	}
	table, _ = growthMarkdown(growth{name: "size", unit: "kB"}, [2][]growthPoint{{point(10_000, 1, 10)}, {point(10_000, 1, 10)}})
	if row := strings.Split(table, "\n")[2]; !strings.HasPrefix(row, "| 10 ") || !strings.Contains(row, "| 100 ") {
		t.Errorf("a row in kB is %q", row)
	}
}

// TestGrowthLoads: each load has as many of what it is about as it says.
func TestGrowthLoads(t *testing.T) {
	count := func(l growthLoad, command byte) int {
		n := 0
		for _, b := range l.mail.dialogue(&Postfix, terms{}, &sharedBody{}) {
			for _, piece := range b.pieces {
				for len(piece) > 0 {
					data, size, err := frame(piece)
					if err != nil || size == 0 {
						t.Fatalf("no frame: %d bytes, %v", len(piece), err)
					}
					if data[0] == command {
						n++
					}
					piece = piece[size:]
				}
			}
		}
		return n
	}
	for _, g := range growths {
		for _, n := range g.sizes[:3] {
			l := g.load(n)
			got := map[string]int{
				"field": count(l, cmdHeader), "recipient": count(l, cmdRcpt), "kB": len(l.mail.Body), "connection": l.conns,
			}[g.unit]
			if got > n || got < n*9/10 {
				t.Errorf("%s: %d of %d", g.name, got, n)
			}
			if l.edits != nil && len(l.edits.lines) < n {
				t.Errorf("%s: %d edits for %d", g.name, len(l.edits.lines), n)
			}
			if l.atOnce < 1 || l.atOnce > l.conns {
				t.Errorf("%s: %d at once on %d connections", g.name, l.atOnce, l.conns)
			}
		}
	}
}

// TestEdits: the answer to many edits is right if it is those, in their order, and perhaps
// a mark.
func TestEdits(t *testing.T) {
	recipients := changeRecipients(mailOf(1, 2, 100))
	fields := changeFields(mailOf(2, 1, 100))
	if want := "delrcpt=<user@example.org>\r\ndelrcpt=<user1@example.org>\r\naddrcpt=<other0@example.org>\r\n"; !bytes.Contains(recipients.reply(), []byte(want)) {
		t.Errorf("the reply is %q", recipients.reply())
	}
	if want := "chgheader=1 X-Growth-0 changed,%200\r\nchgheader=1 X-Growth-1 changed,%201\r\n"; !bytes.Contains(fields.reply(), []byte(want)) {
		t.Errorf("the reply is %q", fields.reply())
	}
	const (
		del0, del1 = "-<user@example.org>\x00", "-<user1@example.org>\x00"
		add0, add1 = "+<other0@example.org>\x00", "+<other1@example.org>\x00"
		chg0, chg1 = "m\x00\x00\x00\x01X-Growth-0\x00changed, 0\x00", "m\x00\x00\x00\x01X-Growth-1\x00changed, 1\x00"
		marked     = "i\x00\x00\x00\x00X-Virus-Scanned\x00x\x00"
		unmarked   = "m\x00\x00\x00\x01X-Amavis-Milter-Unscanned\x00\x00"
		foreign    = "i\x00\x00\x00\x00X-Other\x00x\x00"
	)
	spaced := func(s string) string { return strings.Replace(s, "\x00changed", "\x00 changed", 1) }
	for _, c := range []struct {
		name   string
		edits  *edits
		terms  terms
		frames []string
		right  bool
	}{
		{"all", recipients, terms{}, []string{del0, del1, add0, add1, "c"}, true},
		{"all and a mark", recipients, terms{}, []string{del0, del1, add0, add1, marked, "c"}, true},
		{"one is missing", recipients, terms{}, []string{del0, del1, add0, "c"}, false},
		{"none", recipients, terms{}, []string{"c"}, false},
		{"one too many", recipients, terms{}, []string{del0, del1, add0, add1, add1, "c"}, false},
		{"one twice, one not", recipients, terms{}, []string{del0, del0, add0, add1, "c"}, false},
		{"another recipient", recipients, terms{}, []string{del0, del1, add0, "+<x@example.org>\x00", "c"}, false},
		{"another field", recipients, terms{}, []string{del0, del1, add0, add1, foreign, "c"}, false},
		{"a verdict", recipients, terms{}, []string{del0, del1, add0, add1, "t"}, false},
		{"progress", recipients, terms{}, []string{"p", del0, del1, add0, add1, "p", "c"}, true},
		{"fields", fields, terms{}, []string{chg0, chg1, "c"}, true},
		{"fields, one mark that goes", fields, terms{}, []string{unmarked, chg0, chg1, "c"}, true},
		{"fields, leading spaces", fields, terms{protocol: hdrLeadSpc}, []string{spaced(chg0), spaced(chg1), "c"}, true},
		{"fields, no leading spaces", fields, terms{protocol: hdrLeadSpc}, []string{chg0, chg1, "c"}, false},
		{"one field more", fields, terms{}, []string{chg0, chg1, chg1, "c"}, false},
		{"another value", fields, terms{}, []string{chg0, strings.Replace(chg1, ", 1", ", 0", 1), "c"}, false},
		{"the second of its name", fields, terms{}, []string{chg0, strings.Replace(chg1, "\x01", "\x02", 1), "c"}, false},
		{"what is usual", nil, terms{}, []string{edit1, edit2, "c"}, true},
		{"what is usual, one missing", nil, terms{}, []string{edit1, "c"}, false},
	} {
		var a answer
		wrong := ""
		for _, frame := range c.frames {
			if wrong == "" {
				wrong = c.edits.take(&a, []byte(frame), c.terms)
			}
		}
		if (wrong == "") != c.right {
			t.Errorf("%s: wrong: %q", c.name, wrong)
		}
	}
}
