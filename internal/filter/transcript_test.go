package filter

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

var update = flag.Bool("update", false, "write what the transcripts in testdata print now into them")

// TestTranscripts runs whole messages through the milter, the filter and the spool
// between a scripted MTA and a scripted amavisd, each told in one file of testdata:
// its purpose first, then what each side says. The sections:
//
//	options   one a line: on-failure CAUSE=ACTION, pass, no-x-header, amavisd-timeout D, retry-time D, daemon-policy-bank,
//	          skip MATCH, policy-bank [MATCH=]NAME
//	mta       the MTA's commands, one a line, with Go's escapes in double quotes
//	reply     amavisd's lines, raw; a "." between two replies; !hangup, !reset, !hang instead of a reply
//	request   what amavisd was sent, decoded
//	spool     the mail file that it found
//	answer    what the milter answered, the changes first
//	log       the lines of level info and above
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			s := readScript(t, file)
			got := s.run(t)
			if *update {
				s.write(t, file, got)
				return
			}
			for _, name := range []string{"request", "spool", "answer", "log"} {
				if got[name] != s.sections[name] {
					t.Errorf("%s:\n%s\nwant:\n%s", name, got[name], s.sections[name])
				}
			}
		})
	}
}

var sectionNames = []string{"options", "mta", "reply", "request", "spool", "answer", "log"}

type script struct {
	purpose  string
	sections map[string]string
}

func readScript(t *testing.T, file string) *script {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{sections: map[string]string{}}
	section := ""
	for line := range strings.Lines(string(text)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "== ")
		switch {
		case ok:
			section = name
		case section == "":
			s.purpose += line
		default:
			s.sections[section] += line
		}
	}
	return s
}

