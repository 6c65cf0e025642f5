package filter

import (
	"reflect"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

func TestRequest(t *testing.T) {
	full := testEnvelope()
	full.Sender = milter.NullSender
	full.Auth = milter.Auth{Type: "PLAIN", Authen: "ann", SSF: "256"}
	full.TLS = milter.TLS{Version: "TLSv1.3"}
	full.DaemonName = "MTA-v6"
	full.Client.Address = "2001:db8::1"
	unknown := testEnvelope()
	unknown.Client.Name, unknown.Client.Port, unknown.Protocol = "[192.0.2.1]", 0, ""
	local := testEnvelope()
	local.Client = milter.Client{Helo: "localhost", Name: "unknown", Port: 25}
	mapped := testEnvelope()
	mapped.Client.Address = "::ffff:192.0.2.1"
	paths := []string{"<bob@example.net>", "<carl@example.net>"}

	for _, c := range []struct {
		name string
		env  *milter.Envelope
		opt  Options
		want ampdp.Request
	}{
		{"everything", full, Options{DaemonPolicyBank: true, DeliveryCareOf: ampdp.CareOfServer}, ampdp.Request{
			QueueID: "415G78Xq012345", ProtocolName: "ESMTP", HeloName: "pc.example.org", ClientName: "pc.example.org", ClientAddress: "2001:db8::1", ClientPort: 40000,
			Sender: "<>", Recipients: paths, DeliveryCareOf: "server",
			PolicyBanks: []string{"MTA-v6", "SMTP_AUTH", "SMTP_AUTH_PLAIN", "SMTP_AUTH_PLAIN_256"},
		}},
		{"a client without a name", unknown, Options{DaemonPolicyBank: true}, ampdp.Request{
			QueueID: "415G78Xq012345", ProtocolName: "ESMTP", HeloName: "pc.example.org", ClientName: "unknown", ClientAddress: "192.0.2.1",
			Sender: "<ann@example.org>", Recipients: paths,
		}},
		{"a local client has neither address nor name", local, Options{}, ampdp.Request{
			QueueID: "415G78Xq012345", ProtocolName: "ESMTP", HeloName: "localhost",
			Sender: "<ann@example.org>", Recipients: paths,
		}},
		{"an IPv4 address within IPv6", mapped, Options{}, ampdp.Request{
			QueueID: "415G78Xq012345", ProtocolName: "ESMTP", HeloName: "pc.example.org", ClientName: "pc.example.org", ClientAddress: "192.0.2.1", ClientPort: 40000,
			Sender: "<ann@example.org>", Recipients: paths,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.TempDir, c.want.MailFile = "/w/milter/x", "/w/milter/x/email.txt"
			f := New(c.opt)
			defer f.Close()
			if got := f.request(c.env, "/w/milter/x", "/w/milter/x/email.txt"); !reflect.DeepEqual(*got, c.want) {
				t.Errorf("request\n     %+v\nwant %+v", *got, c.want)
			}
		})
	}
}

func TestPolicyBanks(t *testing.T) {
	for _, c := range []struct {
		name       string
		auth       milter.Auth
		daemon     string
		daemonName bool
		want       []string
	}{
		{"nothing", milter.Auth{}, "MTA", false, nil},
		{"the listener", milter.Auth{}, "MTA", true, []string{"MTA"}},
		{"no listener told", milter.Auth{}, "", true, nil},
		{"a listener with a comma", milter.Auth{}, "A,B", true, nil},
		{"all of AUTH", milter.Auth{Type: "CRAM-MD5", Authen: "ann", SSF: "0"}, "", false, []string{"SMTP_AUTH", "SMTP_AUTH_CRAM-MD5", "SMTP_AUTH_CRAM-MD5_0"}},
		{"no bits", milter.Auth{Type: "PLAIN", Authen: "ann"}, "", false, []string{"SMTP_AUTH", "SMTP_AUTH_PLAIN"}},
		{"bits that are none", milter.Auth{Type: "PLAIN", Authen: "ann", SSF: "1,MYNETS"}, "", false, []string{"SMTP_AUTH", "SMTP_AUTH_PLAIN"}},
		{"bits without end", milter.Auth{Type: "PLAIN", Authen: "ann", SSF: "123456"}, "", false, []string{"SMTP_AUTH", "SMTP_AUTH_PLAIN"}},
		{"a mechanism with a comma", milter.Auth{Type: "X,MYNETS", SSF: "0"}, "", false, []string{"SMTP_AUTH"}},
		{"only a user", milter.Auth{Authen: "ann", SSF: "0"}, "", false, []string{"SMTP_AUTH"}},
		{"a stray SSF is no AUTH", milter.Auth{SSF: "0"}, "", false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := &milter.Envelope{Auth: c.auth, DaemonName: c.daemon}
			f := New(Options{DaemonPolicyBank: c.daemonName})
			defer f.Close()
			if got := f.policyBanks(env); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
