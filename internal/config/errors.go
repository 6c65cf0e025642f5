package config

import (
	"fmt"
	"strings"
)

// Exit codes of mistakes on the command line, from sysexits.h.
const (
	ExitUsage  = 64 // EX_USAGE: syntax and values
	ExitConfig = 78 // EX_CONFIG: valid, but wrong on this machine
)

// Problem is one mistake on the command line.
type Problem struct {
	Code int    // ExitUsage or ExitConfig
	Line string // what is wrong and what to write instead, one line without its end
}

// Error is everything that is wrong with a command line, at least one problem.
type Error struct{ Problems []Problem }

// Error returns the lines of all problems, separated by LF.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Line
	}
	return strings.Join(lines, "\n")
}

// ExitCode returns the code to exit with: a mistake in syntax or values comes
// first, for it has to be mended first.
func (e *Error) ExitCode() int {
	for _, p := range e.Problems {
		if p.Code == ExitUsage {
			return ExitUsage
		}
	}
	return ExitConfig
}

// misuse notes a mistake in syntax or values.
func (d *draft) misuse(format string, args ...any) {
	d.problems = append(d.problems, Problem{ExitUsage, fmt.Sprintf(format, args...)})
}

// wrongHere notes what is valid but wrong on this machine.
func (d *draft) wrongHere(format string, args ...any) {
	d.problems = append(d.problems, Problem{ExitConfig, fmt.Sprintf(format, args...)})
}

// warn notes what is legal but probably not meant.
func (d *draft) warn(format string, args ...any) {
	d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...))
}
