package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// banksProfile has a policy bank for everything that the rules of the test may ask
// for. Each writes its name into the mail, so that the last one shows; with some of
// them spam passes, which is refused without.
var banksProfile = lab.Profile{Name: "policy banks", Conf: `
$final_spam_destiny = D_REJECT;
$policy_bank{$_} = { X_HEADER_LINE => "by $_" }
  for qw(MTA MSA mx.lab.test SMTP_AUTH SMTP_AUTH_PLAIN_0 EVERYONE BRANCH BRANCH6 CLOSED HOST);
$policy_bank{$_} = { X_HEADER_LINE => "by $_", bypass_spam_checks_maps => [1] }
  for qw(SMTP_AUTH_PLAIN USERS SUBMIT);
$policy_bank{$_} = { X_HEADER_LINE => "by $_", final_spam_destiny => D_DISCARD }
  for qw(WRONG);
`}

// bankFlags are rules of every kind. The names of listeners are told apart to the
// letter: nobody is to get WRONG.
var bankFlags = []string{
	"-B",
	"--policy-bank EVERYONE",
	"--policy-bank 192.0.2.64/31=WRONG", "--policy-bank 192.0.2.66=BRANCH", "--policy-bank 2001:db8::60/124=BRANCH6",
	"--policy-bank tls=CLOSED",
	"--policy-bank local=HOST",
	"--policy-bank auth=USERS",
	"--policy-bank daemon:MSA=SUBMIT",
	"--policy-bank daemon:msa=WRONG", "--policy-bank daemon:MS=WRONG", "--policy-bank daemon:MSA2=WRONG",
}

// mainListener is the name of the listener on port 25: Postfix calls it like the
// host unless it is told otherwise.
var mainListener = map[*lab.MTA]string{lab.Sendmail: "MTA", lab.Postfix: "mx.lab.test"}

// bankVisit is a client and the policy banks that it is to get, in order.
type bankVisit struct {
	visit
	banks string // LISTENER stands for mainListener, AUTH for what AUTH PLAIN gives
	spam  bool   // spam from this client passes
}

var bankVisits = []bankVisit{
	{visit{name: "nobody", from: lab.ClientAddress}, "LISTENER,EVERYONE", false},
	{visit{name: "network", from: lab.UnknownAddress}, "LISTENER,EVERYONE,BRANCH", false},
	{visit{name: "beside the network", from: lab.ForgedAddress}, "LISTENER,EVERYONE", false},
	{visit{name: "network on an IPv6 socket", from: lab.UnknownAddress, to: mapped}, "LISTENER,EVERYONE,BRANCH", false},
	{visit{name: "IPv6 network", from: lab.UnknownAddress6, to: address6}, "LISTENER,EVERYONE,BRANCH6", false},
	{visit{name: "beside the IPv6 network", from: lab.ClientAddress6, to: address6}, "LISTENER,EVERYONE", false},
	{visit{name: "tls", from: lab.ClientAddress, tls: true}, "LISTENER,EVERYONE,CLOSED", false},
	{visit{name: "local", from: "127.0.0.1"}, "LISTENER,EVERYONE,HOST", false},
	{visit{name: "daemon", from: lab.ClientAddress, to: submission}, "MSA,EVERYONE,SUBMIT", true},
	{visit{name: "auth", from: lab.ClientAddress, to: submission, auth: true}, "MSA,AUTH,EVERYONE,USERS,SUBMIT", true},
	{visit{name: "network, tls, auth, daemon", from: lab.UnknownAddress, to: submission, tls: true, auth: true},
		"MSA,AUTH,EVERYONE,BRANCH,CLOSED,USERS,SUBMIT", true},
}

// TestPolicyBanks: the right mails get the policy banks of the administrator's
// rules, in his order, and amavisd does what those say.
func TestPolicyBanks(t *testing.T) { onEach(t, banksProfile, testPolicyBanks) }

func testPolicyBanks(t *testing.T, p *lab.Pipeline) {
	withService(t, p, bankFlags...)
	for _, v := range bankVisits {
		v.greeting = "EHLO helo.remote.test"
		v.banks = strings.NewReplacer("LISTENER", mainListener[p.MTA], "AUTH", tellings[p.MTA].banks).Replace(v.banks)
		if v.listener(p.MTA) != "" {
			t.Run(v.name, func(t *testing.T) { v.check(t, p) })
		}
	}
	t.Run("without SMTP", func(t *testing.T) { checkBanksOfLocalMail(t, p) })
}

// withService runs the milter's service with further flags for the time of a test.
func withService(t *testing.T, p *lab.Pipeline, flags ...string) {
	t.Helper()
	if err := p.RestartMilter(flags...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.RestartMilter(); err != nil {
			t.Fatal(err)
		}
	})
}

// check sends a clean mail and spam in one session.
func (v *bankVisit) check(t *testing.T, p *lab.Pipeline) {
	t.Helper()
	client := v.open(t, p.MTA)
	mark := p.Syslog.Mark()
	exchange, delivery, _ := sendPlainly(t, p, client, sender)
	checkBanks(t, p, exchange, delivery, v.banks, mark)

	reply := send(t, client, sender, []string{user}, lab.Text(lab.Header(sender, user, "buy"), lab.GTUBEBody()))
	if passed := queueID(p.MTA, reply) != ""; passed != v.spam || !passed && !strings.HasPrefix(reply.String(), "554 5.7.0 Reject") {
		t.Errorf("with spam the client was told %q; that it passes should be %v", reply, v.spam)
	}
	if err := p.Flush(); err != nil {
		t.Error(err)
	}
}

// checkBanks compares the policy banks that amavisd was asked for, those that it
// has loaded by its own log, and the mark of the last one in the mail.
func checkBanks(t *testing.T, p *lab.Pipeline, exchange lab.Exchange, d *lab.Delivery, banks string, mark int) {
	t.Helper()
	mustAttributes(t, exchange, map[string]string{"policy_bank": banks})
	names := strings.Split(banks, ",")
	if got, want := d.Values("X-Virus-Scanned"), "by "+names[len(names)-1]; !slices.Equal(got, []string{want}) {
		t.Errorf("amavisd marked the mail %q, want %q", got, want)
	}
	var loaded []string
	for _, line := range p.Syslog.Since(mark, "amavis") {
		if m := regexp.MustCompile(`loaded policy bank "([^"]+)"`).FindStringSubmatch(line.Text); m != nil && m[1] != "AM.PDP-SOCK" {
			loaded = append(loaded, m[1])
		}
	}
	if !slices.Equal(loaded, names) {
		t.Errorf("amavisd has loaded the policy banks %q, want %q", loaded, names)
	}
}

// checkBanksOfLocalMail: both ways in which mail reaches the milter without SMTP
// over the network are local.
func checkBanksOfLocalMail(t *testing.T, p *lab.Pipeline) {
	t.Helper()
	mark := p.Syslog.Mark()
	if p.MTA == lab.Sendmail {
		exchange, delivery, _ := sendPlainly(t, p, sendmailOnStdio(t), sender)
		checkBanks(t, p, exchange, delivery, "EVERYONE,HOST", mark)
		return
	}
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	submit(t, localMail(t, "by sendmail"), "/usr/sbin/sendmail", "-f", sender, user)
	delivery := awaitDelivery(t, p, delivered)
	checkBanks(t, p, oneExchange(t, p, requests), delivery, "mx.lab.test,EVERYONE,HOST", mark)
}
