package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// Addresses with more than ASCII (RFC 6531): in the local part, in the domain, or
// in both; one with a letter of two code points, which must stay two.
const (
	sender8   = "зигфрид@пример.test"
	user8     = "użytkownik@lab.test"
	extended8 = "größe@lab.test"      // gets spam at größe+spam
	lover8    = "日本語@bücher.lab.test" // wants it all
	quoted8   = "\"a ß\"@lab.test"    // in quotes
	combined8 = "e\u0301te\u0301@lab.test"
)

// extensions8 is the profile with address extensions for such addresses.
var extensions8 = lab.Profile{Name: "UTF-8 address extensions", Conf: `
$recipient_delimiter = '+';
@addr_extension_spam_maps = ({ '` + extended8 + `' => 'spam' });
$final_spam_destiny = D_DISCARD;
@spam_lovers_maps = ({ '` + extended8 + `' => 1, '.xn--bcher-kva.lab.test' => 1 });
`}

// TestSMTPUTF8: addresses arrive at amavisd as the bytes that the client sent, and
// those that it changes at the MTA as the bytes that amavisd sent.
func TestSMTPUTF8(t *testing.T) { onEach(t, extensions8, testSMTPUTF8) }

func testSMTPUTF8(t *testing.T, p *lab.Pipeline) {
	client := connect(t, p)
	if !offers(t, p, client, "SMTPUTF8") {
		mustRefuseUTF8(t, p, client)
		return
	}
	everybody := []string{user8, extended8, lover8, quoted8, combined8, user}
	for _, c := range []struct {
		name, sender string
		recipients   []string
		raw          []byte
		delivered    []string
		edits        []string // of recipients, in the reply, as the wire has them
	}{
		{"clean", sender8, everybody, utf8Mail("schön", lab.CleanBody), everybody, nil},
		{"clean from nobody", "", everybody, utf8Mail("schön", lab.CleanBody), everybody, nil},
		{"spam for the good and the bad", sender8, everybody, utf8Mail("billig", lab.GTUBEBody()),
			[]string{"größe+spam@lab.test", lover8}, []string{
				"delrcpt=<u%c5%bcytkownik@lab.test>",
				"delrcpt=<gr%c3%b6%c3%9fe@lab.test>", "addrcpt=<gr%c3%b6%c3%9fe+spam@lab.test>",
				`delrcpt=<"a%20%c3%9f"@lab.test>`,
				"delrcpt=<e%cc%81te%cc%81@lab.test>",
				"delrcpt=<user@lab.test>",
			}},
		{"spam for the bad alone", sender8, []string{user8, combined8}, utf8Mail("billig", lab.GTUBEBody()), nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := now(p)
			mail := mail("", c.raw, nil).from(c.sender).to(c.recipients...).parameters("SMTPUTF8 BODY=8BITMIME", "")
			mail.envelope(t, client)
			reply, err := client.Data(c.raw)
			mustTake(t, p, reply, err)
			exchange := before.mustAsk(t, p, asked{c.sender, c.recipients})[0]
			mustAttributes(t, exchange, map[string]string{"protocol_name": "UTF8SMTP"}) // RFC 6531 section 4.3
			if got := recipientEdits(exchange); !slices.Equal(got, c.edits) {
				t.Errorf("amavisd edits %q, want %q", got, c.edits)
			}
			for _, d := range before.mustDeliver(t, p, c.delivered...) {
				if d.Sender != "<"+c.sender+">" {
					t.Errorf("delivered from %s, want <%s>", d.Sender, c.sender)
				}
			}
			if t.Failed() {
				t.Logf("amavisd was asked:\n%s\nand answered:\n%s", exchange.Request, exchange.Reply)
			}
		})
	}
}

// utf8Mail is a mail whose header has such addresses, too.
func utf8Mail(subject, body string) []byte {
	return lab.Text(lab.Header(sender8, user8, subject), body)
}

// recipientEdits are the lines of a reply that change recipients, in order.
func recipientEdits(exchange lab.Exchange) []string {
	var lines []string
	for line := range strings.Lines(string(exchange.Reply)) {
		if line = strings.TrimRight(line, "\r\n"); strings.HasPrefix(line, "delrcpt=") || strings.HasPrefix(line, "addrcpt=") {
			lines = append(lines, line)
		}
	}
	return lines
}

// mustRefuseUTF8: an MTA without the extension has none of such a mail.
func mustRefuseUTF8(t *testing.T, p *lab.Pipeline, client *lab.Client) {
	t.Helper()
	before := now(p)
	if reply, err := client.Command("MAIL FROM:<" + sender8 + "> SMTPUTF8"); err != nil || reply.Code/100 != 5 {
		t.Errorf("MAIL with SMTPUTF8: reply %q, error %v; want 5xx", reply, err)
	}
	mustTake(t, p, send(t, client, sender, []string{user}, cleanMail("ASCII")), nil)
	before.mustAsk(t, p, asked{sender, []string{user}})
	before.mustDeliver(t, p, user)
}
