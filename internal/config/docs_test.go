package config

import (
	"maps"
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
	pages, def := manualOptions(t), amavisMilter.defaults()
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
		value := o.shownDefault(def)
		if value == "" {
			if strings.Contains(page.text, "default is") {
				t.Errorf("--%s has a default in the manual page only", o.name)
			}
			continue
		}
		form := regexp.MustCompile(`default is ` + regexp.QuoteMeta(value) + `( \(seconds\))?[ .,:]`)
		if !form.MatchString(page.text) {
			t.Errorf("--%s: the manual page does not say \"default is %s\": %s", o.name, value, page.text)
		}
	}
	for name := range pages {
		t.Errorf("--%s is in the manual page only", name)
	}
}

// TestManualOldName: the section about the name amavisd-milter has its letters, each
// with what it stands for and its default, and no others.
func TestManualOldName(t *testing.T) {
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n.Sh THE NAME AMAVISD-MILTER\n")
	section, _, _ = strings.Cut(section, "\n.Sh ")
	list, _, _ := strings.Cut(section, "\n.El\n")
	def, found := amavisdMilter.defaults(), map[string]string{}
	for _, item := range strings.Split(list, "\n.It ")[1:] {
		fields := regexp.MustCompile(`^Fl (\w)(?: Ar \w+)?\n\.Fl Fl ([a-z-]+) [;.]`).FindStringSubmatch(item)
		if fields == nil {
			t.Errorf("not understood: %s", item)
			continue
		}
		o := optionNamed(fields[2])
		if o == nil || found[o.name] != "" {
			t.Errorf("there is no --%s, or it is there twice", fields[2])
			continue
		}
		found[o.name] = fields[1]
		if hasValue := strings.Contains(item, " Ar "); hasValue != (o.value != "") {
			t.Errorf("-%s has a value: %v", fields[1], hasValue)
		}
		value := o.shownDefault(def)
		if form := regexp.MustCompile(`the default is ` + regexp.QuoteMeta(value) + `(\.$|,)`); value != "" && !form.MatchString(item) {
			t.Errorf("-%s: not with the default %s: %s", fields[1], value, item)
		}
	}
	if !maps.Equal(found, amavisdMilter.letters) {
		t.Errorf("letters: got %v\nwant %v", found, amavisdMilter.letters)
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
	for _, dl := range dialects {
		_, synopsis, _ := strings.Cut(synopsis, ".Nm "+dl.program+"\n.Op")
		if dl == amavisMilter {
			synopsis, _, _ = strings.Cut(synopsis, "\n.Nm amavisd-milter\n")
		}
		checkSynopsis(t, dl, ".Op"+synopsis+"\n")
	}
}

func checkSynopsis(t *testing.T, dl *dialect, synopsis string) {
	switches := regexp.MustCompile(`\.Op Fl ([A-Za-z]+)\n`).FindStringSubmatch(synopsis)
	if switches == nil {
		t.Fatalf("%s: no line of switches: %s", dl.program, synopsis)
	}
	for _, o := range options {
		letters := dl.letters[o.name]
		switch {
		case letters == "" && dl == amavisdMilter: // "long options"
		case letters == "" && strings.Contains(synopsis, "Fl Fl "+o.name):
		case letters != "" && o.value == "" && strings.Contains(switches[1], letters[:1]):
		case letters != "" && o.value != "" && strings.Contains(synopsis, ".Op Fl "+letters[:1]+" Ar "):
		default:
			t.Errorf("--%s is not in the synopsis of %s", o.name, dl.program)
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
		"policy-bank": "up to 1000 times", "skip": "up to 1000 times", "debug-level": "from 1 to 9",
	} {
		if !strings.Contains(pages[name].text, want) {
			t.Errorf("--%s: %q is not in the manual page", name, want)
		}
	}
	if maxScanners != 64 || maxBacklog != 65535 || maxConns != 100000 || maxHeader != 998 || maxSocketPath != 107 || maxRules != 1000 || maxDebugLevel != 9 {
		t.Error("a bound has changed: change the manual page and this test")
	}
}

func TestUsageText(t *testing.T) {
	for _, dl := range dialects {
		t.Run(dl.program, func(t *testing.T) { checkUsageText(t, dl) })
	}
}

func checkUsageText(t *testing.T, dl *dialect) {
	text, def := parseAs(t, dl.program, "-h").UsageText(), dl.defaults()
	for i, line := range strings.Split(text, "\n") {
		if len(line) > 80 || strings.TrimRight(line, " \t") != line || strings.Contains(line, "\t") {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
	if first := "Usage: " + dl.program + " [OPTION]...\n"; !strings.HasPrefix(text, first) {
		t.Errorf("it does not begin with %q", first)
	}
	words := strings.Join(strings.Fields(text), " ")
	for _, o := range options {
		entry := "--" + o.name
		if o.value != "" {
			entry += " " + o.value
		}
		letters := dl.letters[o.name]
		for i := len(letters) - 1; i >= 0; i-- {
			entry = "-" + letters[i:i+1] + ", " + entry
		}
		if strings.Count(words, " "+entry+" "+strings.Join(strings.Fields(o.help), " ")) != 1 {
			t.Errorf("the usage text has not this once: %s", entry)
		}
		if value := o.shownDefault(def); value != "" && !strings.Contains(words, o.help+" (default "+value+")") {
			t.Errorf("--%s: no default", o.name)
		}
	}
	for _, g := range groups {
		if strings.Count(text, "\n"+string(g)+":\n") != 1 {
			t.Errorf("no heading %s", g)
		}
	}
	if _, examples, _ := strings.Cut(text, "Examples:\n"); strings.Count(examples, "  "+dl.program+" ") != 2 {
		t.Error("not two examples")
	}
}

// TestExamplesAreValid parses the command lines of usage text and manual page.
func TestExamplesAreValid(t *testing.T) {
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), `\e`, `\`)
	for _, dl := range dialects {
		text += parseAs(t, dl.program, "-h").UsageText()
	}
	text = strings.ReplaceAll(text, "\\\n", " ")
	examples := regexp.MustCompile(`(?m)^ *(?:su - amavis -c "/usr/sbin/)?(amavisd?-milter) (-[^"\n]*)"?$`).FindAllStringSubmatch(text, -1)
	count := map[string]int{}
	for _, e := range examples {
		count[e[1]]++
		var args []string
		for _, arg := range strings.Fields(e[2]) {
			args = append(args, strings.Trim(arg, "'"))
		}
		parseAs(t, e[1], args...)
	}
	if count["amavis-milter"] < 6 || count["amavisd-milter"] < 3 {
		t.Errorf("too few examples: %v", count)
	}
}

func TestVersion(t *testing.T) {
	defer func(old string) { version = old }(version)
	version = "1.2.3"
	for _, dl := range dialects {
		if got := parseAs(t, dl.program, "--version").VersionText(); !regexp.MustCompile(`^` + dl.program + ` 1\.2\.3 \(go1\.\S+.*\)\n$`).MatchString(got) {
			t.Errorf("got %q", got)
		}
	}
	version = ""
	if Version() == "" {
		t.Error("no version without one from the linker")
	}
}

// TestLetters: each letter stands for one option, and each option of the table is
// there.
func TestLetters(t *testing.T) {
	for _, dl := range dialects {
		seen := map[string]string{}
		for name, letters := range dl.letters {
			if optionNamed(name) == nil {
				t.Errorf("%s: there is no --%s", dl.program, name)
			}
			for _, letter := range strings.Split(letters, "") {
				if other, twice := seen[letter]; twice {
					t.Errorf("%s: -%s is --%s and --%s", dl.program, letter, name, other)
				}
				seen[letter] = name
			}
		}
	}
}
