package config

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const manualPage = "../../docs/amavis-milter.8"

// manualOptions returns the paragraphs of the manual page that describe options, by
// long name: the letters in order, and the text with all markup taken off.
func manualOptions(t *testing.T) map[string]struct{ letters, text string } {
	t.Helper()
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]struct{ letters, text string }{}
	long, letter := regexp.MustCompile(`Fl Fl (\S+)`), regexp.MustCompile(`Fl (\S)(?: |$)`)
	_, options, _ := strings.Cut(string(page), "\n.Sh OPTIONS\n")
	options, _, _ = strings.Cut(options, "\n.Sh ")
	for _, item := range strings.Split(options, "\n.It ")[1:] {
		head, body, _ := strings.Cut(item, "\n")
		name := long.FindStringSubmatch(head)
		if name == nil {
			t.Errorf("no long name: %s", head)
			continue
		}
		var letters string
		for _, m := range letter.FindAllStringSubmatch(head, -1) {
			letters += m[1]
		}
		if _, twice := found[name[1]]; twice {
			t.Errorf("--%s is described twice", name[1])
		}
		body = regexp.MustCompile(`(?m)^\.(El|Bl|Ss)\b.*$`).ReplaceAllString(body, "")
		body = regexp.MustCompile(`(?m)^\.[A-Z][a-z] `).ReplaceAllString(body, "")
		found[name[1]] = struct{ letters, text string }{letters, strings.Join(strings.Fields(body), " ") + " "}
	}
	return found
}

// TestManualPage compares the manual page with the options, both ways.
func TestManualPage(t *testing.T) {
	pages, def := manualOptions(t), defaults()
	for _, o := range options {
		page, ok := pages[o.name]
		if !ok {
			t.Errorf("--%s is not in the manual page", o.name)
			continue
		}
		delete(pages, o.name)
		if want := amavisMilter.letters[o.name]; page.letters != want {
			t.Errorf("--%s has the letters %q in the manual page, want %q", o.name, page.letters, want)
		}
		if o.def == nil {
			if strings.Contains(page.text, "default is") {
				t.Errorf("--%s has a default in the manual page only", o.name)
			}
			continue
		}
		form := regexp.MustCompile(`default is ` + regexp.QuoteMeta(o.def(def)) + `( \(seconds\))?[ .,:]`)
		if !form.MatchString(page.text) {
			t.Errorf("--%s: the manual page does not say \"default is %s\": %s", o.name, o.def(def), page.text)
		}
	}
	for name := range pages {
		t.Errorf("--%s is in the manual page only", name)
	}
}

// TestManualSynopsis: every option stands in the synopsis, by its first letter if it
// has one.
func TestManualSynopsis(t *testing.T) {
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	_, synopsis, _ := strings.Cut(string(page), "\n.Sh SYNOPSIS\n")
	synopsis, _, _ = strings.Cut(synopsis, "\n.Sh ")
	switches := regexp.MustCompile(`\.Op Fl ([A-Za-z]+)\n`).FindStringSubmatch(synopsis)
	if switches == nil {
		t.Fatal("no line of switches")
	}
	for _, o := range options {
		letters := amavisMilter.letters[o.name]
		switch {
		case letters == "" && strings.Contains(synopsis, "Fl Fl "+o.name):
		case letters != "" && o.value == "" && strings.Contains(switches[1], letters[:1]):
		case letters != "" && o.value != "" && strings.Contains(synopsis, ".Op Fl "+letters[:1]+" Ar "):
		default:
			t.Errorf("--%s is not in the synopsis", o.name)
		}
	}
}

func TestManualPageIsWellFormed(t *testing.T) {
	mandoc, err := exec.LookPath("mandoc")
	if err != nil {
		t.Skip("mandoc is not installed (Debian package mandoc): the manual page is not checked")
	}
	if out, err := exec.Command(mandoc, "-T", "lint", "-W", "warning", manualPage).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestManualLimits: bounds that the manual page names are those of the code.
func TestManualLimits(t *testing.T) {
	pages := manualOptions(t)
	for name, want := range map[string]string{
		"amavisd-socket": "up to 64 times", "backlog": "at most 65535", "max-conns": "at most 100000", "socket-mode": "from 0001 to 0777",
		"x-header": "at most 998 bytes", "deadline": "at least 1 second", "timeout": "at least 1 second",
	} {
		if !strings.Contains(pages[name].text, want) {
			t.Errorf("--%s: %q is not in the manual page", name, want)
		}
	}
	if maxScanners != 64 || maxBacklog != 65535 || maxConns != 100000 || maxHeader != 998 || maxSocketPath != 107 {
		t.Error("a bound has changed: change the manual page and this test")
	}
}

func TestUsageText(t *testing.T) {
	text := parse(t, "-h").UsageText()
	for i, line := range strings.Split(text, "\n") {
		if len(line) > 80 || strings.TrimRight(line, " \t") != line || strings.Contains(line, "\t") {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
	words := strings.Join(strings.Fields(text), " ")
	for _, o := range options {
		entry := "--" + o.name
		if o.value != "" {
			entry += " " + o.value
		}
		letters := amavisMilter.letters[o.name]
		for i := len(letters) - 1; i >= 0; i-- {
			entry = "-" + letters[i:i+1] + ", " + entry
		}
		if strings.Count(words, " "+entry+" "+strings.Join(strings.Fields(o.help), " ")) != 1 {
			t.Errorf("the usage text has not this once: %s", entry)
		}
		if o.def != nil && !strings.Contains(words, o.help+" (default "+o.def(defaults())+")") {
			t.Errorf("--%s: no default", o.name)
		}
	}
	for _, g := range groups {
		if strings.Count(text, "\n"+string(g)+":\n") != 1 {
			t.Errorf("no heading %s", g)
		}
	}
	if _, examples, _ := strings.Cut(text, "Examples:\n"); strings.Count(examples, "  amavis-milter ") != 2 {
		t.Error("not two examples")
	}
}

// TestExamplesAreValid parses the command lines of usage text and manual page.
func TestExamplesAreValid(t *testing.T) {
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	text := parse(t, "-h").UsageText() + strings.ReplaceAll(string(page), `\e`, `\`)
	text = strings.ReplaceAll(text, "\\\n", " ")
	examples := regexp.MustCompile(`(?m)^ *(?:su - amavis -c "/usr/sbin/)?amavis-milter (-[^"\n]*)"?$`).FindAllStringSubmatch(text, -1)
	if len(examples) < 6 {
		t.Fatalf("%d examples only", len(examples))
	}
	for _, e := range examples {
		parse(t, strings.Fields(e[1])...)
	}
}

func TestVersion(t *testing.T) {
	defer func(old string) { version = old }(version)
	version = "1.2.3"
	if got := parse(t, "--version").VersionText(); !regexp.MustCompile(`^amavis-milter 1\.2\.3 \(go1\.\S+.*\)\n$`).MatchString(got) {
		t.Errorf("got %q", got)
	}
	version = ""
	if Version() == "" {
		t.Error("no version without one from the linker")
	}
}

// TestLetters: each letter stands for one option, and each option of the table is
// there.
func TestLetters(t *testing.T) {
	seen := map[string]string{}
	for name, letters := range amavisMilter.letters {
		if optionNamed(name) == nil {
			t.Errorf("there is no --%s", name)
		}
		for _, letter := range strings.Split(letters, "") {
			if other, twice := seen[letter]; twice {
				t.Errorf("-%s is --%s and --%s", letter, name, other)
			}
			seen[letter] = name
		}
	}
}
