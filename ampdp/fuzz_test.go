package ampdp_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// pieces gives data in pieces whose sizes are taken from a list, again and again.
type pieces struct {
	data  []byte
	sizes []byte
	next  int
}

func (p *pieces) Read(buf []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	n := min(len(buf), len(p.data))
	if len(p.sizes) > 0 {
		n = min(n, 1+int(p.sizes[p.next%len(p.sizes)]))
		p.next++
	}
	copy(buf, p.data[:n])
	p.data = p.data[n:]
	return n, nil
}

// FuzzReadReply wants no panic, the same result however the bytes arrive, and the
// result of a decoder that was written another way.
func FuzzReadReply(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds in testdata: %v", err)
	}
	for _, file := range files {
		seed, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed, []byte{0})
	}
	for _, seed := range []string{
		"", "\n", "\r\n", "return_value=accept\n\n", "return_value=accept\n\nmore", "return_value=accept\n\r\n", "return_value=accept\r\r\n\n",
		"setreply=250 2.0.0 \nreturn_value=discard\n\n", "insheader=0 A b\nchgheader=1 B \ndelheader=2147483648 C\n\n", "a=%zz\n\n",
		"x=1\nquarantine=%41\nversion_server=9\nversion_server=x\nreplacebody=\nreturn_value=tempfail\n\n", "return%5Fvalue=reject\n\n",
	} {
		f.Add([]byte(seed), []byte{1, 7})
	}
	f.Fuzz(func(t *testing.T, raw, sizes []byte) { checkReply(t, raw, sizes) })
}

// fuzzLimits are small, so that inputs get there.
var fuzzLimits = ampdp.Limits{Line: 3000, Bytes: 9000, Attributes: 100}

// checkReply reads raw, at once and in pieces of these sizes, and returns what came of
// it.
func checkReply(t *testing.T, raw, sizes []byte) *ampdp.Reply {
	got, err := ampdp.ReadReply(bytes.NewReader(raw), fuzzLimits)
	again, errAgain := ampdp.ReadReply(&pieces{data: raw, sizes: sizes}, fuzzLimits)
	if !reflect.DeepEqual(got, again) || (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
		t.Fatalf("at once %+v, %v; in pieces %+v, %v", got, err, again, errAgain)
	}
	if (got == nil) == (err == nil) {
		t.Fatalf("got %+v and %v", got, err)
	}
	if err != nil && (strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 1000) {
		t.Fatalf("the error is %q", err)
	}
	if want := reference(raw, fuzzLimits); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v; the other decoder has %+v", got, err, want)
	}
	return got
}

// The parts of a reply as expressions.
var (
	refLine     = regexp.MustCompile(`(?s)^([^=]*)=(.*)$`)
	refBadHex   = regexp.MustCompile(`%([^0-9A-Fa-f]|[0-9A-Fa-f]([^0-9A-Fa-f]|$)|$)`)
	refIndex    = regexp.MustCompile(`^[0-9]+$`)
	refName     = regexp.MustCompile(`^[!-9;-~]+$`)
	refReturn   = regexp.MustCompile(`^(continue|accept|reject|discard|tempfail)$`)
	refCode     = regexp.MustCompile(`^0*[1-5][0-9][0-9]$`)
	refHexPairs = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
)

// reference decodes a reply in the simplest way that comes to mind; nil if it is
// none.
func reference(raw []byte, limits ampdp.Limits) *ampdp.Reply {
	reply, total := &ampdp.Reply{VersionServer: 1}, 0
	for n, line := range strings.SplitAfter(string(raw), "\n") {
		total += len(line)
		line, whole := strings.CutSuffix(line, "\n")
		line = strings.TrimSuffix(line, "\r")
		if !whole || total > limits.Bytes || len(line) > limits.Line {
			return nil
		}
		if line == "" {
			break
		}
		m := refLine.FindStringSubmatch(line)
		if n >= limits.Attributes || m == nil || refBadHex.MatchString(m[1]) || refBadHex.MatchString(m[2]) {
			return nil
		}
		if !referenceAttribute(reply, refDecode(m[1]), m[2]) {
			return nil
		}
	}
	if reply.ReturnValue == "" {
		return nil
	}
	return reply
}

func refDecode(s string) string {
	return refHexPairs.ReplaceAllStringFunc(s, func(e string) string {
		n, _ := strconv.ParseUint(e[1:], 16, 8)
		return string([]byte{byte(n)})
	})
}

// referenceFields is how many fields each known attribute has.
var referenceFields = map[string]int{
	"return_value": 1, "setreply": 3, "delrcpt": 1, "addrcpt": 1, "delheader": 2, "chgheader": 3, "insheader": 3, "addheader": 2, "quarantine": 1,
}

func referenceAttribute(reply *ampdp.Reply, name, value string) bool {
	f := strings.Split(value, " ")
	for i := range f {
		f[i] = refDecode(f[i])
	}
	if want, known := referenceFields[name]; known && len(f) != want {
		return false
	}
	version, err := strconv.ParseInt(strings.Join(f, " "), 10, 32)
	switch name {
	case "exit_code":
		return true
	case "log_id":
		reply.LogID = strings.Join(f, " ")
		return true
	case "version_server":
		if err == nil && refIndex.MatchString(f[0]) {
			reply.VersionServer = int(version)
			return true
		}
	case "return_value":
		first := reply.ReturnValue == ""
		reply.ReturnValue = ampdp.ReturnValue(f[0])
		return first && refReturn.MatchString(f[0])
	case "setreply":
		code, err := strconv.Atoi(f[0])
		reply.SetReply = &ampdp.SetReply{Code: code, Enhanced: f[1], Text: f[2]}
		return err == nil && refCode.MatchString(f[0])
	}
	if _, known := referenceFields[name]; known {
		edit := referenceEdit(name, f)
		reply.Edits = append(reply.Edits, edit)
		return edit != nil
	}
	if len(reply.Unknown) < ampdp.MaxUnknown {
		value := strings.Join(f, " ")
		reply.Unknown = append(reply.Unknown, ampdp.Attribute{
			Name: name[:min(len(name), ampdp.MaxUnknownName)], Value: value[:min(len(value), ampdp.MaxUnknownValue)],
		})
	}
	return true
}

func referenceEdit(name string, f []string) ampdp.Edit {
	switch {
	case name == "quarantine":
		return ampdp.Quarantine{Reason: f[0]}
	case strings.HasSuffix(name, "rcpt") && (f[0] == "" || f[0] == "<>"):
		return nil
	case name == "delrcpt":
		return ampdp.DeleteRecipient{Address: bracketed(f[0])}
	case name == "addrcpt":
		return ampdp.AddRecipient{Address: bracketed(f[0])}
	case name == "addheader" && refName.MatchString(f[0]):
		return ampdp.AddHeader{Name: f[0], Value: f[1]}
	case name == "addheader":
		return nil
	}
	index, err := strconv.ParseInt(f[0], 10, 32)
	if err != nil || !refIndex.MatchString(f[0]) || !refName.MatchString(f[1]) {
		return nil
	}
	switch name {
	case "delheader":
		return ampdp.DeleteHeader{Index: int(index), Name: f[1]}
	case "chgheader":
		return ampdp.ChangeHeader{Index: int(index), Name: f[1], Value: f[2]}
	}
	return ampdp.InsertHeader{Index: int(index), Name: f[1], Value: f[2]}
}
