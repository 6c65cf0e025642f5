package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// dialect is the set of letters that one program name gives to the options. Long
// names are the same in every dialect.
type dialect struct {
	program string
	// letters maps an option's long name to its letters, the first of them shown
	// first.
	letters map[string]string
}

// amavisMilter has the letters of the old amavis-milter, and those of
// amavisd-milter that do not clash with them.
var amavisMilter = &dialect{
	program: "amavis-milter",
	letters: map[string]string{
		"socket":             "ps",
		"group":              "g",
		"backlog":            "q",
		"amavisd-socket":     "S",
		"work-dir":           "w",
		"max-conns":          "m",
		"max-wait":           "M",
		"amavisd-timeout":    "T",
		"timeout":            "t",
		"no-x-header":        "x",
		"daemon-policy-bank": "B",
		"pass-on-failure":    "P",
		"daemonize":          "D",
		"foreground":         "f",
		"help":               "h",
		"verbose":            "v",
		"debug":              "d",
	},
}

// annotation is the key under which a flag names its option.
const annotation = "option"

// flagSet returns the options as pflag wants them. The values are never set: they
// are collected by ParseAll.
func (dl *dialect) flagSet() *pflag.FlagSet {
	flags := pflag.NewFlagSet(dl.program, pflag.ContinueOnError)
	flags.Usage = func() {}
	for i := range options {
		o := &options[i]
		name, letters := o.name, dl.letters[o.name]
		for first := true; first || letters != ""; first = false {
			letter := letters[:min(1, len(letters))]
			letters = letters[len(letter):]
			flag := flags.VarPF(unset{}, name, letter, "")
			flag.Annotations = map[string][]string{annotation: {o.name}}
			if o.value == "" {
				flag.NoOptDefVal = noValue
			}
			// pflag knows one letter for each name. A further letter gets a name
			// that cannot be typed: whatever follows a '=' is a value.
			name = "=" + letter + o.name
		}
	}
	return flags
}

// shown returns the names of an option for messages: "-p/--socket". letter is the
// one that was used; if that is not known, the first one stands for it.
func (dl *dialect) shown(o *option, letter string) string {
	if letter == "" {
		letter = dl.letters[o.name]
	}
	if letter == "" {
		return "--" + o.name
	}
	return "-" + letter[:1] + "/--" + o.name
}

// unset is a pflag.Value that holds nothing.
type unset struct{}

func (unset) String() string   { return "" }
func (unset) Set(string) error { return nil }
func (unset) Type() string     { return "value" }

// nearest returns the long name that was probably meant, or "" if none is near.
func nearest(typed string) string {
	const maxDistance = 2 // single letters added, left out or changed
	best, bestDistance := "", maxDistance+1
	for _, o := range options {
		distance := editDistance(typed, o.name)
		if len(typed) > maxDistance && strings.HasPrefix(o.name, typed) {
			distance = 0
		}
		if distance < bestDistance {
			best, bestDistance = o.name, distance
		}
	}
	return best
}

// editDistance is the Levenshtein distance in bytes. Words that differ in length by
// more than the longest option name are not worth the time.
func editDistance(a, b string) int {
	const tooLong = 32 // bytes; longer than any option
	if len(a) > tooLong {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
