package internal

import (
	"go/types"
	"slices"
	"testing"
)

// wallClock are the functions and methods of package time that make of a time one
// that is measured by the wall clock alone. NTP and administrators set that clock
// forward and back; what is measured by it waits for an hour, or not at all. Times from
// time.Now carry the reading of a clock that nobody sets, and Sub, Since, Before and
// Add use it, as long as none of these has taken it off.
var wallClock = []string{
	"Unix", "UnixMilli", "UnixMicro", "UnixNano", "Date", "Parse", "ParseInLocation",
	"Time.Unix", "Time.UnixMilli", "Time.UnixMicro", "Time.UnixNano",
	"Time.Round", "Time.Truncate", "Time.AddDate", "Time.In", "Time.Local", "Time.UTC",
	"Time.AppendBinary", "Time.AppendText", "Time.GobEncode", "Time.MarshalBinary", "Time.MarshalJSON", "Time.MarshalText",
}

// wallClockMay are the places that use one of these, and why it is harmless.
var wallClockMay = map[string]string{
	"ampdp/exchange.go Unix":            "a deadline that has passed since 1970",
	"milter/guardwatch.go Unix":         "a deadline that has passed since 1970",
	"ampdp/ampdptest/lifecycle.go Unix": "a deadline that has passed since 1970",

	"internal/clocktest/clocktest.go Time.Round": "it is about that clock, for tests",
}

// TestNothingIsMeasuredByTheWallClock reads the source of the program: a step of the
// clock, forward or back, changes no wait, no deadline and no bound on log lines,
// because nothing asks the clock that was set.
func TestNothingIsMeasuredByTheWallClock(t *testing.T) {
	var used []string
	calls := 0
	for _, p := range sources(t) {
		for id, object := range p.uses {
			f, ok := object.(*types.Func)
			if !ok || f.Pkg() == nil || f.Pkg().Path() != "time" {
				continue
			}
			calls++
			name := f.Name()
			if receiver := f.Signature().Recv(); receiver != nil {
				name = types.TypeString(receiver.Type(), func(*types.Package) string { return "" }) + "." + name
			}
			if !slices.Contains(wallClock, name) {
				continue
			}
			at := p.files.Position(id.Pos())
			place := p.at(id.Pos()) + " " + name
			used = append(used, place)
			if wallClockMay[place] == "" {
				t.Errorf("%s:%d: time.%s measures by the wall clock, which may be set while we run: use time.Since and the like, or say in wallClockMay why it is harmless", at.Filename, at.Line, name)
			}
		}
	}
	for place := range wallClockMay {
		if !slices.Contains(used, place) {
			t.Errorf("%s is not there any more: take it off wallClockMay", place)
		}
	}
	if calls < 50 {
		t.Errorf("only %d uses of package time found: the test does not see the source", calls)
	}
}
