package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Listener is one of several ports of an MTA, each with a milter of its own. Mail that
// comes to one and mail that comes to another differ in nothing but the milter.
type Listener struct {
	Name   string // letters only
	Port   string
	Socket string // where the milter listens, see [MTA.SocketOf]; empty: there is none
}

// SocketOf is where the milter of a listener listens, so that the MTA may get there.
func (m *MTA) SocketOf(listener string) string {
	return filepath.Join(filepath.Dir(m.MilterSocket), listener+".sock")
}

// LetIn gives the socket of a milter to the MTA's group, as an administrator has to
// for a program that cannot do so by itself.
func (m *MTA) LetIn(socket string) error {
	if m.socketGroup == "" {
		return nil // it connects as root
	}
	return errors.Join(os.Chown(socket, -1, postfixGID), os.Chmod(socket, 0o660))
}

// HostOf is the address of the MTA's host, without a port.
func (m *MTA) HostOf() string {
	host, _, _ := net.SplitHostPort(m.Address)
	return host
}

// holdingMilter is a milter of sendmail, not asked unless a listener says so, with the
// bounds of contrib's: name, socket.
const holdingMilter = "MAIL_FILTER(`%s', `S=local:%s, F=T, T=S:10m;R:10m;E:10m')dnl\n"

// holdingSendmail has sendmail write all mail to its queue and leave it there, with the
// macros that the manual of the C program amavisd-milter wants listed.
const holdingSendmail = "define(`confDELIVERY_MODE', `queueonly')dnl\n" +
	"define(`confMILTER_MACROS_CONNECT', confMILTER_MACROS_CONNECT`, {client_resolve}')dnl\n" +
	"define(`confMILTER_MACROS_ENVFROM', confMILTER_MACROS_ENVFROM`, r, b')dnl\n"

// holdingPostfix is the same for Postfix: it puts all mail on hold. That of its port 25
// goes to no milter.
const holdingPostfix = `
smtpd_milters =
smtpd_data_restrictions = check_client_access static:HOLD
milter_connect_macros = j {client_name} {daemon_name} v
`

// StartHolding runs the MTA so that it takes mail on these ports and keeps it: nothing
// is delivered, no queue is run, so that nothing of a message's cost falls on the next
// one. It returns when all of the ports answer; Discard empties the queue.
func (m *MTA) StartHolding(contrib string, listeners []Listener) (*Process, error) {
	const nowhere = "9" // the port of the sink; nothing goes there
	ready := func() error {
		for _, l := range listeners {
			if err := answers("tcp", net.JoinHostPort(m.HostOf(), l.Port))(); err != nil {
				return err
			}
		}
		return nil
	}
	cmd := exec.Command(sendmailPrograms+"/sendmail", "-bD")
	configure := func() error { return configureSendmail(holdingDefinition(m.HostOf(), listeners), nowhere) }
	if m == Postfix {
		cmd = exec.Command("/usr/lib/postfix/sbin/master", "-d", "-c", "/etc/postfix")
		configure = func() error {
			return errors.Join(configurePostfix(contrib, nowhere),
				appendTo("/etc/postfix/main.cf", holdingPostfix),
				appendTo("/etc/postfix/master.cf", holdingServices(m.HostOf(), listeners)))
		}
	}
	if err := configure(); err != nil {
		return nil, fmt.Errorf("configuring %s: %w", m.Name, err)
	}
	return StartProcess(m.Name, cmd, ready)
}

// holdingDefinition is what stands in sendmail.mc for our milter.
func holdingDefinition(host string, listeners []Listener) string {
	text := holdingSendmail
	for _, l := range listeners {
		asks := ""
		if l.Socket != "" {
			text += fmt.Sprintf(holdingMilter, l.Name, l.Socket)
			asks = ", InputMailFilters=" + l.Name
		}
		text += fmt.Sprintf("DAEMON_OPTIONS(`Name=%s, Family=inet, Address=%s, Port=%s, Listen=200%s')dnl\n", l.Name, host, l.Port, asks)
	}
	return text
}

// holdingServices are the lines of master.cf, in a chroot as Debian has them.
func holdingServices(host string, listeners []Listener) string {
	text := ""
	for _, l := range listeners {
		text += fmt.Sprintf("%s:%s inet n - y - - smtpd\n", host, l.Port)
		if l.Socket != "" {
			text += "  -o smtpd_milters=unix:" + strings.TrimPrefix(l.Socket, postfixQueue+"/") + "\n"
		}
	}
	return text
}

// appendTo adds text to a file.
func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Discard removes what an MTA that holds its mail has in its queue, and returns how
// many messages it was.
func (m *MTA) Discard() (messages int, err error) {
	names, err := m.Queued()
	for _, name := range names {
		// Of a message sendmail has a qf and a df file, Postfix one.
		if !strings.HasPrefix(filepath.Base(name), "df") {
			messages++
		}
		err = errors.Join(err, os.Remove(name))
	}
	return messages, err
}

// StartProgram runs any milter as account amavis in the foreground; network and address
// are where it listens, as "unix" and a path.
func StartProgram(name string, cmd *exec.Cmd, network, address string) (*Milter, error) {
	return startMilter(name, cmd, network, address)
}
