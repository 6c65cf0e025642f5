package bench

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

// Markdown is the report as a document; how says by which command it was made.
func (report *Report) Markdown(how string, facts []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# amavis-milter beside amavisd-milter\n\nMade by `%s`.\n\n", how)
	for _, fact := range facts {
		fmt.Fprintf(&b, "- %s\n", fact)
	}
	b.WriteString("\nEach cell: the median of all rounds and, in brackets, the least and the most. Ratio: ours to\n" +
		"amavisd-milter's, by the medians and, in brackets, of the rounds, which are taken in turns. Only\n" +
		"ratios mean anything on another machine. MB are 10^6 bytes.\n\n")
	if len(report.Goals) > 0 {
		fmt.Fprintf(&b, "Offer: Postfix's; unix sockets; mail files in memory, unless a row says otherwise.\n\n%s\n", report.Goals.Markdown())
	}
	if len(report.Others) > 0 {
		fmt.Fprintf(&b, "4 KB, C=8 unless a row says otherwise, by the MTA whose offer and macros are used, the socket between\nit and the milter, and where the mail files are. Sendmail writes each frame by itself; \"gathered\" is its\noffer written as Postfix writes:\n\n%s\n", report.Others.Markdown())
	}
	if len(report.Times) > 0 {
		fmt.Fprintf(&b, "Of the same, and of Postfix's rows with a goal, by the medians of all rounds: how often the MTA waits\nin a message, how long a message takes, and what the load and the scanner use for it:\n\n%s\n", report.Times.Markdown())
	}
	for _, doubt := range report.Doubts {
		fmt.Fprintf(&b, "- IN DOUBT: %s.\n", doubt)
	}
	for _, note := range report.Notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	for _, s := range report.Sections {
		fmt.Fprintf(&b, "\n## %s\n\n%s", s.Title, s.Text)
	}
	return b.String()
}

// Unmet are the names of the rows whose goal is not met, and why a row may be none.
func (report *Report) Unmet() []string {
	names := slices.Clone(report.Doubts)
	for _, r := range report.Goals {
		if r.Met() == "NOT met" {
			names = append(names, r.Name)
		}
	}
	for _, s := range report.Sections {
		names = append(names, s.Unmet...)
	}
	return names
}

// Facts are what a reader must know of the run: the machine, the programs, the load.
func (r *Rig) Facts() []string {
	facts := []string{
		fmt.Sprintf("machine: %d CPUs (%s), %s, %s", runtime.NumCPU(), line("/proc/cpuinfo", "model name"), line("/proc/meminfo", "MemTotal"), kernel()),
		fmt.Sprintf("load average at the start: %s", strings.TrimSpace(text("/proc/loadavg"))),
	}
	for _, p := range r.Programs {
		facts = append(facts, p.Name+": "+strings.Join(p.args(Endpoint{"unix", "MILTER"}, Endpoint{"unix", "SCANNER"}, "WORK", "DIR"), " "))
	}
	return append(facts,
		fmt.Sprintf("%d rounds of %v for each program in turn after %v to warm up; memory: %d fresh processes, %v after the last message", r.pace.rounds, r.pace.slice, r.pace.warm, r.pace.memoryRounds, r.pace.settle),
		fmt.Sprintf("message: %d header fields, %d bytes in all unless a row says otherwise; connections stay open; each verdict and each edit is checked", headerFields, smallMail),
		fmt.Sprintf("scanner: answers at once, continue with %d header edits", len(Told)),
		"mail files in memory: "+fileSystem(r.memory)+", on disk: "+fileSystem(r.disk))
}

func text(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// line returns the value of a name in a file of names and values.
func line(path, name string) string {
	for l := range strings.Lines(text(path)) {
		if key, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "no " + name
}

func kernel() string {
	out, err := exec.Command("uname", "-sr").Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}
