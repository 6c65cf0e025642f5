package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// MTA is one of the two MTAs that the program works for. Each has addresses of its
// own, so that both may run at the same time, and takes mail from anyone for the
// lab's domain, and for any domain from who has authenticated.
type MTA struct {
	Name string // as it is written

	// Address and Address6 are where it speaks SMTP; its listener ({daemon_name})
	// is called MTA.
	Address, Address6 string

	// Mapped is where it takes IPv4 clients on an IPv6 socket; empty if it never
	// does.
	Mapped string

	// Submission is where clients authenticate, with or without STARTTLS; the
	// listener is called MSA.
	Submission string

	// MilterSocket is where it looks for the program.
	MilterSocket string

	socketGroup string   // of MilterSocket, so that the MTA may connect; empty: root connects
	queues      []string // directories of mail not yet delivered, see Queued
	start       func(contrib, sinkPort string, ready func() error) (*Process, error)
}

// Sendmail is Debian's sendmail.
var Sendmail = &MTA{
	Name:         "sendmail",
	Address:      HostAddress + ":25",
	Address6:     "[" + HostAddress6 + "]:25",
	Mapped:       HostAddress + ":2526",
	Submission:   HostAddress + ":587",
	MilterSocket: MilterSocket,
	queues:       []string{"/var/spool/mqueue"},
	start:        startSendmail,
}

// Postfix is Debian's Postfix, with its smtpd in a chroot as Debian ships it.
var Postfix = &MTA{
	Name:         "Postfix",
	Address:      PostfixAddress + ":25",
	Address6:     "[" + PostfixAddress6 + "]:25",
	Submission:   PostfixAddress + ":587",
	MilterSocket: postfixQueue + "/amavis/amavis-milter.sock",
	socketGroup:  "postfix",
	queues:       postfixQueues,
	start:        startPostfix,
}

// MTAs are all of them.
func MTAs() []*MTA { return []*MTA{Sendmail, Postfix} }

// Queued returns the files of its queue. It looks into the directories in the order
// in which mail moves through them, so that none is missed that moves meanwhile.
func (m *MTA) Queued() ([]string, error) {
	var names []string
	for _, queue := range m.queues {
		err := filepath.WalkDir(queue, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it moved on in this moment
			}
			if err == nil && entry.Type().IsRegular() {
				names = append(names, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// mtaCertificate is what both MTAs show for STARTTLS, with its key.
const (
	mtaCertificate = "/etc/ssl/lab-mta.pem"
	mtaKey         = "/etc/ssl/lab-mta.key"
)

// User and Password are whom both MTAs authenticate, in the realm [Host].
const (
	User     = "ann"
	Password = "correct horse"
)

// prepareTLS makes a certificate of the lab's own host.
func prepareTLS() error {
	if _, err := os.Stat(mtaKey); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(mtaKey), 0o755); err != nil {
		return err
	}
	cmd := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
		"-subj", "/CN="+Host, "-keyout", mtaKey, "-out", mtaCertificate)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a certificate: %w: %s", err, lastLines(string(out), 5))
	}
	return os.Chmod(mtaKey, 0o600)
}

// prepareSASL makes the user database of one MTA.
func prepareSASL(database string) error {
	cmd := exec.Command("saslpasswd2", "-p", "-c", "-u", Host, "-f", database, User)
	cmd.Stdin = strings.NewReader(Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making %s: %w: %s", database, err, lastLines(string(out), 5))
	}
	return os.Chmod(database, 0o600)
}

// saslConf has Cyrus SASL look into a database of prepareSASL.
func saslConf(database string) string {
	return "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN CRAM-MD5\nsasldb_path: " + database + "\n"
}
