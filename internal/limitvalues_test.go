package internal

import (
	"fmt"
	"go/constant"
	"go/types"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/milter"
)

// statedOtherwise are the limits whose value is no quantity of its own: what the page
// has to say instead, and why.
var statedOtherwise = map[string]struct{ says, why string }{
	"milter/server.go Times.Verdict": {"`--deadline` and ", "the program sets it to the sum of --deadline and the row's other name"},
}

// asPower are numbers that nobody knows by their digits, as the page writes them.
var asPower = strings.NewReplacer("2^32 - 2", "4,294,967,294")

// amount is a quantity: on the page, or in the code.
type amount struct {
	n    int64 // of durations nanoseconds
	kind kind
}

type kind string

const (
	number   kind = "a number or size"
	duration kind = "a time"
	mode     kind = "an octal mode"
	several  kind = "more than one value"
)

func (a amount) String() string {
	switch a.kind {
	case duration:
		return time.Duration(a.n).String()
	case mode:
		return fmt.Sprintf("%04o", a.n)
	case several:
		return string(several)
	default:
		return strconv.FormatInt(a.n, 10)
	}
}

// TestLimitsAreTrue holds the second column of the table against the code: the values
// of the names of a row stand there, in the order of the names, and no others. One that
// is equal to the one before need not be told again.
func TestLimitsAreTrue(t *testing.T) {
	code := readValues(t)
	others := 0
	for _, row := range limitRows(t) {
		told, err := amounts(row.value)
		if err != nil {
			t.Errorf("%q: %q: %v", row.names, row.value, err)
			continue
		}
		var want []amount
		for _, name := range row.names {
			if other, found := code.otherwise(row.files, name); found {
				others++
				if !strings.Contains(row.value, other) {
					t.Errorf("%s: %q does not say %q", name, row.value, other)
				}
				continue
			}
			value, found := code.value(row.files, name)
			if !found {
				t.Errorf("%s of %q: no value found", name, row.files)
				continue
			}
			want = append(want, value)
		}
		if !sameAmounts(told, want) {
			t.Errorf("%q: the page has %v, the code %v: %q", row.names, told, want, row.value)
		}
	}
	if others != len(statedOtherwise) {
		t.Errorf("%d of %d entries of statedOtherwise are used", others, len(statedOtherwise))
	}
}

func sameAmounts(told, want []amount) bool {
	for i, w := range want {
		switch {
		case len(told) > 0 && told[0] == w:
			told = told[1:]
		case i == 0 || w != want[i-1]:
			return false
		}
	}
	return len(told) == 0
}

// TestAmounts is the test of the test: what it takes for a quantity.
func TestAmounts(t *testing.T) {
	for _, c := range []struct {
		text string
		want string
	}{
		{"5000 connections; 0: no limit", "[5000]"},
		{"connections, 0 (no limit)", "[0]"},
		{"one IPv6 /64 or 64, some 70 of `max9 10`", "[64]"},
		{"1 MiB + 1 byte, 2 KiB + 5 bytes", "[1048577 2053]"},
		{"1 ms, 2 s, 3 min (4 h)", "[1ms 2s 3m0s 4h0m0s]"},
		{"0750, 0640 and 2^32 - 2", "[0750 0640 4294967294]"},
		{"1 GiB 1 TiB 1 PiB", "[1073741824 1099511627776 1125899906842624]"},
		{"50,000, 128, 500 bytes", "[50000 128 500]"},
		{"50000", "no thousands separators in 50000"},
		{"1,0000", "not understood: 1,0000"},
		{"1.5 s", "not understood: 1.5"},
		{"5s", "not understood: 5s"},
	} {
		got, err := amounts(c.text)
		said := fmt.Sprint(got)
		if err != nil {
			said = err.Error()
		}
		if said != c.want {
			t.Errorf("%q: %s, want %s", c.text, said, c.want)
		}
	}
}

// units are those of the page, with what they stand for.
var units = map[string]amount{
	"": {1, number}, "byte": {1, number}, "bytes": {1, number},
	"KiB": {1 << 10, number}, "MiB": {1 << 20, number}, "GiB": {1 << 30, number},
	"TiB": {1 << 40, number}, "PiB": {1 << 50, number},
	"ms": {int64(time.Millisecond), duration}, "s": {int64(time.Second), duration},
	"min": {int64(time.Minute), duration}, "h": {int64(time.Hour), duration},
}

var (
	// asides are what has digits and is not the value: names, what 0 means, and what
	// the value comes to.
	asides     = regexp.MustCompile("`[^`]*`|; 0: .*$|\\bsome [0-9]+")
	digits     = regexp.MustCompile(`(?:^|[ (])([0-9][0-9A-Za-z.,]*)(?: (bytes?|[KMGTP]iB|ms|s|min|h)\b)?(?: \+ ([0-9]+) bytes?\b)?`)
	wellformed = regexp.MustCompile(`^([0-9]+|[0-9]{1,3}(,[0-9]{3})+)$`)
)

