package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// caseField marks each mail with the case to which it belongs; it is the first
// field of every mail, and no fact.
const caseField = "X-Case"

// diffCase is one SMTP session.
type diffCase struct {
	name  string
	setup diffSetup

	client   string                           // its address; empty: the one that has a name
	listener func(*lab.MTA) string            // whom it talks to; nil: the MTA's port 25
	hello    string                           // empty: EHLO with the usual name
	tls      bool                             // says STARTTLS
	auth     bool                             // authenticates
	mails    []diffMail                       // what it sends; empty: one ordinary mail
	scan     ampdptest.Handler                // what amavisd does; nil: the real one scans
	deaf     bool                             // it does so before it has read the request
	command  []string                         // what submits the mail instead of SMTP
	stdio    []string                         // what speaks SMTP over its standard input and output
	only     *lab.MTA                         // the MTA that can do this; nil: both
	broken   func(t *testing.T) (mend func()) // what is wrong with the host meanwhile
}

// diffMail is one mail. Its commands end with DATA; empty means the usual ones.
type diffMail struct {
	commands []string
	raw      []byte // CR LF line ends; nil: the usual mail
}

func (c *diffCase) runsOn(mta *lab.MTA) bool { return c.only == nil || c.only == mta }

// diffUsual is the envelope of most cases.
var diffUsual = []string{"MAIL FROM:<" + sender + "> BODY=8BITMIME", "RCPT TO:<" + user + ">", "DATA"}

// send holds the session and notes every reply, what amavisd was asked, and what was
// left in the spool once the client had its reply.
func (c *diffCase) send(t *testing.T, p *lab.Pipeline, tape *diffTape) diffFacts {
	t.Helper()
	tape.play(c.scan, c.deaf)
	if c.broken != nil {
		defer c.broken(t)()
	}
	if c.command != nil {
		return c.submit(t, tape)
	}
	client, err := c.connect(p)
	if err != nil {
		t.Fatalf("case %q: %v", c.name, err)
	}
	facts := diffFacts{}
	if err := errors.Join(c.hold(p, client, tape, facts), client.Quit()); err != nil {
		t.Fatalf("case %q: %v\n%s", c.name, err, strings.Join(client.Transcript, "\n"))
	}
	if err := lab.Poll(noticeTimeout, "the spool to be empty", func() error { return errors.Join(diffSpooledNow()...) }); err != nil {
		facts["left after the session"] = []string{"the spool directory"}
	}
	return facts
}

// connect begins the session.
func (c *diffCase) connect(p *lab.Pipeline) (*lab.Client, error) {
	if c.stdio != nil {
		client, _, err := lab.RunSMTP(c.stdio[0], c.stdio[1:]...)
		return client, err
	}
	from, to := lab.ClientAddress, p.MTA.Address
	if c.client != "" {
		from = c.client
	}
	if c.listener != nil {
		to = c.listener(p.MTA)
	}
	client, _, err := lab.DialSMTP(from, to)
	return client, err
}

// submit gives the ordinary mail to a command and waits until amavisd was asked.
func (c *diffCase) submit(t *testing.T, tape *diffTape) diffFacts {
	t.Helper()
	mark := tape.mark()
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(append([]byte(caseField+": "+c.name+"\r\n"), diffOrdinary...), []byte("\r\n"), []byte("\n")))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("case %q: %v: %s", c.name, err, out)
	}
	err := lab.Poll(noticeTimeout, "the submitted mail", func() error {
		if len(tape.since(mark)) == 0 {
			return errors.New("amavisd was not asked")
		}
		return errors.Join(diffSpooledNow()...)
	})
	if err != nil {
		t.Fatalf("case %q: %v", c.name, err)
	}
	facts := diffFacts{}
	facts.asked("", tape.since(mark))
	return facts
}

// hold says what the client has to say.
func (c *diffCase) hold(p *lab.Pipeline, client *lab.Client, tape *diffTape, facts diffFacts) error {
	hello := c.hello
	if hello == "" {
		hello = "EHLO helo.remote.test"
	}
	if _, err := client.Command(hello); err != nil {
		return err
	}
	if c.tls {
		if err := client.StartTLS(); err != nil {
			return err
		}
		if _, err := client.Command(hello); err != nil {
			return err
		}
	}
	if c.auth {
		if reply, err := client.Authenticate(); err != nil || reply.Code != 235 {
			return fmt.Errorf("AUTH: reply %q, error %w", reply, err)
		}
	}
	mails := c.mails
	if mails == nil {
		mails = []diffMail{{}}
	}
	for i, m := range mails {
		prefix := ""
		if i > 0 {
			prefix = fmt.Sprintf("mail %d, ", i+1)
		}
		mark := tape.mark()
		if err := m.send(prefix+c.name, prefix, p.MTA, client, facts); err != nil {
			return err
		}
		facts.asked(prefix, tape.since(mark))
		if facts[prefix+"asked"][0] != "never" && len(diffSpooledNow()) > 0 {
			facts[prefix+"left after the reply"] = []string{"the spool directory"}
		}
	}
	return nil
}

