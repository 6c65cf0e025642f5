package bench

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestMedian: of odd and even numbers of values, whatever their order.
func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s      Sample
		median float64
		text   string
	}{
		{Sample{3}, 3, "3"},
		{Sample{3, 1, 2}, 2, "2 (1–3)"},
		{Sample{4, 1, 3, 2}, 2.5, "2.50 (1–4)"},
		{Sample{1500, 1500}, 1500, "1,500"},
	} {
		if got := c.s.Median(); got != c.median || c.s.String() != c.text {
			t.Errorf("%v: %v, %q; want %v, %q", []float64(c.s), got, c.s, c.median, c.text)
		}
	}
	if none := (Sample{}); !math.IsNaN(none.Median()) || none.String() != "-" {
		t.Errorf("of nothing: %v, %q", none.Median(), none)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for f, want := range map[float64]string{
		0: "0", 30: "30", 999: "999", 0.0123: "0.012", 0.123: "0.12", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234: "1,234",
		1234567.8: "1,234,568", -1234: "-1,234", -123456: "-123,456", 999.96: "1,000", math.Inf(1): "-",
	} {
		if got := number(f); got != want {
			t.Errorf("%v: %q, want %q", f, got, want)
		}
	}
}

func TestTimeQuantile(t *testing.T) {
	t.Parallel()
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(99-i))
	}
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 50, 0.99: 99, 1: 99} {
		if got := timeQuantile(times, q); got != want {
			t.Errorf("%v: %d, want %d", q, got, want)
		}
	}
	if got := timeQuantile(nil, 0.5); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
}

// TestGoals: each kind of goal below, at and above what it asks for.
func TestGoals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goal         goal
		ours, theirs Sample
		wrong        int
		met          string
	}{
		{times(9), Sample{899}, Sample{100}, 0, "NOT met"},
		{times(9), Sample{900}, Sample{100}, 0, "met"},
		{times(9), Sample{1, 950, 960}, Sample{100, 100, 1}, 0, "met"},
		{part(0.5), Sample{50}, Sample{100}, 0, "met"},
		{part(0.5), Sample{51}, Sample{100}, 0, "NOT met"},
		{partWithoutErrors(0.5), Sample{50}, Sample{100}, 0, "met"},
		{partWithoutErrors(0.5), Sample{50}, Sample{100}, 1, "NOT met"},
		{partWithoutErrors(0.5), Sample{51}, Sample{100}, 0, "NOT met"},
		{most(20, "MB"), Sample{20}, Sample{1}, 0, "met"},
		{most(20, "MB"), Sample{20.1}, Sample{100}, 0, "NOT met"},
		{most(20, "MB"), Sample{17, 18, 76}, Sample{100}, 0, "NOT met"},
		{times(9), Sample{9000}, Sample{500}, 1, "NOT met"},
		{exactly(1), Sample{1, 1}, nil, 0, "met"},
		{exactly(1), Sample{1, 1, 2}, nil, 0, "NOT met"},
		{exactly(1), nil, nil, 0, "NOT met"},
		{times(9), nil, nil, 0, "NOT met"},
		{part(9), nil, nil, 0, "NOT met"},
		{goal{}, Sample{1}, Sample{1}, 0, ""},
	} {
		r := Row{Values: [2]Sample{c.ours, c.theirs}, Wrong: [2]int{c.wrong, 0}, goal: c.goal}
		if got := r.Met(); got != c.met {
			t.Errorf("%s: ours %v, theirs %v, %d wrong: %q, want %q", c.goal.text, c.ours, c.theirs, c.wrong, got, c.met)
		}
	}
}

// TestMarkdown: a table as it is printed.
func TestMarkdown(t *testing.T) {
	t.Parallel()
	got := (&Report{
		Goals: Table{
			{Name: "rate", Unit: "msg/s", Values: [2]Sample{{900, 1000, 1100}, {90, 100, 100}}, goal: times(11)},
			{Name: "calls", Values: [2]Sample{{30}, {900}}, Sent: [2]int{10, 10}, Wrong: [2]int{0, 3}, goal: most(34, "")},
			{Name: "only ours", Values: [2]Sample{{30}}},
		},
		Others: Table{{Name: "other", Values: [2]Sample{{2, 4}, {1, 1}}}},
		Notes:  []string{"a note"},
	}).Markdown("make bench", []string{"a fact"})
	for _, want := range []string{
		"Made by `make bench`.\n\n- a fact\n",
		"|             | ours              | amavisd-milter    | ratio             | goal  |         |\n" +
			"|-------------|------------------:|------------------:|------------------:|------:|--------:|\n" +
			"| rate, msg/s | 1,000 (900–1,100) | 100 (90–100)      | 10x (10–11)     | ≥ 11x | NOT met |\n" +
			"| calls       | 30                | 900; 3 of 10 WRONG| 0.033x            | ≤ 34  | met     |\n",
		"| other | 3 (2–4) | 1              | 3x (2–4) |\n",
		"- a note\n",
	} {
		squeezed := func(s string) string {
			return strings.ReplaceAll(strings.ReplaceAll(s, " ", ""), "-", "")
		}
		if !strings.Contains(squeezed(got), squeezed(want)) {
			t.Errorf("it lacks\n%s\nit is\n%s", want, got)
		}
	}
	var widths []int
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "|") && len(widths) < 5 {
			widths = append(widths, len([]rune(line)))
		}
	}
	for _, w := range widths {
		if w != widths[0] {
			t.Errorf("the lines of the table have widths %v", widths)
		}
	}
}

// TestUnmet: the rows that are told at the end.
func TestUnmet(t *testing.T) {
	t.Parallel()
	r := Report{Goals: Table{
		{Name: "a", Values: [2]Sample{{30}, {1}}, goal: most(34, "")},
		{Name: "b", Values: [2]Sample{{35}, {1}}, goal: most(34, "")},
		{Name: "c", Values: [2]Sample{{35}, {1}}},
	}}
	if got := strings.Join(r.Unmet(), ","); got != "b" {
		t.Errorf("%q", got)
	}
}
