package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// tellings is what differs between the MTAs in what they tell about a client.
var tellings = map[*lab.MTA]struct {
	helo   string // the protocol of a client that said HELO: Postfix does not tell it from EHLO
	bits   string // of AUTH's security layer, which Postfix does not tell
	banks  string // the policy banks of a client that used AUTH PLAIN
	verify string // of the client's certificate, which Postfix does not tell without one
}{
	lab.Sendmail: {"SMTP", " bits=0", "SMTP_AUTH,SMTP_AUTH_PLAIN,SMTP_AUTH_PLAIN_0", " verify=NO"},
	lab.Postfix:  {"ESMTP", "", "SMTP_AUTH,SMTP_AUTH_PLAIN", ""},
}

// visit is an SMTP client that comes, says its name, perhaps encrypts, perhaps
// proves who it is, and sends a mail.
type visit struct {
	name      string
	from      string                // address
	to        func(*lab.MTA) string // nil is its Address; where it is "" there is no such visit
	greeting  string                // HELO or EHLO; empty for a client that says neither
	tls, auth bool
	refused   map[*lab.MTA]string // expression for the reply to the greeting

	clientName string   // what amavisd must be told, besides the address
	says       string   // what our Received field must say after "from"
	sees       relay    // what SpamAssassin must see in it
	rules      []string // of SpamAssassin's about clients, those that must hit

	// Where SpamAssassin would see something else in the MTA's own Received field,
	// this is it: for a reason that the case tells.
	own map[*lab.MTA]sight
}

// relay is what SpamAssassin reads out of one Received field.
type relay struct{ ip, rdns, helo, envfrom, auth, trusted string }

type sight struct {
	relay relay
	rules []string
}

func submission(mta *lab.MTA) string { return mta.Submission }
func mapped(mta *lab.MTA) string     { return mta.Mapped }
func address6(mta *lab.MTA) string   { return mta.Address6 }

// helo is the argument of the greeting.
func (v *visit) helo() string {
	_, name, _ := strings.Cut(v.greeting, " ")
	return name
}

// protocol is the one of RFC 3848.
func (v *visit) protocol(mta *lab.MTA) string {
	p := "ESMTP"
	switch {
	case v.greeting == "":
		return "SMTP"
	case strings.HasPrefix(v.greeting, "HELO"):
		return tellings[mta].helo
	}
	if v.tls {
		p += "S"
	}
	if v.auth {
		p += "A"
	}
	return p
}

// listener is where the client connects to.
func (v *visit) listener(mta *lab.MTA) string {
	if v.to == nil {
		return mta.Address
	}
	return v.to(mta)
}

// open connects and says all that comes before MAIL. It returns nil if the MTA
// refuses the greeting, as it must.
func (v *visit) open(t *testing.T, mta *lab.MTA) *lab.Client {
	t.Helper()
	client, _, err := lab.DialSMTP(v.from, v.listener(mta))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if expression, ok := v.refused[mta]; ok {
		reply, err := client.Command(v.greeting)
		if err != nil || !regexp.MustCompile(expression).MatchString(reply.String()) {
			t.Errorf("%q was answered %q, error %v; want %s", v.greeting, reply, err, expression)
		}
		return nil
	}
	if v.greeting != "" {
		mustReply(t, client, v.greeting, 250)
	}
	if v.tls {
		if err := client.StartTLS(); err != nil {
			t.Fatal(err)
		}
		mustReply(t, client, v.greeting, 250)
	}
	if v.auth {
		if reply, err := client.Authenticate(); err != nil || reply.Code != 235 {
			t.Fatalf("AUTH: reply %q, error %v", reply, err)
		}
	}
	return client
}

// sendPlainly sends one mail without any extension and returns what came of it.
func sendPlainly(t *testing.T, p *lab.Pipeline, client *lab.Client, from string) (lab.Exchange, *lab.Delivery, string) {
	t.Helper()
	delivered, requests := p.Sink.Mark(), p.Relay.Mark()
	mustReply(t, client, "MAIL FROM:<"+from+">", 250)
	mustReply(t, client, "RCPT TO:<"+user+">", 250)
	mustReply(t, client, "DATA", 354)
	reply, err := client.Data(lab.Text(lab.Header(from, user, "who am I?"), lab.CleanBody))
	if err != nil || queueID(p.MTA, reply) == "" {
		t.Fatalf("the client was told %q, error %v", reply, err)
	}
	return oneExchange(t, p, requests), deliveredTo(t, p, delivered, user), queueID(p.MTA, reply)
}

