package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestMigratingTable: the tables of docs/MIGRATING.md that begin with an id have the
// rows of the differential test, word for word and in their order.
func TestMigratingTable(t *testing.T) {
	root := module
	if root == "" {
		root = "../.."
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/MIGRATING.md"))
	if err != nil {
		t.Fatal(err)
	}
	got := regexp.MustCompile(`(?m)^\| [a-z0-9-]+ \|[^|\n]*\|[^|\n]*\|[^|\n]*\|$`).FindAllString(string(text), -1)
	ids := map[string]bool{}
	for i, row := range diffRows {
		if ids[row.id] || len(row.shows) == 0 || strings.Contains(row.theirs+row.ours+row.why, "|") {
			t.Errorf("row %q is there twice, shows nothing, or has a | in its text", row.id)
		}
		ids[row.id] = true
		want := fmt.Sprintf("| %s | %s | %s | %s |", row.id, row.theirs, row.ours, row.why)
		switch {
		case i >= len(got):
			t.Errorf("docs/MIGRATING.md lacks the line\n%s", want)
		case got[i] != want:
			t.Errorf("docs/MIGRATING.md, difference %d, is\n%s\nwant\n%s", i+1, got[i], want)
		}
	}
	if len(got) > len(diffRows) {
		t.Errorf("docs/MIGRATING.md has lines that no difference explains:\n%s", strings.Join(got[len(diffRows):], "\n"))
	}
}

// TestDiffNormalise: what is taken for the same, and nothing else.
func TestDiffNormalise(t *testing.T) {
	f := diffFacts{
		"queue id":            {"6ANHEtH2000075"},
		"reply to the data":   {"250 2.0.0 6ANHEtH2000075 Message accepted", "250 2.0.0 6ANHEtH2000076 Message accepted"},
		"request client_port": {"4711"},
		"request tempdir":     {"/x/af6ANHEtH2000075", "/x/afA1b2C3d4E5", "/x/afA1b2C3d4E"},
		"request helo_name":   {""},
		"log_id of amavisd":   {"01234-05", "6ANHEtH2000075-01", "01234-05-2"},
		"delivered header":    {"Date: Mon, 2 Jan 2006 15:04:05 +0000 (UTC)", "X: Mon 2 Jan 2006"},
		"delivered to":        {"<b@c>", "<a@c>"},
	}
	f.normalise()
	want := diffFacts{
		"reply to the data":   {"250 2.0.0 QUEUEID Message accepted", "250 2.0.0 6ANHEtH2000076 Message accepted"},
		"request client_port": {"PORT"},
		"request tempdir":     {"/x/afQUEUEID", "/x/afRANDOM", "/x/afA1b2C3d4E"},
		"request helo_name":   {"(empty)"},
		"log_id of amavisd":   {"AMAVISD-NN", "QUEUEID-NN", "01234-05-2"},
		"delivered header":    {"Date: DATE (UTC)", "X: Mon 2 Jan 2006"},
		"delivered to":        {"<a@c>", "<b@c>"},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got %q\nwant %q", f, want)
	}
}

// TestDiffCompare: what the comparison finds, and in which form.
func TestDiffCompare(t *testing.T) {
	for _, c := range []struct {
		name         string
		theirs, ours []string
		want         []diffDifference
	}{
		{"nothing", nil, nil, nil},
		{"the same", []string{"a", "b"}, []string{"a", "b"}, nil},
		{"another line", []string{"a", "b", "c"}, []string{"a", "x", "c"}, []diffDifference{{"", "b", "x"}}},
		{"pairs", []string{"a", "b"}, []string{"x", "y"}, []diffDifference{{"", "a", "x"}, {"", "b", "y"}}},
		{"as a whole", []string{"a", "b"}, []string{"x"}, []diffDifference{{"", "a\nb", "x"}}},
		{"more", []string{"a", "c"}, []string{"a", "b", "c", "d"}, []diffDifference{{"", "", "b"}, {"", "", "d"}}},
		{"less", []string{"a", "b"}, nil, []diffDifference{{"", "a\nb", ""}}},
		{"another order", []string{"a", "b"}, []string{"b", "a"}, []diffDifference{{"", "a", ""}, {"", "", "a"}}},
	} {
		if got := diffCompareLines(c.theirs, c.ours); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
