package e2e

import (
	"regexp"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// scannerOf finds in a summary line which scanner took the message.
var scannerOf = regexp.MustCompile(`^\w+: verdict=.* scanner=(\S+)`)

// shares counts the messages that each scanner took, by the summary lines between
// two marks.
func shares(p *lab.Pipeline, from, to int) map[string]int {
	count := map[string]int{}
	lines := p.Syslog.Since(0, "")
	for _, line := range lines[from:min(to, len(lines))] {
		if m := scannerOf.FindStringSubmatch(line.Text); m != nil && line.Ident == "amavis-milter" {
			count[m[1]]++
		}
	}
	return count
}

// TestTwoScanners: of two amavisd one is killed in mid-traffic and brought back.
// Nobody is told to come again, and the load returns to it.
func TestTwoScanners(t *testing.T) {
	needLab(t)
	p := withPipeline(t, startingWith(shared.mta)[0], withoutSpamChecks)
	second, err := p.Amavisd.Second()
	t.Cleanup(func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	began := p.Syslog.Mark()
	l := startLoad(t, p, failOverLoad, "-S", "local:"+lab.SecondSocket, "--log-target", "syslog")
	l.at(failOverLoad / 3)
	killed := p.Syslog.Mark()
	second.Kill()
	l.at(failOverLoad * 2 / 3)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	back := p.Syslog.Mark()
	l.finish(t)

	const first, other = "unix:" + lab.AmavisdSocket, "unix:" + lab.SecondSocket
	for _, part := range []struct {
		name     string
		from, to int
		both     bool
	}{
		{"with both", began, killed, true},
		{"with one", killed, back, false},
		{"with both again", back, p.Syslog.Mark(), true},
	} {
		count := shares(p, part.from, part.to)
		t.Logf("%s: %v", part.name, count)
		least := (count[first] + count[other]) / 4
		if part.both && (count[other] < least || count[first] < least || least == 0) {
			t.Errorf("%s: a scanner had less than a quarter: %v", part.name, count)
		}
		// What it had answered may be logged after the mark, by each milter.
		if !part.both && count[other] > 2*len(lab.MTAs()) {
			t.Errorf("%s: the dead scanner has answered: %v", part.name, count)
		}
	}
	if t.Failed() {
		for _, line := range p.Syslog.Since(began, "amavis-milter") {
			t.Log(line.Text)
		}
	}
}