// send says the commands and the mail; what is refused ends it.
func (m *diffMail) send(mark, prefix string, mta *lab.MTA, client *lab.Client, facts diffFacts) error {
	commands, raw := m.commands, m.raw
	if commands == nil {
		commands = diffUsual
	}
	if raw == nil {
		raw = diffOrdinary
	}
	for _, command := range commands {
		reply, err := client.Command(command)
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
		where := prefix + "reply to " + strings.ToUpper(command[:4])
		facts[where] = append(facts[where], reply.String())
		if reply.Code == 354 {
			reply, err := client.Data(append([]byte(caseField+": "+mark+"\r\n"), raw...))
			if err != nil {
				return fmt.Errorf("after the data: %w", err)
			}
			facts[prefix+"reply to the data"] = []string{reply.String()}
			if id := queueID(mta, reply); id != "" {
				facts[prefix+"queue id"] = []string{id}
			}
		}
	}
	return nil
}

// diffSpooledNow returns an error for each message in either program's spool.
func diffSpooledNow() []error {
	var left []error
	for _, pattern := range []string{"/af*", "/milter/amavis-milter-*"} {
		names, err := filepath.Glob(diffWorkDir + pattern)
		if err != nil {
			left = append(left, err)
		}
		for _, name := range names {
			left = append(left, fmt.Errorf("%s is there", name))
		}
	}
	return left
}

// tape stands where amavisd does, keeps what it is asked with the mail file as it is
// in that moment, and then plays a handler, or passes the request on to the
// real amavisd.
type diffTape struct {
	*ampdptest.Server
	mu    sync.Mutex
	taped []diffTaped
}

type diffTaped struct {
	request *ampdptest.Request
	file    []byte
	logID   string // that the real amavisd gave
}

func diffStartTape(t *testing.T) *diffTape {
	t.Helper()
	server, err := ampdptest.Listen("unix", diffScanner, ampdptest.CloseAtOnce())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(diffScanner, 0o666); err != nil {
		t.Fatal(err)
	}
	return &diffTape{Server: server}
}

// play has the next connections answered by h, nil standing for the real amavisd. A
// deaf h reads the request itself, or does not, and nothing is taped.
func (tp *diffTape) play(h ampdptest.Handler, deaf bool) {
	switch {
	case deaf:
		tp.Handle(h)
		return
	case h == nil:
		h = tp.askAmavisd
	}
	tp.Handle(func(c *ampdptest.Conn) {
		if request, err := c.ReadRequest(); err == nil {
			file, err := os.ReadFile(request.Get("mail_file"))
			if err != nil {
				file = []byte(err.Error())
			}
			tp.mu.Lock()
			tp.taped = append(tp.taped, diffTaped{request: request, file: file})
			tp.mu.Unlock()
			c.Unread(request)
			h(c)
		}
	})
}

func (tp *diffTape) mark() int {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return len(tp.taped)
}

func (tp *diffTape) since(mark int) []diffTaped {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return append([]diffTaped(nil), tp.taped[mark:]...)
}

// askAmavisd is the handler that has the real amavisd answer.
func (tp *diffTape) askAmavisd(c *ampdptest.Conn) {
	request, err := c.ReadRequest()
	if err != nil {
		return
	}
	amavisd, err := net.Dial("unix", lab.AmavisdSocket)
	if err != nil {
		return
	}
	defer amavisd.Close()
	if _, err := amavisd.Write(request.Raw); err != nil {
		return
	}
	var reply bytes.Buffer
	for !bytes.HasSuffix(reply.Bytes(), []byte("\n\r\n")) {
		if _, err := io.CopyN(&reply, amavisd, 1); err != nil {
			return
		}
	}
	attributes, _ := lab.Attributes(reply.Bytes())
	for _, a := range attributes {
		if a.Name == "log_id" {
			tp.mu.Lock()
			tp.taped[len(tp.taped)-1].logID = a.Value // one session at a time
			tp.mu.Unlock()
		}
	}
	if c.Send(reply.String()) == nil {
		c.WaitClosed()
	}
}