func (s *script) write(t *testing.T, file string, got map[string]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString(s.purpose)
	for _, name := range sectionNames {
		text, ok := got[name]
		if !ok {
			text = s.sections[name]
		}
		if text != "" {
			fmt.Fprintf(&b, "== %s\n%s", name, text)
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lines returns the lines of a section.
func (s *script) lines(name string) []string {
	return strings.Split(strings.TrimSuffix(s.sections[name], "\n"), "\n")
}

// run plays the script and returns the sections that it results in.
func (s *script) run(t *testing.T) map[string]string {
	work := t.TempDir()
	if err := os.Chmod(work, 0o750); err != nil {
		t.Fatal(err)
	}
	var scanner scriptedScanner
	amavisd := ampdptest.NewServer(t, scanner.play(s.lines("reply")))
	sp, err := spool.Open(work, spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	log, lines := newLog(slog.LevelInfo)
	opt := s.options(t, Options{
		Spool: sp, Scanners: []*ampdp.Client{amavisd.Client()}, XHeader: DefaultXHeader,
		MaxWait: time.Minute, RetryTime: time.Minute, Hostname: "fallback.example", Log: log,
	})
	f := New(opt)
	defer f.Close()

	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "milter"))
	if err != nil {
		t.Fatal(err)
	}
	srv := milter.NewServer(f, log, milter.DefaultTimes())
	go srv.Serve(ln)
	answers := s.playMTA(t, ln.Addr().String(), filepath.Join(work, "milter"))
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	amavisd.Close()
	scanner.mu.Lock()
	defer scanner.mu.Unlock()
	return map[string]string{
		"request": tidy(scanner.requests.String(), work, amavisd),
		"spool":   tidy(scanner.files.String(), work, amavisd),
		"answer":  answers,
		"log":     tidy(lines.String(), work, amavisd),
	}
}

func (s *script) options(t *testing.T, opt Options) Options {
	for _, line := range s.lines("options") {
		key, value, _ := strings.Cut(line, " ")
		duration, durationErr := time.ParseDuration(value)
		switch key {
		case "":
		case "pass":
			opt.OnFailure = PassOnFailure()
		case "no-x-header":
			opt.XHeader = HeaderField{}
		case "daemon-policy-bank":
			opt.DaemonPolicyBank = true
		case "skip":
			opt.Skips = append(opt.Skips, parseMatch(t, value))
		case "policy-bank":
			bank := PolicyBank{Name: value}
			if match, name, ok := strings.Cut(value, "="); ok {
				bank = PolicyBank{parseMatch(t, match), name}
			}
			opt.PolicyBanks = append(opt.PolicyBanks, bank)
		case "on-failure":
			cause, action, _ := strings.Cut(value, "=")
			if opt.OnFailure == nil {
				opt.OnFailure = OnFailure{}
			}
			opt.OnFailure[Cause(cause)] = Action(action)
		case "amavisd-timeout":
			opt.Scanners[0].Timeout = duration
		case "retry-time":
			opt.RetryTime = duration
		default:
			t.Fatalf("unknown option %q", line)
		}
		if strings.HasSuffix(key, "-time") && durationErr != nil {
			t.Fatal(durationErr)
		}
	}
	return opt
}

// parseMatch reads a match as Match.String writes it.
func parseMatch(t *testing.T, s string) Match {
	kind, name, _ := strings.Cut(s, ":")
	bytes, isSize := strings.CutPrefix(s, "size>")
	switch {
	case s == "auth", s == "tls", s == "local":
		return Match{Kind: MatchKind(s)}
	case kind == "daemon":
		return daemon(name)
	case isSize:
		n, err := strconv.ParseInt(bytes, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return sizeOver(n)
	}
	return network(s)
}

// scriptedScanner plays amavisd's part and writes down what it is given.
type scriptedScanner struct {
	mu              sync.Mutex
	requests, files bytes.Buffer
}

func (sc *scriptedScanner) play(lines []string) ampdptest.Handler {
	var replies []ampdptest.Handler
	var reply []string
	for _, line := range append(lines, ".") {
		switch {
		case line == "!hangup":
			replies = append(replies, sc.recorded(ampdptest.HangUp()))
		case line == "!hang":
			replies = append(replies, sc.recorded(ampdptest.Hang()))
		case line == "!truncated":
			replies = append(replies, sc.recorded(ampdptest.RawThenHangUp(strings.Join(reply, "\r\n")+"\r\n")))
			reply = nil
		case line != ".":
			reply = append(reply, line)
		case len(reply) > 0:
			replies = append(replies, sc.recorded(ampdptest.Reply(reply...)))
			reply = nil
		}
	}
	return ampdptest.Script(replies...)
}

// recorded writes the request and the mail file down before h answers.
func (sc *scriptedScanner) recorded(h ampdptest.Handler) ampdptest.Handler {
	return func(c *ampdptest.Conn) {
		request, err := c.ReadRequest()
		if err != nil {
			return
		}
		sc.mu.Lock()
		for _, a := range request.Attributes {
			fmt.Fprintf(&sc.requests, "%s=%s\n", a.Name, a.Value)
		}
		file, err := os.ReadFile(request.Get("mail_file"))
		if err != nil {
			fmt.Fprintln(&sc.files, err)
		}
		for line := range strings.Lines(string(file)) {
			fmt.Fprintln(&sc.files, strconv.Quote(line))
		}
		sc.mu.Unlock()
		c.Unread(request)
		h(c)
	}
}

// playMTA sends the MTA's lines and returns the answers to the ends of messages.
func (s *script) playMTA(t *testing.T, address, spoolDir string) string {
	conn, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	lines := s.lines("mta")
	withoutAdd := miltertest.Sendmail817
	withoutAdd.Actions &^= miltertest.AddHeaders
	offers := map[string]miltertest.Offer{
		"sendmail": miltertest.Sendmail817, "postfix": miltertest.Postfix37,
		"version2": miltertest.Version2, "without-addheader": withoutAdd,
	}
	m, err := miltertest.New(conn, offers[lines[0]])
	if err != nil {
		t.Fatal(err)
	}
	var answers strings.Builder
	for _, line := range lines[1:] {
		words := splitWords(t, line)
		a, err := command(m, words[0], words[1:])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if words[0] == "eom" {
			fmt.Fprintln(&answers, a)
			left, err := filepath.Glob(filepath.Join(spoolDir, "amavis-milter-*"))
			if err != nil || len(left) > 0 {
				t.Errorf("in the spool when the verdict was sent: %q, %v", left, err)
			}
		} else if a.Code != 0 && a.Code != 'c' {
			t.Fatalf("%s: answered %q", line, a)
		}
	}
	m.Quit()
	return answers.String()
}

func command(m *miltertest.MTA, name string, args []string) (miltertest.Answer, error) {
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch name {
	case "macros":
		return miltertest.Answer{}, m.Macros(arg(0)[0], args[1:]...)
	case "connect":
		port, _ := strconv.ParseUint(arg(2), 10, 16)
		return m.Connect(arg(0), arg(1)[0], uint16(port), arg(3))
	case "helo":
		return m.Helo(arg(0))
	case "mail":
		return m.Mail(arg(0), args[1:]...)
	case "rcpt":
		return m.Rcpt(arg(0), args[1:]...)
	case "data":
		return m.Data()
	case "header":
		return m.Header(arg(0), arg(1))
	case "eoh":
		return m.EOH()
	case "body":
		return m.Body([]byte(arg(0)))
	case "eom":
		return m.EOM()
	case "abort":
		return miltertest.Answer{}, m.Abort()
	}
	return miltertest.Answer{}, fmt.Errorf("unknown command %q", name)
}

// splitWords splits at spaces; a word in double quotes has Go's escapes.
func splitWords(t *testing.T, line string) []string {
	var words []string
	for line != "" {
		word, rest, _ := strings.Cut(line, " ")
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			word, _ = strconv.Unquote(quoted)
			rest = strings.TrimPrefix(line[len(quoted):], " ")
		}
		words, line = append(words, word), rest
	}
	return words
}

// tidy replaces what differs from run to run.
func tidy(s, work string, amavisd *ampdptest.Server) string {
	s = strings.NewReplacer(work, "WORKDIR", amavisd.Address(), "AMAVISD").Replace(s)
	for _, r := range []struct{ pattern, with string }{
		{`(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d+ [A-Z][a-z][a-z] \d{4} \d\d:\d\d:\d\d [+-]\d{4}( \([^)]*\))?`, "DATE"},
		{`(wait|scan)=\d+\.\d+`, "$1=TIME"},
		{`(gave up|given up) after [0-9.]+m?s`, "$1 after TIME"},
		{`amavis-milter-[A-Z2-7]{12}\b`, "amavis-milter-RANDOM"},
	} {
		s = regexp.MustCompile(r.pattern).ReplaceAllString(s, r.with)
	}
	return s
}
