package lab

import (
	"encoding/hex"
	"fmt"
	"net"
	"os/exec"
	"strings"
)

// clamdSocket is where Debian's amavisd looks for clamd.
const clamdSocket = "/run/clamav/clamd.ctl"

// eicar is the anti-virus test string of EICAR; it is put together at run time so
// that no scanner finds it in our files.
func eicar() string {
	return strings.Join([]string{`X5O!P%@AP[4\PZX54(P^)7CC)7}$`, `EICAR-STANDARD`, `-ANTIVIRUS-`, `TEST-FILE!$H+H*`}, "")
}

// StartClamd runs clamd as Debian does, with a signature database of one line,
// the EICAR test file: the real one cannot be had offline.
func StartClamd() (*Process, error) {
	err := writeFiles(map[string]string{
		"/var/lib/clamav/lab.ndb": fmt.Sprintf("Eicar-Signature:0:*:%s\n", hex.EncodeToString([]byte(eicar()))),
		"/etc/clamav/clamd.conf": strings.Join([]string{
			"Foreground yes",
			"User clamav",
			"LocalSocket " + clamdSocket,
			"LocalSocketGroup clamav",
			"LocalSocketMode 666",
			"DatabaseDirectory /var/lib/clamav",
			"LogSyslog yes", "LogFacility LOG_MAIL",
			"FixStaleSocket yes", "ScanMail yes", "ScanArchive yes",
			"MaxThreads 4", "SelfCheck 3600", ""}, "\n"),
	})
	if err != nil {
		return nil, fmt.Errorf("configuring clamd: %w", err)
	}
	return StartProcess("clamd", exec.Command("/usr/sbin/clamd", "--config-file=/etc/clamav/clamd.conf"), answers("unix", clamdSocket))
}

// answers is a probe for Poll: does something accept connections there?
func answers(network, address string) func() error {
	return func() error {
		conn, err := net.Dial(network, address)
		if err == nil {
			conn.Close()
		}
		return err
	}
}
