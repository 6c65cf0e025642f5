package main

import (
	"encoding/base64"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// canaries stand for text of a message, each where such text may be. They are letters
// only, so that no quoting changes them.
var canaries = []string{"canaryvaluexq", "canarysubjectxq", "canarybodyxq", "canaryeditxq", "canaryauthxq"}

func canaryMessage() miltertest.Message {
	m := message()
	m.Header = [][2]string{
		{"Subject", " canarysubjectxq\r\n\tcanarysubjectxq"}, {"From", " \"canaryvaluexq\" <ann@example.com>"},
		{"X-\"odd\"=", " canaryvaluexq"}, {"X-Empty", ""}, {"X-Control", " \x01\x1bcanaryvaluexq\x7f"},
		{"X-Virus-Scanned", " canaryvaluexq"}, {"X-Amavis-Milter-Unscanned", " canaryvaluexq"}, {"Received", " from canaryvaluexq by x"},
		{"X-Long", " " + strings.Repeat("canaryvaluexq ", 1000)},
	}
	m.Body = []byte("canarybodyxq\r\n.\r\n\xff\xfecanarybodyxq\n\rcanarybodyxq" + strings.Repeat("canarybodyxq\r\n", 9000))
	return m
}

// noCanary fails if a log has text of a message, as it is or as bytes are often written.
func noCanary(t *testing.T, log string) {
	t.Helper()
	for _, canary := range canaries {
		for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), base64.RawStdEncoding.EncodeToString([]byte(canary[:12]))} {
			if i := strings.Index(strings.ToLower(log), strings.ToLower(form)); i >= 0 {
				t.Errorf("the log has %s: %.300q", canary, log[max(0, i-200):])
			}
		}
	}
}

// debugDialogues are ways through the program that log something, and what amavisd does
// in each.
var debugDialogues = map[string]struct {
	scanner ampdptest.Handler
	drive   func(m *miltertest.MTA) error // sends canaryMessage if nil
}{
	"edits": {scanner: ampdptest.Continue(
		ampdptest.Line("addheader", "X-Spam-Status", "canaryeditxq"), ampdptest.Line("chgheader", "1", "Subject", "***SPAM*** canaryeditxq"),
		ampdptest.Line("insheader", "0", "X-First", "canaryeditxq"), ampdptest.Line("delheader", "1", "From"))},
	"reject":                  {scanner: ampdptest.Verdict("reject", "554", "5.7.0", "no")},
	"tempfail":                {scanner: ampdptest.Verdict("tempfail", "451", "4.5.0", "later")},
	"discard":                 {scanner: ampdptest.Verdict("discard", "250", "2.5.0", "gone")},
	"an edit too long":        {scanner: ampdptest.Continue(ampdptest.Line("addheader", "X-A", strings.Repeat("canaryeditxq", 9000)))},
	"an edit of no name":      {scanner: ampdptest.Continue(ampdptest.Line("addheader", "X A:", "canaryeditxq"))},
	"an edit with lines":      {scanner: ampdptest.Continue(ampdptest.Line("addheader", "X-A", "canaryeditxq\r\n\r\ncanaryeditxq\x00"))},
	"an edit at no place":     {scanner: ampdptest.Continue(ampdptest.Line("chgheader", "x", "Subject", "canaryeditxq"))},
	"a reply that ends early": {scanner: ampdptest.RawThenHangUp(ampdptest.Line("addheader", "X-A", "canaryeditxq") + "\r\n" + "chgheader=1 Subject canaryeditxq")},
	"a reply that is reset":   {scanner: ampdptest.RawThenReset("addheader=X-A canaryedit")},
	"a malformed line":        {scanner: ampdptest.Raw("addheader=X-A%2 canaryeditxq\r\nreturn_value=continue\r\n\r\n")},
	"a missing field":         {scanner: ampdptest.Raw("chgheader=canaryeditxq\r\nreturn_value=continue\r\n\r\n")},
	"no return value":         {scanner: ampdptest.Raw("addheader=X-A canaryeditxq\r\n\r\n")},
	"no reply":                {scanner: ampdptest.CloseAtOnce()},
	"an abort": {drive: func(m *miltertest.MTA) error {
		if err := m.SendUpTo(canaryMessage(), "eom"); err != nil {
			return err
		}
		return m.Abort()
	}},
	"a hang-up": {drive: func(m *miltertest.MTA) error { return m.SendUpTo(canaryMessage(), "eom") }},
	"a hang-up while amavisd scans": {scanner: ampdptest.Hang(), drive: func(m *miltertest.MTA) error {
		if err := m.SendUpTo(canaryMessage(), "eom"); err != nil {
			return err
		}
		return m.Send('E', nil)
	}},
	"authenticated": {drive: func(m *miltertest.MTA) error {
		if err := m.Macros('M', "i", "4BxYz01", "{auth_authen}", "canaryauthxq", "{auth_author}", "canaryauthxq", "{auth_type}", "PLAIN", "{cert_subject}", "canaryauthxq"); err != nil {
			return err
		}
		_, err := m.SendMessage(canaryMessage())
		return err
	}},
	"a field without a name": {drive: rawInMessage('L', "\x00 canaryvaluexq\x00")},
	"a field without a NUL":  {drive: rawInMessage('L', "Subject canaryvaluexq")},
	"three strings":          {drive: rawInMessage('L', "Subject\x00canaryvaluexq\x00canaryvaluexq\x00")},
	"no such command":        {drive: rawInMessage('~', "canaryvaluexq")},
	"MAIL in a message":      {drive: rawInMessage('M', "canaryvaluexq")},
	"macros without an end":  {drive: rawInMessage('D', "Mcanaryvaluexq")},
	"a header in the body":   {drive: rawInMessage('L', "Subject\x00canaryvaluexq\x00")},
	"header of 9 MiB":        {drive: largeHeader},
}

