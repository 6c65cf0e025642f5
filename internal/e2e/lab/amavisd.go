package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Where Debian's amavisd lives.
const (
	AmavisHome    = "/var/lib/amavis"
	AmavisdSocket = AmavisHome + "/amavisd.sock"
	amavisConf    = "/etc/amavis/conf.d"

	// SecondSocket is that of a second amavisd, see [Amavisd.Second].
	SecondSocket = AmavisHome + "/amavisd-2.sock"
)

// Profile is a way to configure amavisd: what its administrator would write into
// conf.d, on top of Debian's defaults and of our own snippet.
type Profile struct {
	Name string
	Conf string // Perl
}

// The profiles of the end-to-end tests.
var (
	// TagAndDiscard is what Debian ships: a virus is quarantined and dropped, spam
	// is tagged and passed.
	TagAndDiscard = Profile{"tag and discard", ""}

	// Reject refuses whatever is bad, which a milter can do and a queue cannot.
	Reject = Profile{"reject", `
$final_virus_destiny = $final_banned_destiny = $final_spam_destiny = D_REJECT;
`}

	// Extensions gives each recipient a treatment of its own: one gets viruses at
	// an address with an extension, one spam, one gets all as it is, the others
	// nothing bad.
	Extensions = Profile{"address extensions", `
$recipient_delimiter = '+';
@addr_extension_virus_maps = ({ 'victim@lab.test' => 'virus' });
@addr_extension_spam_maps = ({ 'extended@lab.test' => 'spam' });
$final_virus_destiny = $final_banned_destiny = D_DISCARD;
$final_spam_destiny = D_DISCARD;
@virus_lovers_maps = ({ 'victim@lab.test' => 1, 'lover@lab.test' => 1 });
$X_HEADER_TAG = '';  # so that the milter's own field shows
@spam_lovers_maps = ({ 'extended@lab.test' => 1, 'lover@lab.test' => 1 });
`}
)

// labConf turns scanning on, as Debian tells its administrators to do, and makes
// amavisd fit a machine without a network, and talkative.
const labConf = `use strict;
@bypass_virus_checks_maps = ();
@bypass_spam_checks_maps = ();
$virus_admin = undef;
$log_level = 3;
$max_servers = 4;
$max_requests = 20;
$child_timeout = 60;
$sa_local_tests_only = 1;
$sa_tag_level_deflt = -999;    # every mail shows its score and rules
$nanny_details_level = 0;
$enable_db = 0;
$logline_maxlen = 2000;
@local_domains_maps = (['.lab.test']);
`

// secondConf, which is read last, lets a second amavisd live beside the first.
const secondConf = `use strict;
if ($instance_name eq 'second') {
  $unix_socketname = "$MYHOME/amavisd-2.sock";
  $inet_socket_port = undef;
  $lock_file = "$MYHOME/amavisd-2.lock";
  $pid_file = "$MYHOME/amavisd-2.pid";
}
1;
`

// spamAssassinConf keeps SpamAssassin off the network and adds a rule that shows
// whether it was told the right client.
const spamAssassinConf = `
dns_available no
use_bayes 0
use_txrep 0
trusted_networks 127.0.0.1 192.0.2.1 192.0.2.2 2001:db8::1 2001:db8::2
internal_networks 127.0.0.1 192.0.2.1 192.0.2.2 2001:db8::1 2001:db8::2
header   LAB_CLIENT  X-Spam-Relays-External =~ /^\[ ip=192\.0\.2\.10 rdns=client\.remote\.test helo=helo\.remote\.test /
describe LAB_CLIENT  The client that the MTA saw
score    LAB_CLIENT  0.01
header   LAB_UNKNOWN X-Spam-Relays-External =~ /^\[ ip=192\.0\.2\.66 rdns= helo=/
describe LAB_UNKNOWN A client without a name
score    LAB_UNKNOWN 0.01
`

// Amavisd is a running amavisd.
type Amavisd struct {
	*Process
	instance, socket string // the first one has no name
}

// StartAmavisd runs Debian's amavisd with Debian's configuration, then snippet (a
// file of the source tree, as an administrator would install it), the lab's
// adaptions and the profile.
func StartAmavisd(snippet string, profile Profile) (*Amavisd, error) {
	text, err := os.ReadFile(snippet)
	if err != nil {
		return nil, fmt.Errorf("configuring amavisd: %w", err)
	}
	err = writeFiles(map[string]string{
		filepath.Join(amavisConf, "60-milter"):  string(text),
		filepath.Join(amavisConf, "70-lab"):     labConf + "1;\n",
		filepath.Join(amavisConf, "80-profile"): "use strict;\n" + profile.Conf + "1;\n",
		filepath.Join(amavisConf, "90-second"):  secondConf,
		"/etc/spamassassin/local.cf":            spamAssassinConf,
	})
	if err != nil {
		return nil, fmt.Errorf("configuring amavisd: %w", err)
	}
	a := &Amavisd{socket: AmavisdSocket}
	return a, a.Start()
}

// Second starts another amavisd with the same configuration, on [SecondSocket]. It
// is the caller's to stop.
func (a *Amavisd) Second() (*Amavisd, error) {
	b := &Amavisd{instance: "second", socket: SecondSocket}
	return b, b.Start()
}

// Start runs amavisd again with the configuration that it had.
func (a *Amavisd) Start() error {
	if err := os.Remove(a.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	args := []string{"foreground"}
	if a.instance != "" {
		args = []string{"-i", a.instance, "foreground"}
	}
	p, err := StartProcess("amavisd", exec.Command("/usr/sbin/amavisd", args...), answers("unix", a.socket))
	if err != nil {
		return err
	}
	a.Process = p
	return nil
}

// asAmavis gives a command the identity of account amavis.
func asAmavis(cmd *exec.Cmd) *exec.Cmd {
	credential := &syscall.Credential{Uid: amavisUID, Gid: amavisGID, Groups: []uint32{amavisGID, smmspID, postfixGID}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	return cmd
}
