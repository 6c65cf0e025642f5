package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// postfixQueue is Postfix's queue directory, and the root of its smtpd.
const postfixQueue = "/var/spool/postfix"

// postfixQueues are its queues. What could not be delivered goes from active to
// deferred and back.
var postfixQueues = []string{
	postfixQueue + "/maildrop", postfixQueue + "/incoming", postfixQueue + "/deferred",
	postfixQueue + "/active", postfixQueue + "/deferred", postfixQueue + "/hold", postfixQueue + "/corrupt",
}

// postfixMain is a usual main.cf that sends everything on to the sink. What an
// administrator adds for us stands last, see postfixMilter.
const postfixMain = `compatibility_level = 3.6
myhostname = mx.lab.test
myorigin = lab.test
mydestination =
relay_domains = lab.test
relay_recipient_maps =
local_recipient_maps =
relayhost = [127.0.0.1]:SINKPORT
inet_protocols = all
inet_interfaces = POSTFIXADDRESS, POSTFIXADDRESS6
mynetworks = 127.0.0.0/8
smtpd_authorized_xclient_hosts = ` + ProxyAddress + `
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
smtputf8_enable = yes
smtpd_tls_cert_file = ` + mtaCertificate + `
smtpd_tls_key_file = ` + mtaKey + `
smtpd_tls_security_level = may
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = $myhostname
smtp_tls_security_level = none
smtp_host_lookup = native
disable_dns_lookups = yes
maximal_queue_lifetime = 1h
minimal_backoff_time = 10s
queue_run_delay = 10s
message_size_limit = 0
mailbox_size_limit = 0
header_size_limit = 2097152
smtpd_recipient_limit = 2000
line_length_limit = 65536
smtp_line_length_limit = 0
anvil_rate_time_unit = 60s
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
smtpd_hard_error_limit = 1000
smtpd_soft_error_limit = 1000
always_add_missing_headers = no
local_header_rewrite_clients =
enable_long_queue_ids = no
`

// postfixMaster is added to Debian's master.cf: the listener for mail of users, in
// a chroot like the others.
const postfixMaster = `
submission inet n       -       y       -       -       smtpd
  -o smtpd_sasl_auth_enable=yes
  -o milter_macro_daemon_name=MSA
`

// postfixMilter returns the lines that an administrator takes from our main.cf,
// for a socket in the queue directory: smtpd is chrooted to it.
func postfixMilter(contrib string) (string, error) {
	text, err := os.ReadFile(filepath.Join(contrib, "postfix/main.cf"))
	if err != nil {
		return "", err
	}
	const (
		active, local       = "smtpd_milters = inet:127.0.0.1:10029", "#smtpd_milters = unix:amavis/amavis-milter.sock"
		localMail, withMail = "#non_smtpd_milters", "non_smtpd_milters"
	)
	lines := string(text)
	for _, must := range []string{"\n" + active + "\n", "\n" + local + "\n", "\n" + localMail} {
		if !strings.Contains(lines, must) {
			return "", fmt.Errorf("contrib/postfix/main.cf has no line %q", strings.TrimSpace(must))
		}
	}
	return strings.NewReplacer(active, "#"+active, local, local[1:], localMail, withMail).Replace(lines), nil
}

// startPostfix makes a configuration with our lines of the folder contrib,
// delivering to the sink on sinkPort, and runs Postfix with it.
func startPostfix(contrib, sinkPort string, ready func() error) (*Process, error) {
	if err := configurePostfix(contrib, sinkPort); err != nil {
		return nil, fmt.Errorf("configuring Postfix: %w", err)
	}
	return StartProcess("Postfix", exec.Command("/usr/lib/postfix/sbin/master", "-d", "-c", "/etc/postfix"), ready)
}

func configurePostfix(contrib string, sinkPort string) error {
	milter, err := postfixMilter(contrib)
	if err != nil {
		return err
	}
	master, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		return err
	}
	if err := prepareTLS(); err != nil {
		return err
	}
	main := strings.NewReplacer("SINKPORT", sinkPort, "POSTFIXADDRESS6", "["+PostfixAddress6+"]", "POSTFIXADDRESS", PostfixAddress).Replace(postfixMain)
	for _, dir := range []string{"/etc/postfix/sasl", postfixQueue + "/etc", "/var/lib/postfix"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"/etc/postfix/main.cf":         main + milter,
		"/etc/postfix/master.cf":       string(master) + postfixMaster,
		"/etc/postfix/dynamicmaps.cf":  "",
		"/etc/postfix/sasl/smtpd.conf": saslConf("/etc/sasldb2"), // a path in the chroot
	}
	for _, name := range []string{"hosts", "nsswitch.conf", "resolv.conf", "services"} {
		text, err := os.ReadFile("/etc/" + name)
		if err != nil {
			return err
		}
		files[postfixQueue+"/etc/"+name] = string(text)
	}
	if err := writeFiles(files); err != nil {
		return err
	}
	database := postfixQueue + "/etc/sasldb2"
	if err := prepareSASL(database); err != nil {
		return err
	}
	if err := os.Chown(database, postfixUID, postfixGID); err != nil {
		return err
	}
	// It makes the missing directories of the queue, with their owners and modes.
	if out, err := exec.Command("/usr/sbin/postfix", "-c", "/etc/postfix", "check").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLines(string(out), 5))
	}
	return nil
}
