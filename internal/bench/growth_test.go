package bench

import (
	"bytes"
	"errors"
	"fmt"
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
		if got := strings.Join(verdict(c.before, c.after), ", "); got != c.want {
			t.Errorf("%s: grows faster: %q, want %q", c.name, got, c.want)
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

// TestEdits: the answer to many edits is right if it has all of them, and perhaps a mark.
func TestEdits(t *testing.T) {
	e := changeRecipients(mailOf(1, 2, 100))
	if want := "delrcpt=<user@example.org>\r\ndelrcpt=<user1@example.org>\r\naddrcpt=<other0@example.org>\r\n"; !bytes.Contains(e.reply(), []byte(want)) {
		t.Errorf("the reply is %q", e.reply())
	}
	header := func(name string) []byte { return append([]byte{ansInsHeader, 0, 0, 0, 0}, cstrings(name, "x")...) }
	add, del, done := append([]byte{ansAddRcpt}, cstrings("<o>")...), append([]byte{ansDelRcpt}, cstrings("<u>")...), []byte{ansContinue}
	for _, c := range []struct {
		name   string
		frames [][]byte
		right  bool
	}{
		{"all", [][]byte{del, del, add, add, done}, true},
		{"all and a mark", [][]byte{del, del, add, add, header(mark), done}, true},
		{"one is missing", [][]byte{del, del, add, done}, false},
		{"none", [][]byte{done}, false},
		{"two too many", [][]byte{del, del, del, add, add, add, done}, false},
		{"another field", [][]byte{del, del, add, add, header("X-Other"), done}, false},
		{"a verdict", [][]byte{del, del, add, add, {ansTempfail}}, false},
	} {
		var a answer
		wrong := ""
		for _, frame := range c.frames {
			if wrong == "" {
				wrong = e.take(&a, frame, terms{})
			}
		}
		if (wrong == "") != c.right {
			t.Errorf("%s: wrong: %q", c.name, wrong)
		}
	}
	fields := changeFields(mailOf(3, 1, 100))
	if got := fmt.Sprint(fields.frames); got != fmt.Sprintf("map[%d:3]", ansChgHeader) || !strings.Contains(fields.lines[2], "chgheader=1 X-Growth-2 changed,%202") {
		t.Errorf("edits of fields: %s, %q", got, fields.lines)
	}
	var none *edits
	if wrong := none.take(&answer{told: len(Told)}, done, terms{}); wrong != "" {
		t.Errorf("without edits of its own: %s", wrong)
	}
}
