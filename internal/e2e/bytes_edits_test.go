package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
	"github.com/amavis-milter/amavis-milter/milter"
)

// editValue is a value that a scanner gives a header field, and how that field is
// to be delivered behind its colon.
type editValue struct{ name, sent, delivered string }

var editValues = []editValue{
	{"plain", "value", " value"},
	{"folded with a space", "one\n two", " one\r\n two"},
	{"folded with a tab", "one\n\ttwo", " one\r\n\ttwo"},
	{"folded three times", "one\n two\n\tthree\n  \tfour", " one\r\n two\r\n\tthree\r\n  \tfour"},
	{"folded by CR LF", "one\r\n two\r\n\tthree", " one\r\n two\r\n\tthree"},
	{"LF without a fold", "one\ntwo", " one\r\n\ttwo"},
	{"folded at once", "\n one\n two", "\r\n one\r\n two"},
	{"a space of its own", " value", "  value"},
	{"a tab of its own", "\tvalue", " \tvalue"},
	{"trailing spaces", "value \t ", " value \t "},
	{"8 bit", "Gr\u00fc\u00dfe \xfc\xff", " Gr\u00fc\u00dfe \xfc\xff"},
	{"colons, signs and spaces", "a:b  c%d%20 =;", " a:b  c%d%20 =;"},
	{"empty", "", " "},
	{"a line of 900 bytes", strings.Repeat("v", 900), " " + strings.Repeat("v", 900)},
	{"many lines", "0" + strings.Repeat("\n\t0123456789abcdef", 1000), " 0" + strings.Repeat("\r\n\t0123456789abcdef", 1000)},
}

// TestEditsExact: the values that the scanner inserts, adds and changes are
// delivered behind one space, and folded as it folded them.
func TestEditsExact(t *testing.T) {
	var edits, header []string
	for i, v := range editValues {
		edits = append(edits,
			ampdptest.Line("insheader", "0", fmt.Sprintf("X-Inserted-%d", i), v.sent),
			ampdptest.Line("addheader", fmt.Sprintf("X-Added-%d", i), v.sent),
			ampdptest.Line("chgheader", "1", fmt.Sprintf("x-changed-%d", i), v.sent))
		header = append(header, fmt.Sprintf("X-Changed-%d:before\r\n", i))
	}
	onEach(t, virusesOnly, func(t *testing.T, p *lab.Pipeline) {
		withScript(t, p, ampdptest.Continue(edits...))
		passed := passAll(t, p, []shape{withFields("edited", header...)})[0]
		d, err := passed.delivered()
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range editValues {
			for _, kind := range []string{"X-Inserted", "X-Added", "X-Changed"} {
				name := fmt.Sprintf("%s-%d", kind, i)
				if err := onlyField(d, name, v.delivered); err != nil {
					t.Errorf("%s: %v", v.name, err)
				}
			}
		}
	})
}

// TestFieldLimit: the longest field that the program sends arrives whole, whatever the
// MTA; a longer one is not sent, and the mail neither.
func TestFieldLimit(t *testing.T) {
	// Lines of 72 bytes, LF and tab included, as amavisd would fold.
	folded := func(n int) string {
		v := strings.Repeat(strings.Repeat("v", 70)+"\n\t", n/72)
		return v + strings.Repeat("v", n-len(v))
	}
	for _, kind := range [][]string{{"addheader"}, {"insheader", "0"}, {"chgheader", "1"}} {
		fits := milter.MaxHeaderField - len("X-Long: ")
		for n, taken := range map[int]bool{fits: true, fits + 1: false} {
			t.Run(fmt.Sprintf("%s, %d bytes", kind[0], n), func(t *testing.T) {
				onEach(t, virusesOnly, func(t *testing.T, p *lab.Pipeline) {
					withScript(t, p, ampdptest.Continue(ampdptest.Line(kind[0], append(kind[1:], "X-Long", folded(n))...)))
					mark := p.Sink.Mark()
					mail := lab.Text("X-Long: before\r\n"+lab.Header(sender, user, "long"), lab.CleanBody)
					if kind[0] != "chgheader" {
						mail = cleanMail("long")
					}
					reply := send(t, connect(t, p), sender, []string{user}, mail)
					if !taken {
						if !strings.HasPrefix(reply.String(), "451 4.3.0 Content filter failure") {
							t.Errorf("the client was told %q", reply)
						}
						return
					}
					d := deliveredTo(t, p, mark, user)
					if err := onlyField(d, "X-Long", " "+strings.ReplaceAll(folded(n), "\n", "\r\n")); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// onlyField fails unless there is one field of the name, with exactly that value.
func onlyField(d *lab.Delivery, name, value string) error {
	fields := slices.DeleteFunc(d.Header(), func(f lab.Field) bool { return !strings.EqualFold(f.Name, name) })
	if len(fields) != 1 {
		return fmt.Errorf("delivered with %d fields %s, want one", len(fields), name)
	}
	if fields[0].Name != name {
		return fmt.Errorf("delivered with field %s, want it spelled %s", fields[0].Name, name)
	}
	if err := sameBytes([]byte(fields[0].Value), []byte(value)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// editsDelivered fails if a value that amavisd gave a field, folds and all, was not
// delivered as it was, behind one space. It returns how many there were, and how
// many of them were folded.
func editsDelivered(exchange lab.Exchange, d *lab.Delivery) (edits, folded int, err error) {
	attributes, err := lab.Attributes(exchange.Reply)
	if err != nil {
		return 0, 0, err
	}
	for _, a := range attributes {
		if a.Name == "addheader" {
			a.Value = "0 " + a.Value
		} else if a.Name != "insheader" && a.Name != "chgheader" {
			continue
		}
		parts := strings.SplitN(a.Value, " ", 3)
		if len(parts) != 3 {
			return edits, folded, fmt.Errorf("amavisd sent %s=%s", a.Name, a.Value)
		}
		edits++
		if strings.Contains(parts[2], "\n") {
			folded++
		}
		want := lab.Field{Name: parts[1], Value: " " + string(crlf([]byte(parts[2])))}
		if !slices.ContainsFunc(d.Header(), func(f lab.Field) bool { return strings.EqualFold(f.Name, want.Name) && f.Value == want.Value }) {
			return edits, folded, fmt.Errorf("no field %q was delivered", want)
		}
	}
	return edits, folded, nil
}

// withScript runs the milter with a scripted scanner for the time of a test.
func withScript(t *testing.T, p *lab.Pipeline, script ampdptest.Handler) {
	t.Helper()
	dir, err := os.MkdirTemp("", "script-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "scanner.sock")
	scanner, err := ampdptest.Listen("unix", socket, script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(scanner.Close)
	for path, mode := range map[string]os.FileMode{dir: 0o755, socket: 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"-f", "-p", "local:" + p.MTA.MilterSocket, "-S", "local:" + socket, "-w", lab.AmavisHome}
	if p.MTA == lab.Postfix {
		args = append(args, "-g", "postfix")
	}
	if err := p.UseProgram("amavis-milter", exec.Command(binary, args...)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("amavis-milter said:\n%s", p.Milter.Output())
		}
		if err := p.RestartMilter(); err != nil {
			t.Fatal(err)
		}
	})
}
