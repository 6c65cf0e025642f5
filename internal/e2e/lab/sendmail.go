package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// sendmailMC is a usual sendmail.mc of Debian that sends everything on to the
// sink. What an administrator adds for us is the one line that includes our file.
const sendmailMC = `divert(-1)
include(` + "`/usr/share/sendmail/cf/m4/cf.m4'" + `)
divert(0)dnl
OSTYPE(` + "`debian'" + `)dnl
FEATURE(` + "`no_default_msa'" + `)dnl
FEATURE(` + "`nocanonify'" + `)dnl
FEATURE(` + "`accept_unresolvable_domains'" + `)dnl
FEATURE(` + "`access_db', `hash -o /etc/mail/access.db'" + `)dnl
DAEMON_OPTIONS(` + "`Name=MTA, Family=inet, Address=HOSTADDRESS, Port=25, Listen=200'" + `)dnl
DAEMON_OPTIONS(` + "`Name=MTA, Family=inet6, Address=HOSTADDRESS6, Port=25, Listen=200'" + `)dnl
DAEMON_OPTIONS(` + "`Name=MTA, Family=inet6, Address=::, Port=2526, Listen=200'" + `)dnl
DAEMON_OPTIONS(` + "`Name=MSA, Family=inet, Address=HOSTADDRESS, Port=587, Listen=200'" + `)dnl
RELAY_DOMAIN(` + "`lab.test'" + `)dnl
define(` + "`confDOMAIN_NAME', `mx.lab.test'" + `)dnl
define(` + "`confSERVICE_SWITCH_FILE', `/etc/mail/service.switch'" + `)dnl
define(` + "`SMART_HOST', `relay:[127.0.0.1]'" + `)dnl
define(` + "`RELAY_MAILER_ARGS', `TCP $h SINKPORT'" + `)dnl
define(` + "`confQUEUE_LA', `1000'" + `)dnl
define(` + "`confREFUSE_LA', `1000'" + `)dnl
define(` + "`confDELAY_LA', `1000'" + `)dnl
define(` + "`confCONNECTION_RATE_THROTTLE', `0'" + `)dnl
define(` + "`confMAX_DAEMON_CHILDREN', `0'" + `)dnl
define(` + "`confMAX_MESSAGE_SIZE', `0'" + `)dnl
define(` + "`confMAX_HEADERS_LENGTH', `262144'" + `)dnl
define(` + "`confBAD_RCPT_THROTTLE', `0'" + `)dnl
define(` + "`confTO_IDENT', `0'" + `)dnl
define(` + "`confDONT_PROBE_INTERFACES', `true'" + `)dnl the clients' addresses are this host's, too
define(` + "`confPRIVACY_FLAGS', `noetrn'" + `)dnl
define(` + "`confDONT_BLAME_SENDMAIL', `GroupReadableKeyFile'" + `)dnl
define(` + "`confSERVER_CERT', `" + mtaCertificate + "'" + `)dnl
define(` + "`confSERVER_KEY', `" + mtaKey + "'" + `)dnl
define(` + "`confCACERT', `" + mtaCertificate + "'" + `)dnl
define(` + "`confCACERT_PATH', `/etc/ssl/certs'" + `)dnl
define(` + "`confAUTH_MECHANISMS', `PLAIN LOGIN CRAM-MD5'" + `)dnl
TRUST_AUTH_MECH(` + "`PLAIN LOGIN CRAM-MD5'" + `)dnl
define(` + "`confMILTER_LOG_LEVEL', `9'" + `)dnl
include(` + "`/etc/mail/amavis-milter.m4'" + `)dnl
MAILER(` + "`smtp'" + `)dnl
`

// sendmailSASL is the user database of sendmail.
const sendmailSASL = "/etc/mail/sasldb2"

// startSendmail makes a configuration with the milter definition of the folder
// contrib, delivering to the sink on sinkPort, and runs sendmail with it.
func startSendmail(contrib, sinkPort string, ready func() error) (*Process, error) {
	definition, err := os.ReadFile(filepath.Join(contrib, "sendmail/amavis-milter.m4"))
	if err != nil {
		return nil, fmt.Errorf("configuring sendmail: %w", err)
	}
	if err := configureSendmail(string(definition), sinkPort); err != nil {
		return nil, fmt.Errorf("configuring sendmail: %w", err)
	}
	return StartProcess("sendmail", exec.Command(sendmailPrograms+"/sendmail", "-bD", "-q1m"), ready)
}

// sendmailPrograms is where Debian's package has them.
const sendmailPrograms = "/usr/libexec/sendmail"

// configureSendmail writes a configuration with this milter definition.
func configureSendmail(definition, sinkPort string) error {
	if err := errors.Join(prepareTLS(), prepareSASL(sendmailSASL)); err != nil {
		return err
	}
	mc := strings.NewReplacer("SINKPORT", sinkPort, "HOSTADDRESS6", HostAddress6, "HOSTADDRESS", HostAddress).Replace(sendmailMC)
	err := writeFiles(map[string]string{
		"/usr/lib/sasl2/Sendmail.conf": saslConf(sendmailSASL),
		"/etc/mail/sendmail.mc":        mc,
		"/etc/mail/amavis-milter.m4":   definition,
		"/etc/mail/service.switch":     "hosts files\naliases files\n",
		"/etc/mail/local-host-names":   Host + "\n",
		// Debian's build answers a bare CR or LF with 421 unless told otherwise.
		"/etc/mail/access":  "Srv_Features: U G O\n",
		"/etc/mail/aliases": "postmaster: root\n",
	})
	if err != nil {
		return err
	}
	script := "set -e; umask 022; cd /etc/mail; m4 sendmail.mc > sendmail.cf; " +
		sendmailPrograms + "/makemap hash access.db < access; " + sendmailPrograms + "/sendmail -bi"
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLines(string(out), 5))
	}
	return nil
}
