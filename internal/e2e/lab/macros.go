package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// oldMacros are the lists of macros that the manual of the C program amavisd-milter
// has its administrator write, for it does not ask for what it uses: lines of a
// configuration file, as they are without it and with it.
var oldMacros = map[*MTA]struct {
	file     string
	from, to []string // with "" as the only from, to is appended
}{
	// What m4 makes of the manual's confMILTER_MACROS_CONNECT and _ENVFROM.
	Sendmail: {
		file: "/etc/mail/sendmail.cf",
		from: []string{"\nO Milter.macros.connect=", "\nO Milter.macros.envfrom="},
		to:   []string{"\nO Milter.macros.connect={client_resolve}, ", "\nO Milter.macros.envfrom=r, b, "},
	},
	Postfix: {
		file: "/etc/postfix/main.cf",
		from: []string{""},
		to:   []string{"milter_connect_macros = j {client_name} {daemon_name} v\nmilter_protocol = 6\n"},
	},
}

// UseOldMacros configures the current MTA as the manual of the C program
// amavisd-milter says. What it returns takes that back.
func (p *Pipeline) UseOldMacros() (undo func() error, err error) {
	mta, change := p.MTA, oldMacros[p.MTA]
	before, err := os.ReadFile(change.file)
	if err != nil {
		return nil, err
	}
	after := string(before)
	for i, from := range change.from {
		if from == "" {
			after += change.to[i]
			continue
		}
		if strings.Count(after, from) != 1 {
			return nil, fmt.Errorf("%s does not have %q once", change.file, from)
		}
		after = strings.Replace(after, from, change.to[i], 1)
	}
	write := func(text string) error {
		if err := os.WriteFile(change.file, []byte(text), 0o644); err != nil {
			return err
		}
		return p.reload(mta)
	}
	return func() error { return write(string(before)) }, write(after)
}

// reload has a running MTA read its configuration and returns when it has.
func (p *Pipeline) reload(mta *MTA) error {
	mark := p.Syslog.Mark()
	if mta == Postfix {
		// Idle smtpd processes end, so that the next client meets the new setting.
		if out, err := exec.Command("/usr/sbin/postfix", "-c", "/etc/postfix", "reload").CombinedOutput(); err != nil {
			return fmt.Errorf("reloading Postfix: %w: %s", err, lastLines(string(out), 5))
		}
		return p.logged(mark, "reload --")
	}
	if err := p.running[mta].Signal(syscall.SIGHUP); err != nil {
		return err
	}
	if err := p.logged(mark, "starting daemon"); err != nil {
		return err
	}
	return Poll(startTimeout, mta.Name+" to be ready again", answers("tcp", mta.Address))
}

// logged waits for a line of the system log.
func (p *Pipeline) logged(mark int, text string) error {
	return Poll(startTimeout, fmt.Sprintf("%q in the log", text), func() error {
		for _, line := range p.Syslog.Since(mark, "") {
			if strings.Contains(line.Text, text) {
				return nil
			}
		}
		return errors.New("it is not there")
	})
}
