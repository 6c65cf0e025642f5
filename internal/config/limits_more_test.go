package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What becomes of a value beyond its bound.
const (
	refused = "refused"
	cutDown = "taken for the highest, with a warning"
)

// TestValuesAround has the bound of every value at one below, at, and above.
func TestValuesAround(t *testing.T) {
	number := func(n int64) string { return fmt.Sprint(n) }
	long := func(prefix string, n int64) string { return prefix + strings.Repeat("x", int(n)-len(prefix)) }
	times := func(option string, value func(i int) string) func(n int64) []string {
		return func(n int64) (args []string) {
			for i := range int(n) {
				args = append(args, option, value(i))
			}
			return args
		}
	}
	one := func(option string, value func(n int64) string) func(n int64) []string {
		return func(n int64) []string { return []string{option, value(n)} }
	}
	for name, tt := range map[string]struct {
		limit  int64
		beyond string
		args   func(n int64) []string
	}{
		"maxTime":            {int64(maxTime / time.Second), cutDown, one("--timeout", number)},
		"maxConns":           {maxConns, cutDown, one("--max-conns", number)},
		"maxBacklog":         {maxBacklog, cutDown, one("--backlog", number)},
		"maxSessions":        {maxSessions, cutDown, one("--max-sessions", number)},
		"maxSessions, one's": {maxSessions, cutDown, one("--max-sessions-per-address", number)},
		"maxBytes, spool":    {maxBytes, cutDown, one("--max-spool", number)},
		"maxBytes, free":     {maxBytes, cutDown, one("--min-free", number)},
		"maxSkipSize":        {maxSkipSize, refused, one("--skip", func(n int64) string { return "size>" + number(n) })},
		"maxScanners":        {maxScanners, refused, times("-S", func(i int) string { return fmt.Sprintf("/run/amavisd-%d.sock", i) })},
		"maxRules, skip":     {maxRules, refused, times("--skip", func(i int) string { return fmt.Sprintf("daemon:D%d", i) })},
		"maxRules, bank":     {maxRules, refused, times("--policy-bank", func(i int) string { return fmt.Sprintf("daemon:D%d=B", i) })},
		"maxPathLen":         {maxPathLen, refused, one("-w", func(n int64) string { return long("/", n) })},
		"maxSocketPath":      {maxSocketPath, refused, one("-p", func(n int64) string { return long("/", n) })},
		"maxHeader":          {maxHeader, refused, one("--x-header", func(n int64) string { return long("X-S: ", n) })},
		"maxHostName":        {maxHostName, refused, one("-p", func(n int64) string { return "inet:1@" + long("h", n) })},
		"maxPort":            {65535, refused, one("-p", func(n int64) string { return "inet:" + number(n) + "@127.0.0.1" })},
		"maxID":              {maxID, refused, one("-g", number)},
	} {
		for _, n := range []int64{tt.limit - 1, tt.limit, tt.limit + 1} {
			want := ""
			if n > tt.limit {
				want = tt.beyond
			}
			got, warnings := "", 0
			c, err := Parse(append([]string{"amavis-milter"}, tt.args(n)...), fakeEnv())
			if err != nil {
				got = refused
			} else if warnings = countCuts(c.Warnings); warnings > 0 {
				got = cutDown
			}
			if got != want || warnings > 1 {
				t.Errorf("%s: %d is %q, want %q; %v", name, n, got, want, err)
			}
		}
	}
}

// countCuts counts the warnings about values that were cut.
func countCuts(warnings []string) int {
	return len(slices.DeleteFunc(slices.Clone(warnings), func(w string) bool {
		return !strings.HasSuffix(w, ", the highest") && !strings.HasSuffix(w, ", the longest")
	}))
}

// TestDebugLevelAround: the old amavisd-milter's levels.
func TestDebugLevelAround(t *testing.T) {
	for level, cuts := range map[int]int{maxDebugLevel - 1: 0, maxDebugLevel: 0, maxDebugLevel + 1: 1} {
		c, err := Parse([]string{"amavisd-milter", "-d", fmt.Sprint(level)}, fakeEnv())
		if err != nil || countCuts(c.Warnings) != cuts {
			t.Errorf("%d: warnings %q, %v", level, c.Warnings, err)
		}
	}
}