func oneExchange(t *testing.T, p *lab.Pipeline, mark int) lab.Exchange {
	t.Helper()
	exchanges := p.Relay.Exchanges(mark)
	if len(exchanges) != 1 {
		t.Fatalf("amavisd was asked %d times, want once", len(exchanges))
	}
	return exchanges[0]
}

// check sends a mail and compares what everybody was told.
func (v *visit) check(t *testing.T, p *lab.Pipeline, sa *lab.SpamAssassin) {
	t.Helper()
	client := v.open(t, p.MTA)
	if client == nil {
		return
	}
	exchange, delivery, id := sendPlainly(t, p, client, sender)
	v.checkRequest(t, p.MTA, exchange, client)
	v.checkReceived(t, p.MTA, exchange.Spooled, client, id)
	v.checkSpamAssassin(t, p.MTA, sa, exchange.Spooled, delivery, id)
	if t.Failed() {
		t.Logf("amavisd was asked:\n%s", exchange.Request)
		t.Logf("the mail file:\n%s", cut(exchange.Spooled))
		t.Logf("delivered:\n%s", cut(delivery.Raw))
	}
}

// checkRequest compares the attributes about the client.
func (v *visit) checkRequest(t *testing.T, mta *lab.MTA, exchange lab.Exchange, client *lab.Client) {
	t.Helper()
	want := map[string]string{
		"client_name":    v.clientName,
		"client_address": v.from,
		"client_port":    fmt.Sprint(client.Port()),
		"helo_name":      v.helo(),
		"protocol_name":  v.protocol(mta),
		"policy_bank":    "",
	}
	if v.auth {
		want["policy_bank"] = tellings[mta].banks
	}
	mustAttributes(t, exchange, want)
}

// mustAttributes compares attributes; an empty value stands for one that is not
// there.
func mustAttributes(t *testing.T, exchange lab.Exchange, want map[string]string) {
	t.Helper()
	for name, value := range want {
		var values []string
		if value != "" {
			values = []string{value}
		}
		if got := attribute(t, exchange, name); !slices.Equal(got, values) {
			t.Errorf("amavisd was told %s=%q, want %q", name, got, values)
		}
	}
}

// firstField is the first header field of a mail file, with its LF.
func firstField(file []byte) string {
	end := regexp.MustCompile(`\n[^ \t]`).FindIndex(file)
	if end == nil {
		return string(file)
	}
	return string(file[:end[0]+1])
}

// checkReceived compares the Received field that we put above the mail.
func (v *visit) checkReceived(t *testing.T, mta *lab.MTA, file []byte, client *lab.Client, id string) {
	t.Helper()
	want := "Received: from " + v.says
	if v.auth {
		want += "\n\t(authenticated" + tellings[mta].bits + ")"
	}
	want += "\n\tby mx.lab.test (amavis-milter) with " + v.protocol(mta) + " id " + id
	if version, cipher := client.TLS(); version != "" {
		bits := regexp.MustCompile(`_(128|256)_`).FindStringSubmatch(cipher)
		want += fmt.Sprintf("\n\t(version=%s cipher=%s bits=%s%s)", version, cipher, bits[1], tellings[mta].verify)
	}
	got := firstField(file)
	i := strings.LastIndex(got, ";\n\t")
	if i < 0 || got[:i] != want {
		t.Errorf("the mail file begins with\n%q, want\n%q", got, want)
		return
	}
	date, err := time.Parse(time.RFC1123Z+"\n", got[i+len(";\n\t"):])
	if age := time.Since(date); err != nil || age < -time.Second || age > time.Minute {
		t.Errorf("the field is of %q, error %v", got[i+1:], err)
	}
}

// relayForm is how SpamAssassin writes a relay, see [lab.Opinion].
var relayForm = regexp.MustCompile(`^\[ ip=(\S*) rdns=(\S*) helo=(\S*) by=mx\.lab\.test ident= envfrom=(\S*) intl=([01]) id=(\S*) auth=(\S*) msa=0 \]$`)

