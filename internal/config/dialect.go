package config

import (
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

// dialect is what a program name makes of the command line: the letters of the
// options, what holds without them, and the examples of the usage text. Long names
// are the same in every dialect.
type dialect struct {
	program string
	// letters maps an option's long name to its letters, the first of them shown
	// first.
	letters map[string]string
	// defaults returns the Config of an empty command line, before checks.
	defaults func() *Config
	// examples is the end of the usage text.
	examples string
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
	defaults: defaults,
	examples: amavisMilterExamples,
}

// amavisdMilter has the letters of amavisd-milter 1.7 and no others, so that what
// is written for that program means here what it means there.
var amavisdMilter = &dialect{
	program: "amavisd-milter",
	letters: map[string]string{
		"socket":             "s",
		"backlog":            "q",
		"amavisd-socket":     "S",
		"work-dir":           "w",
		"max-conns":          "m",
		"max-wait":           "M",
		"amavisd-timeout":    "T",
		"timeout":            "t",
		"daemon-policy-bank": "B",
		"delivery-care-of":   "D",
		"pass-on-failure":    "P",
		"foreground":         "f",
		"pid-file":           "p",
		"help":               "h",
		"version":            "v",
		"debug-level":        "d",
	},
	defaults: amavisdMilterDefaults,
	examples: amavisdMilterExamples,
}

// dialects are all of them, the one that any other name gets first.
var dialects = []*dialect{amavisMilter, amavisdMilter}

// dialectOf returns the dialect of the name that the program was called by, which
// is the last component of argv[0].
func dialectOf(argv []string) *dialect {
	if len(argv) > 0 {
		for _, dl := range dialects {
			if filepath.Base(argv[0]) == dl.program {
				return dl
			}
		}
	}
	return dialects[0]
}

// Program returns the name under which a command line is read: amavisd-milter if
// argv[0] says so, amavis-milter in any other case.
func Program(argv []string) string { return dialectOf(argv).program }

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
func (dl *dialect) shown(name, letter string) string {
	if letter == "" {
		letter = dl.letters[name]
	}
	if letter == "" {
		return "--" + name
	}
	return "-" + letter[:1] + "/--" + name
}

// names returns the names of an option for messages, if it is not known how it was
// given.
func (dl *dialect) names(name string) string { return dl.shown(name, "") }

// short returns the shortest name of an option, for messages that say what to
// write.
func (dl *dialect) short(name string) string {
	if letters := dl.letters[name]; letters != "" {
		return "-" + letters[:1]
	}
	return "--" + name
}

// elsewhere returns the option that has a letter in another dialect, by its long
// name, and that dialect's program; empty strings if there is none.
func (dl *dialect) elsewhere(letter string) (program, name string) {
	for _, other := range dialects {
		for name, letters := range other.letters {
			if other != dl && strings.Contains(letters, letter) {
				return other.program, name
			}
		}
	}
	return "", ""
}

// unset is a pflag.Value that holds nothing.
type unset struct{}

func (unset) String() string   { return "" }
func (unset) Set(string) error { return nil }
func (unset) Type() string     { return "value" }
