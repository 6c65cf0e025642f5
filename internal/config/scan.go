package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// assignment is one option as it was given.
type assignment struct {
	option *option
	value  string // noValue for a switch
	shown  string // the option's names as messages show them
}

// noValue is what a switch is given as its value. No argument of a process can
// hold a NUL, so it cannot be typed.
const noValue = "\x00"

// scan splits the arguments into options and values and notes all that is neither.
//
// pflag stops at the first mistake. To report all of them it is given one argument
// at a time, with the next one only where it asks for a value.
func (d *draft) scan(args []string) []assignment {
	flags := d.dialect.flagSet()
	var found []assignment
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			for _, a := range args {
				d.stray(a)
			}
			break
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			d.stray(arg)
			continue
		}
		if name, _, _ := strings.Cut(arg[1:], "="); len(name) > 1 && optionNamed(name) != nil {
			// -socket would be read as -s with the value "ocket".
			d.misuse("%q: long options have two dashes: write --%s", arg, name)
			args = dropValue(args, arg)
			continue
		}
		if strings.HasPrefix(arg, "-test.") {
			// pflag drops these silently, for the sake of go test.
			d.misuse("unknown option %q: --help lists the options", arg)
			continue
		}
		got, err := d.dialect.parseOne(flags, arg)
		if missing := new(pflag.ValueRequiredError); errors.As(err, &missing) && len(args) > 0 {
			got, err = d.dialect.parseOne(flags, arg, args[0])
			args = args[1:]
		}
		found = append(found, got...)
		if err != nil {
			d.scanProblem(arg, err)
			args = dropValue(args, arg)
		}
	}
	return found
}

// parseOne lets pflag read one argument, and its value if that is the next one.
func (dl *dialect) parseOne(flags *pflag.FlagSet, args ...string) ([]assignment, error) {
	var found []assignment
	err := flags.ParseAll(args, func(flag *pflag.Flag, value string) error {
		o := optionNamed(flag.Annotations[annotation][0])
		found = append(found, assignment{o, value, dl.shown(o.name, flag.Shorthand)})
		return nil
	})
	if missing := new(pflag.ValueRequiredError); errors.As(err, &missing) {
		return nil, err // the whole argument will be read again with its value
	}
	return found, err
}

// scanProblem puts pflag's complaint about one argument into our words.
func (d *draft) scanProblem(arg string, err error) {
	unknown, missing := new(pflag.NotExistError), new(pflag.ValueRequiredError)
	switch {
	case errors.As(err, &missing):
		o := optionNamed(missing.GetFlag().Annotations[annotation][0])
		d.misuse("%s: value missing: write %s", d.dialect.shown(o.name, missing.GetFlag().Shorthand), o.written())
	case errors.As(err, &unknown) && strings.HasPrefix(arg, "--"):
		name := unknown.GetSpecifiedName()
		if near := nearest(name); near != "" {
			d.misuse("unknown option %q: did you mean --%s?", "--"+name, near)
			return
		}
		d.misuse("unknown option %q: --help lists the options", "--"+name)
	case errors.As(err, &unknown):
		d.unknownLetter(arg, unknown.GetSpecifiedName())
	default:
		d.misuse("%q is not an option: --help lists the options", arg)
	}
}

func (d *draft) unknownLetter(arg, letter string) {
	hint := "--help lists the options"
	if program, name := d.dialect.elsewhere(letter); name != "" {
		hint = fmt.Sprintf("it is a letter of %s: write --%s", program, name)
	}
	if arg == "-"+letter {
		d.misuse("unknown option %q: %s", arg, hint)
		return
	}
	d.misuse("unknown option %q in %q: %s", "-"+letter, arg, hint)
}

func (d *draft) stray(arg string) {
	d.misuse("%q: there are no arguments but options: leave it out, or write the option before it", arg)
}

// dropValue drops what was probably the value of an option that is not known, so
// that one mistake makes one line.
func dropValue(args []string, option string) []string {
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") && !strings.Contains(option, "=") {
		return args[1:]
	}
	return args
}