// relayOf returns the one relay that SpamAssassin sees, which must bear the queue
// id. What it trusts it must take for a part of the inside.
func relayOf(t *testing.T, opinion lab.Opinion, id string) relay {
	t.Helper()
	m := relayForm.FindStringSubmatch(opinion.Trusted + opinion.Untrusted)
	if m == nil || m[6] != id || opinion.Trusted != opinion.Internal || opinion.Untrusted != opinion.External {
		t.Fatalf("SpamAssassin sees %+v, want one relay with id %s", opinion, id)
	}
	r := relay{ip: m[1], rdns: m[2], helo: m[3], envfrom: m[4], auth: m[7]}
	if ip, err := netip.ParseAddr(r.ip); err == nil {
		r.ip = ip.String() // sendmail does not shorten those of IPv6
	}
	if opinion.Trusted != "" {
		r.trusted = "trusted"
	}
	return r
}

// ownPart returns a delivered mail from the MTA's own Received field on: above it
// are the fields of milter and amavisd.
func ownPart(d *lab.Delivery) []byte {
	if bytes.HasPrefix(d.Raw, []byte("Received:")) {
		return d.Raw
	}
	_, own, _ := bytes.Cut(d.Raw, []byte("\r\nReceived:"))
	return append([]byte("Received:"), own...)
}

// aboutClients are SpamAssassin's rules that depend on who the client is.
var aboutClients = regexp.MustCompile(`^(RDNS_NONE|ALL_TRUSTED|NO_RELAYS|UNPARSEABLE_RELAY|LAB_\w+|\w*HELO\w*)$`)

func onlyAboutClients(tests []string) []string {
	var some []string
	for _, name := range tests {
		if aboutClients.MatchString(name) {
			some = append(some, name)
		}
	}
	slices.Sort(some)
	return some
}

// testsOf are the rules in amavisd's X-Spam-Status field.
func testsOf(d *lab.Delivery) []string {
	var names []string
	for _, m := range regexp.MustCompile(`[\[\s]([A-Z]\w+)=-?[\d.]+[,\]]`).FindAllStringSubmatch(strings.Join(d.Values("X-Spam-Status"), ""), -1) {
		names = append(names, m[1])
	}
	return names
}

// checkSpamAssassin compares what SpamAssassin makes of our Received field, inside
// amavisd and asked directly, with what it makes of the one of the MTA.
func (v *visit) checkSpamAssassin(t *testing.T, mta *lab.MTA, sa *lab.SpamAssassin, file []byte, delivery *lab.Delivery, id string) {
	t.Helper()
	ours, err := sa.Ask(file)
	if err != nil {
		t.Fatal(err)
	}
	own, err := sa.Ask(ownPart(delivery))
	if err != nil {
		t.Fatal(err)
	}
	if got := relayOf(t, ours, id); got != v.sees {
		t.Errorf("SpamAssassin sees\n%+v, want\n%+v", got, v.sees)
	}
	for who, tests := range map[string][]string{"inside amavisd": testsOf(delivery), "asked directly": ours.Tests} {
		if got := onlyAboutClients(tests); !slices.Equal(got, v.rules) {
			t.Errorf("SpamAssassin, %s, finds %q, want %q", who, got, v.rules)
		}
	}
	want, ok := v.own[mta]
	if !ok {
		want = sight{v.sees, v.rules}
	}
	got := relayOf(t, own, id)
	if sameHelo(want.relay.helo, got.helo) {
		got.helo = want.relay.helo
	}
	if got != want.relay {
		t.Errorf("in the Received field of %s SpamAssassin sees\n%+v, want\n%+v", mta.Name, got, want.relay)
	}
	if rules := onlyAboutClients(own.Tests); !slices.Equal(rules, want.rules) {
		t.Errorf("in the mail with the Received field of %s SpamAssassin finds %q, want %q", mta.Name, rules, want.rules)
	}
}

// sameHelo reports whether two HELO names are the same but for bytes that are none
// of a host name: we write '?' for more of them than Postfix, and SpamAssassin
// itself '!' for brackets.
func sameHelo(ours, theirs string) bool {
	if len(ours) != len(theirs) {
		return false
	}
	ofHostName := regexp.MustCompile(`^[A-Za-z0-9._-]$`)
	for i := range len(ours) {
		if ours[i] != theirs[i] && (ours[i] != '?' || ofHostName.MatchString(theirs[i:i+1])) {
			return false
		}
	}
	return true
}
