package ampdp_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// attributes are lines to put between those of a reply: each that is known, well and
// badly made, and some that are not.
var attributes = []string{
	"version_server=2", "version_server=99999999999", "log_id=12345-06", "log_id=%0d%0areturn_value=accept", "setreply=550 5.7.1 no", "setreply=450 4.5.0 ",
	"setreply=99 1.1.1 x", "setreply=250 2.0.0", "return_value=continue", "return_value=accept", "return_value=reject", "return_value=tempfail",
	"return_value=discard", "return_value=Accept", "return_value=", "exit_code=75", "exit_code=%", "delrcpt=<a@example.com>", "delrcpt=<>", "delrcpt=",
	"addrcpt=b@example.com", "addrcpt=<%22a%20b%22@example.com>", "delheader=1 X-A", "delheader=-1 X-A", "delheader=2147483648 X-A", "delheader=1 X:A",
	"chgheader=1 Subject ***%20Spam%0a%20folded", "chgheader=1 Subject ", "chgheader=1 Subject two words", "insheader=0 X-B v", "insheader=2147483647 X-B v",
	"addheader=X-C v", "addheader= v", "addheader=X%0aC v", "quarantine=why", "quarantine=", "replacebody=x", "unknown=%00%ff", "=x", "x", "%41=1", "a%=1", "return_value",
}

// Bounds of what one input may make, for speed.
const (
	maxSteps   = 24
	mostCopies = 32
	mostCuts   = 8
)

// changedReply is a reply in lines with their ends.
type changedReply struct {
	lines [][]byte
	cut   int // bytes that are sent; all if negative
}

// step changes the reply: op says how, at names the line, a and b the rest.
func (r *changedReply) step(op, at, a, b byte) {
	i := int(at) % len(r.lines)
	line := r.lines[i]
	switch op % 12 {
	case 0:
		if len(r.lines) > 1 {
			r.lines = slices.Delete(r.lines, i, i+1)
		}
	case 1:
		r.lines = slices.Insert(r.lines, i, slices.Repeat([][]byte{line}, 1+int(a)%mostCopies)...)
	case 2:
		j := int(a) % len(r.lines)
		r.lines[i], r.lines[j] = r.lines[j], line
	case 3, 4:
		r.lines = slices.Insert(r.lines, i, fmt.Appendf(nil, "%s\r\n", attributes[int(a)%len(attributes)]))
	case 5:
		r.lines[i] = line[:int(a)%(len(line)+1)]
	case 6:
		if len(line) > 0 {
			line[int(a)%len(line)] ^= b
		}
	case 7:
		r.lines[i] = slices.Insert(line, int(a)%(len(line)+1), b)
	case 8:
		r.lines[i] = slices.Insert(line, int(a)%(len(line)+1), bytes.Repeat([]byte{b}, int(a)<<4)...)
	case 9: // a name of one and a value of another
		name, _, _ := bytes.Cut([]byte(attributes[int(a)%len(attributes)]), []byte("="))
		if _, value, found := bytes.Cut(line, []byte("=")); found {
			r.lines[i] = bytes.Join([][]byte{name, value}, []byte("="))
		}
	case 10:
		r.cut = len(bytes.Join(r.lines[:i], nil)) + int(a)
	case 11:
		r.lines = append(r.lines, fmt.Appendf(nil, "%s\r\n", attributes[int(a)%len(attributes)]))
	}
	for i := range r.lines { // a copy must not change with what it is one of
		r.lines[i] = slices.Clone(r.lines[i])
	}
}

// encoded returns the lines with bytes encoded that may as well stand for themselves,
// and with line ends of the other kind, as a list of numbers says.
func encoded(lines [][]byte, choices []byte) []byte {
	var out []byte
	next := 0
	choose := func() byte {
		if len(choices) == 0 {
			return 0
		}
		next++
		return choices[(next-1)%len(choices)]
	}
	for _, line := range lines {
		text, ended := bytes.CutSuffix(line, []byte("\r\n"))
		escape := 0 // bytes of one that are to come
		for _, c := range text {
			pick := choose() % 4
			if c == '%' {
				escape = len("%xx")
			}
			switch {
			case escape > 0, pick < 2, c <= ' ', c > '~', c == '=':
				out = append(out, c)
				escape = max(escape-1, 0)
			case pick == 2:
				out = fmt.Appendf(out, "%%%02x", c)
			default:
				out = fmt.Appendf(out, "%%%02X", c)
			}
		}
		if ended && (choose()%2 == 0 || bytes.HasSuffix(text, []byte("\r"))) {
			out = append(out, '\r')
		}
		if ended {
			out = append(out, '\n')
		}
	}
	return out
}

// FuzzChangedReply changes valid replies: attributes doubled, moved, left out, put in,
// cut off, with other names, bytes and lengths. What FuzzReadReply wants holds; further,
// every reply that is cut before its end is none, and bytes that are encoded without
// need change nothing.
func FuzzChangedReply(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no replies in testdata: %v", err)
	}
	var valid [][][]byte
	for i, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		lines := bytes.SplitAfter(text, []byte("\n"))
		valid = append(valid, lines[:len(lines)-1])
		f.Add([]byte{byte(i)}, []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, input, choices []byte) {
		if len(input) == 0 || len(input) > 1+4*maxSteps {
			return
		}
		r := changedReply{cut: -1}
		for _, line := range valid[int(input[0])%len(valid)] {
			r.lines = append(r.lines, slices.Clone(line))
		}
		for step := range slices.Chunk(input[1:], 4) {
			if len(step) == 4 {
				r.step(step[0], step[1], step[2], step[3])
			}
		}
		raw := bytes.Join(r.lines, nil)
		if r.cut >= 0 {
			raw = raw[:min(r.cut, len(raw))]
		}
		whole := checkReply(t, raw, choices)
		if whole == nil {
			return
		}
		end := replyEnd(raw)
		cuts := []int{end - 1, end - 2}
		for _, c := range choices[:min(len(choices), mostCuts)] {
			cuts = append(cuts, end*int(c)/256)
		}
		for _, cut := range cuts {
			if reply, err := ampdp.ReadReply(bytes.NewReader(raw[:max(cut, 0)]), fuzzLimits); reply != nil || err == nil {
				t.Fatalf("the first %d of %d bytes are %+v", cut, end, reply)
			}
		}
		if same := encoded(bytes.SplitAfter(raw[:end], []byte("\n")), choices); len(same) < fuzzLimits.Line {
			if reply, err := ampdp.ReadReply(bytes.NewReader(same), fuzzLimits); !reflect.DeepEqual(reply, whole) {
				t.Fatalf("%q is %+v, but %q is %+v, %v", raw, whole, same, reply, err)
			}
		}
	})
}

// replyEnd is how many bytes of raw, which begins with a reply, are that reply.
func replyEnd(raw []byte) int {
	end := 0
	for line := range bytes.Lines(raw) {
		end += len(line)
		if len(bytes.TrimRight(line, "\r\n")) == 0 && len(line) <= 2 {
			break
		}
	}
	return end
}