// amounts returns the quantities of a cell of the second column.
func amounts(cell string) (found []amount, err error) {
	cell = asPower.Replace(asides.ReplaceAllString(cell, ""))
	for _, m := range digits.FindAllStringSubmatch(cell, -1) {
		text := strings.TrimRight(m[1], ".,")
		plain := strings.ReplaceAll(text, ",", "")
		unit, more := units[m[2]], m[3]
		switch {
		case !wellformed.MatchString(text):
			return nil, fmt.Errorf("not understood: %s", text)
		case len(text) > 1 && text[0] == '0':
			n, err := strconv.ParseInt(text, 8, 64)
			if err != nil {
				return nil, err
			}
			found = append(found, amount{n, mode})
			continue
		case len(plain) > 4 && plain == text:
			return nil, fmt.Errorf("no thousands separators in %s", text)
		}
		n, err := strconv.ParseInt(plain, 10, 64)
		if err != nil {
			return nil, err
		}
		a := amount{n * unit.n, unit.kind}
		if more != "" {
			extra, err := strconv.ParseInt(more, 10, 64)
			if err != nil {
				return nil, err
			}
			a.n += extra
		}
		found = append(found, a)
	}
	return found, nil
}

// values are the values of constants by "file name", and the defaults.
type values struct {
	constants map[string]amount
	options   reflect.Value // config.Config
	times     reflect.Value // milter.Times
}

// readValues has the compiler's rules work out the constants, and asks the program for
// the rest.
func readValues(t *testing.T) *values {
	t.Helper()
	options, err := config.Parse([]string{"amavis-milter"}, emptyMachine())
	if err != nil {
		t.Fatal(err)
	}
	v := &values{
		constants: map[string]amount{},
		options:   reflect.ValueOf(options).Elem(), times: reflect.ValueOf(milter.DefaultTimes()),
	}
	for _, p := range sources(t) {
		for id, object := range p.defs {
			c, ok := object.(*types.Const)
			if !ok {
				continue
			}
			n, exact := constant.Int64Val(constant.ToInt(c.Val()))
			if !exact {
				continue
			}
			a := amount{n, number}
			switch {
			case c.Type().String() == "time.Duration":
				a.kind = duration
			case strings.HasSuffix(id.Name, "Mode"):
				a.kind = mode
			}
			name := p.at(id.Pos()) + " " + id.Name
			if other, found := v.constants[name]; found && other != a {
				a.kind = several
			}
			v.constants[name] = a
		}
	}
	return v
}

// emptyMachine is one with directories, and neither sockets nor accounts.
func emptyMachine() config.Env {
	return config.Env{
		Euid:         1000,
		LookupUser:   func(name string) (*user.User, error) { return nil, user.UnknownUserError(name) },
		LookupGroup:  func(name string) (*user.Group, error) { return nil, user.UnknownGroupError(name) },
		LookupPort:   func(string, string) (int, error) { return 0, fs.ErrNotExist },
		EvalSymlinks: func(path string) (string, error) { return path, nil },
		Stat: func(path string) (fs.FileInfo, error) {
			if filepath.Ext(path) != "" {
				return nil, fs.ErrNotExist
			}
			return os.Stat(".")
		},
	}
}

// otherwise returns what the page has to say instead of a value.
func (v *values) otherwise(files []string, name string) (says string, found bool) {
	for _, file := range files {
		if other, ok := statedOtherwise[file+" "+name]; ok {
			return other.says, true
		}
	}
	return "", false
}

// value returns what a name of the table stands for.
func (v *values) value(files []string, name string) (amount, bool) {
	if option, ok := strings.CutPrefix(name, "--"); ok {
		return amountOf(v.options.FieldByName(fieldOf(option)))
	}
	if field, ok := strings.CutPrefix(name, "Times."); ok {
		return amountOf(v.times.FieldByName(field))
	}
	for _, file := range files {
		if a, ok := v.constants[file+" "+name]; ok {
			return a, true
		}
	}
	return amount{}, false
}

// fieldOf returns the field of config.Config that an option sets: MaxConns of max-conns.
func fieldOf(option string) (field string) {
	for word := range strings.SplitSeq(option, "-") {
		field += strings.ToUpper(word[:1]) + word[1:]
	}
	return field
}

func amountOf(field reflect.Value) (amount, bool) {
	if !field.IsValid() || !field.CanInt() {
		return amount{}, false
	}
	if field.Type() == reflect.TypeFor[time.Duration]() {
		return amount{field.Int(), duration}, true
	}
	return amount{field.Int(), number}, true
}
