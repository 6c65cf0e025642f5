package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// logPatience is how long we wait for the line about a mail.
const logPatience = 5 * time.Second

const intro = `amavis-milter at work
=====================

An SMTP client sends mail to %[1]s. Before %[1]s says yes, it asks
amavis-milter, which has amavisd judge the mail and tells %[1]s the verdict:

    SMTP client --> %-8[1]s ----------------> delivery (here: a sink)
                       |  milter protocol
                  amavis-milter
                       |  AM.PDP
                    amavisd --> SpamAssassin, clamd

All of them are real, from Debian's packages, and private to this demonstration:
nothing is installed, no service of this machine is touched, and all ends with it.
`

const outro = `
How to go on
------------
    make build         the program: bin/amavis-milter; try bin/amavis-milter --help
    make install       the program and its manual page (DESTDIR and PREFIX are heeded)
    README.md          the smallest configuration of sendmail, Postfix and amavisd
    contrib/           the line for sendmail.mc, the snippet for amavisd, the init
                       script: with real servers, the demonstration runs on them
    docs/              the manual page, how it is built, the protocols
    make demo MTA=postfix (or MTA=sendmail)   the same with the other MTA
    make test          all tests, the real servers included
`

// runReal shows every mail on its way through real servers.
func runReal(module, binary string, mta *lab.MTA) (err error) {
	fmt.Printf("\n"+intro+"\n", mta.Name)
	began := time.Now()
	p, err := lab.StartPipeline(filepath.Join(module, "contrib"), binary, mta, profile)
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, p.Close())
		}
	}()
	fmt.Printf("(clamd, amavisd, amavis-milter and %s are up after %.1f s)\n", mta.Name, time.Since(began).Seconds())

	all, err := mails()
	if err != nil {
		return err
	}
	var surprises []error
	for i, m := range all {
		title(fmt.Sprintf("%d. %s", i+1, m.title))
		surprises = append(surprises, m.show(p))
	}
	title("What amavis-milter logged")
	closed = true
	err = p.Close()
	var lines []string
	for _, line := range p.Syslog.Since(0, "amavis-milter") {
		lines = append(lines, line.Text)
	}
	block("(syslog, facility mail, ident amavis-milter)", lines)
	if err := errors.Join(append(surprises, err)...); err != nil {
		return err
	}
	fmt.Print(outro)
	return nil
}

// show sends the mail and prints what can be seen of it. It is an error if that
// is not what is to be seen.
func (m *mail) show(p *lab.Pipeline) error {
	delivered, logged := p.Sink.Mark(), p.Syslog.Mark()
	transcript, reply, err := m.send(p.MTA)
	if err != nil {
		return err
	}
	block("The SMTP client saw:", transcript)
	if err := p.Flush(); err != nil {
		return err
	}
	deliveries := p.Sink.Deliveries(delivered)
	var got []string
	for _, d := range deliveries {
		var lines []string
		for _, field := range d.Header() {
			lines = append(lines, strings.ReplaceAll(field.String(), "\r\n", "\n"))
		}
		block("Delivered to "+strings.Join(d.Recipients, ", ")+", with this header:", lines)
		for _, recipient := range d.Recipients {
			got = append(got, strings.Trim(recipient, "<>"))
		}
	}
	if len(deliveries) == 0 {
		fmt.Println("Delivered to nobody.")
	}
	block("amavis-milter logged:", waitForLog(p, logged))
	slices.Sort(got)
	if reply.Code != m.code || !slices.Equal(got, m.delivered) {
		return fmt.Errorf("%q: the reply was %q and the mail went to %q, not %d and %q", m.title, reply, got, m.code, m.delivered)
	}
	return nil
}

// send sends the mail over a connection of its own.
func (m *mail) send(mta *lab.MTA) (transcript []string, reply lab.Reply, err error) {
	client, _, err := lab.DialSMTP(lab.ClientAddress, mta.Address)
	if err != nil {
		return nil, reply, err
	}
	defer client.Close()
	if _, err = client.Command("EHLO helo.remote.test"); err != nil {
		return nil, reply, err
	}
	client.Transcript = nil // the greeting says nothing about us
	commands := []string{"MAIL FROM:<" + sender + ">"}
	for _, recipient := range m.recipients {
		commands = append(commands, "RCPT TO:<"+recipient+">")
	}
	for _, command := range append(commands, "DATA") {
		if reply, err = client.Command(command); err != nil {
			return nil, reply, err
		}
	}
	if reply, err = client.Data(m.raw); err != nil {
		return nil, reply, err
	}
	transcript = client.Transcript
	return transcript, reply, client.Quit()
}

// waitForLog returns the lines of amavis-milter since a mark, once there is one.
func waitForLog(p *lab.Pipeline, mark int) []string {
	var lines []string
	err := lab.Poll(logPatience, "a log line", func() error {
		lines = nil
		for _, line := range p.Syslog.Since(mark, "amavis-milter") {
			lines = append(lines, line.Text)
		}
		if len(lines) == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	if err != nil {
		return []string{"(" + err.Error() + ")"}
	}
	return lines
}