// rawInMessage sends a frame after the header of a message; whatever the answer is.
func rawInMessage(code byte, data string) func(m *miltertest.MTA) error {
	return func(m *miltertest.MTA) error {
		if err := m.SendUpTo(canaryMessage(), "eom"); err != nil {
			return err
		}
		if err := m.Send(code, []byte(data)); err != nil {
			return err
		}
		_, _ = m.EOM() // the connection may be closed
		return nil
	}
}

func largeHeader(m *miltertest.MTA) error {
	msg := canaryMessage()
	for range 200 {
		msg.Header = append(msg.Header, [2]string{"X-Large", strings.Repeat("canaryvaluexq", 4000)})
	}
	_, err := m.SendMessage(msg)
	return err
}

// TestDebugLogHasNoMail sends messages through every path there is, with all that can be
// logged being logged to stderr and to syslog: nothing of a message's text is in it.
func TestDebugLogHasNoMail(t *testing.T) {
	t.Run("stderr", func(t *testing.T) {
		s := newSite(t, ampdptest.Continue())
		p := s.start("-d", "--retry-time", "0")
		runDebugDialogues(s)
		p.cmd.Process.Kill()
		<-p.ended
		checkDebugLog(t, p.log.String())
	})
	t.Run("syslog", func(t *testing.T) {
		needRoot(t)
		if _, err := exec.LookPath("unshare"); err != nil {
			t.Skip("unshare is missing (Debian package util-linux)")
		}
		run := t.TempDir()
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(run, "log"), Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		var log lockedBuffer
		go copyPackets(&log, socket)
		if err := os.Chmod(filepath.Join(run, "log"), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(run, 0o755); err != nil {
			t.Fatal(err)
		}
		s := newSite(t, ampdptest.Continue())
		cmd := s.command("-f", "-v", "-v", "--log-target", "syslog", "--retry-time", "0")
		// A /run of its own, whose syslog is ours.
		cmd.Args = append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c",
			`run=$1; shift; if [ -S /dev/log ]; then mount --bind "$run/log" /dev/log || exit; fi; mount --bind "$run" /run && exec "$@"`,
			"sh", run, cmd.Path}, cmd.Args[1:]...)
		cmd.Path, _ = exec.LookPath("unshare")
		p := s.launch(cmd)
		await(t, "start: "+p.log.String(), func() bool { return strings.Contains(log.String(), " serving ") })
		runDebugDialogues(s)
		p.cmd.Process.Kill()
		<-p.ended
		checkDebugLog(t, log.String())
		if stderr := p.log.String(); stderr != "" {
			t.Errorf("stderr: %s", stderr)
		}
	})
}

func copyPackets(log *lockedBuffer, socket *net.UnixConn) {
	packet := make([]byte, 64<<10)
	for {
		n, err := socket.Read(packet)
		if err != nil {
			return
		}
		_, _ = log.Write(append(packet[:n:n], '\n'))
	}
}

func runDebugDialogues(s *site) {
	s.t.Helper()
	for name, d := range debugDialogues {
		if d.scanner == nil {
			d.scanner = ampdptest.Continue()
		}
		s.scanner.Handle(d.scanner)
		m := s.mta()
		var err error
		if d.drive != nil {
			err = d.drive(m)
		} else {
			_, err = m.SendMessage(canaryMessage())
		}
		if err != nil {
			s.t.Errorf("%s: %v", name, err)
		}
		_ = m.Quit()
	}
	// The last line of one is there when the next has its answer.
	s.scanner.Handle(ampdptest.Continue())
	if _, err := s.mta().SendMessage(message()); err != nil {
		s.t.Error(err)
	}
}

func checkDebugLog(t *testing.T, log string) {
	t.Helper()
	noCanary(t, log)
	if !strings.Contains(log, "debug") && !strings.Contains(log, "<23>") || strings.Count(log, "verdict=") < len(debugDialogues)/2 {
		t.Errorf("that is no debug log: %.3000s", log)
	}
	for _, part := range []string{"verdict=reject", "verdict=tempfail", "cause=malformed"} {
		if !strings.Contains(log, part) {
			t.Errorf("%s was not reached", part)
		}
	}
}
