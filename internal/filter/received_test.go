package filter

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/milter"
)

var testTime = time.Date(2024, time.February, 5, 16, 7, 8, 0, time.FixedZone("", 3600))

const testDate = "Mon, 05 Feb 2024 16:07:08 +0100"

// receivedCases are envelopes with the Received field that they get. The test
// against SpamAssassin uses them too: relay is what its parser must make of the
// field, in the words of its "X-Spam-Relays" (empty: skipped, not unparseable).
var receivedCases = []struct {
	name  string
	env   milter.Envelope
	field string
	relay string
}{
	{
		"sendmail, verified name",
		milter.Envelope{
			Client:   milter.Client{Helo: "mail.example.org", Name: "Mail.Example.ORG", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "415G78Xq012345",
		},
		"Received: from mail.example.org (mail.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id 415G78Xq012345;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=mail.example.org helo=mail.example.org by=mx.example.net id=415G78Xq012345 auth=",
	},
	{
		"sendmail, no verified name",
		milter.Envelope{
			Client:   milter.Client{Helo: "pc", Name: "[192.0.2.1]", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "415G78Xq012345",
		},
		"Received: from pc (unknown [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id 415G78Xq012345;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=pc by=mx.example.net id=415G78Xq012345 auth=",
	},
	{
		"Postfix, unknown, no protocol, no queue id",
		milter.Envelope{
			Client:   milter.Client{Helo: "pc", Name: "unknown", Address: "192.0.2.1"},
			Hostname: "mx.example.net",
		},
		"Received: from pc (unknown [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=pc by=mx.example.net id= auth=",
	},
	{
		"no macros: our host",
		milter.Envelope{Client: milter.Client{Helo: "pc", Name: "client.example.org", Address: "192.0.2.1"}},
		"Received: from pc (client.example.org [192.0.2.1])\n" +
			"\tby milter.example.net (amavis-milter) with ESMTP;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=pc by=milter.example.net id= auth=",
	},
	{
		"IPv6, TLS, AUTH",
		milter.Envelope{
			Client:   milter.Client{Helo: "[IPv6:2001:DB8:0::1]", Name: "v6.example.org", Address: "2001:db8::1"},
			TLS:      milter.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_256_GCM_SHA384", CipherBits: "256", Verify: "NO"},
			Auth:     milter.Auth{Type: "PLAIN", Authen: "ann", SSF: "0"},
			Hostname: "mx.example.net", Protocol: "ESMTPSA", QueueID: "415G78Xq012345",
		},
		"Received: from [IPv6:2001:db8::1] (v6.example.org [IPv6:2001:db8::1])\n" +
			"\t(authenticated bits=0)\n" +
			"\tby mx.example.net (amavis-milter) with ESMTPSA id 415G78Xq012345\n" +
			"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256 verify=NO);\n\t" + testDate + "\n",
		"ip=2001:db8::1 rdns=v6.example.org helo=!IPv6:2001:db8::1! by=mx.example.net id=415G78Xq012345 auth=ESMTPSA",
	},
	{
		"AUTH in an old protocol word",
		milter.Envelope{
			Client:   milter.Client{Helo: "[192.0.2.7]", Name: "unknown", Address: "192.0.2.1"},
			Auth:     milter.Auth{Type: "DIGEST-MD5", Authen: "ann", SSF: "128"},
			Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "Q1234",
		},
		"Received: from [192.0.2.7] (unknown [192.0.2.1])\n" +
			"\t(authenticated bits=128)\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=!192.0.2.7! by=mx.example.net id=Q1234 auth=Sendmail",
	},
	{
		"TLS and AUTH without a protocol (Postfix)",
		milter.Envelope{
			Client:   milter.Client{Helo: "pc", Name: "unknown", Address: "192.0.2.1"},
			TLS:      milter.TLS{Version: "TLSv1.2", Cipher: "ECDHE-RSA-AES256-GCM-SHA384"},
			Auth:     milter.Auth{Authen: "ann", SSF: "many"},
			Hostname: "mx.example.net", QueueID: "4TT8zL1Xq3z1",
		},
		"Received: from pc (unknown [192.0.2.1])\n" +
			"\t(authenticated bits=0)\n" +
			"\tby mx.example.net (amavis-milter) with ESMTPSA id 4TT8zL1Xq3z1\n" +
			"\t(version=TLSv1.2 cipher=ECDHE-RSA-AES256-GCM-SHA384);\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=pc by=mx.example.net id=4TT8zL1Xq3z1 auth=ESMTPSA",
	},
	{
		"local submission",
		milter.Envelope{
			Client:   milter.Client{Helo: "localhost", Name: "localhost"},
			Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "Q1234",
		},
		"Received: (from unknown@localhost)\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id Q1234;\n\t" + testDate + "\n",
		"",
	},
	{
		"no HELO",
		milter.Envelope{
			Client:   milter.Client{Name: "client.example.org", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from unknown (client.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=unknown by=mx.example.net id=Q1234 auth=",
	},
	{
		"HELO tries to be the whole field",
		milter.Envelope{
			Client: milter.Client{
				Helo: "x (good.example.com [198.51.100.9]) by mx.example.net (amavis-milter) with ESMTPA;\r\n\tX-Spam: no\r\n\r\n\x00body",
				Name: "unknown", Address: "192.0.2.1",
			},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from x??good.example.com??198.51.100.9???by?mx.example.net??amavis-milter??with?ESMTPA????X-Spam:?no?????body (unknown [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=x??good.example.com??198.51.100.9???by?mx.example.net??amavis-milter??with?ESMTPA????X-Spam:?no?????body by=mx.example.net id=Q1234 auth=",
	},
	{
		"HELO tries to be a sender, and an authentication",
		milter.Envelope{
			Client:   milter.Client{Helo: "envelope-from=ceo@example.com])(authenticated)", Name: "unknown", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from envelope-from?ceo?example.com???authenticated? (unknown [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=envelope-from?ceo?example.com???authenticated? by=mx.example.net id=Q1234 auth=",
	},
	{
		"a literal HELO and a name with Exim in it: SpamAssassin took the HELO for the address",
		milter.Envelope{
			Client:   milter.Client{Helo: "[127.0.0.1]", Name: "Exim.example.org", Address: "192.0.2.1"},
			Hostname: "Exim.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from [127.0.0.1] (exim.example.org [192.0.2.1])\n" +
			"\tby exim.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=exim.example.org helo=!127.0.0.1! by=exim.example.net id=Q1234 auth=",
	},
	{
		"HELO Exim",
		milter.Envelope{
			Client:   milter.Client{Helo: "Exim", Name: "unknown", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from Exim (unknown [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=Exim by=mx.example.net id=Q1234 auth=",
	},
	{
		"hostile words of the MTA",
		milter.Envelope{
			Client:   milter.Client{Helo: "[192.0.2.1", Name: "a b", Address: "::ffff:192.0.2.1"},
			TLS:      milter.TLS{Version: "TLS)\n\tid 1", Cipher: "x y"},
			Hostname: "mx)\n(", Protocol: "ESMTP (", QueueID: "Q1\n2;34",
		},
		"Received: from ?192.0.2.1 (unknown [192.0.2.1])\n" +
			"\tby milter.example.net (amavis-milter) with ESMTPS id Q1?2?34\n" +
			"\t(version=TLS???id?1 cipher=x?y);\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=?192.0.2.1 by=milter.example.net id=Q1?2?34 auth=",
	},
}

func TestReceivedField(t *testing.T) {
	for _, c := range receivedCases {
		t.Run(c.name, func(t *testing.T) {
			if got := receivedField(&c.env, "milter.example.net", testTime); got != c.field {
				t.Errorf("got  %q\nwant %q", got, c.field)
			}
		})
	}
}

func TestReceivedFieldWithoutAnyHostName(t *testing.T) {
	got := receivedField(&milter.Envelope{}, "", testTime)
	want := "Received: (from unknown@localhost)\n\tby localhost (amavis-milter) with ESMTP;\n\t" + testDate + "\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// The limits at n-1, n, n+1.
func TestReceivedFieldLimits(t *testing.T) {
	for _, n := range []int{maxHelo - 1, maxHelo, maxHelo + 1, 100_000} {
		if got, want := len(heloWord(strings.Repeat("h", n))), min(n, maxHelo); got != want {
			t.Errorf("a HELO of %d bytes became one of %d, want %d", n, got, want)
		}
	}
	for _, n := range []int{maxToken - 1, maxToken, maxToken + 1} {
		if got, want := len(token(strings.Repeat("q", n))), min(n, maxToken); got != want {
			t.Errorf("a queue id of %d bytes became one of %d, want %d", n, got, want)
		}
		p := strings.Repeat("P", n)
		if got := protocol(&milter.Envelope{Protocol: p}); (got == p) != (n <= maxToken) {
			t.Errorf("a protocol of %d bytes became %q", n, got)
		}
	}
	for _, n := range []int{maxHostName - 1, maxHostName, maxHostName + 1} {
		name := strings.Repeat("n", n)
		if got := clientName(&milter.Envelope{Client: milter.Client{Name: name}}); (got == name) != (n <= maxHostName) {
			t.Errorf("a client name of %d bytes became %q", n, got)
		}
	}
}

// sendmailForm is the expression by which SpamAssassin 4.0.1 knows sendmail's
// Received fields (Message/Metadata/Received.pm), in Go's syntax.
var sendmailForm = regexp.MustCompile(`^Received: from (\S+) \((\S+) \[(?:IPv6:)?([0-9a-f:.]+)\]\)(?: \(authenticated bits=\d+\))? by (\S+) \(amavis-milter\) with ([A-Z0-9]+)(?: id (\S+))?(?: \([^()]*\))?; (.*)$`)

var localForm = regexp.MustCompile(`^Received: \(from unknown@localhost\)(?: \(authenticated bits=\d+\))? by (\S+) \(amavis-milter\) with ([A-Z0-9]+)(?: id (\S+))?(?: \([^()]*\))?; (.*)$`)

func FuzzReceivedField(f *testing.F) {
	for _, c := range receivedCases {
		e := c.env
		f.Add(e.Client.Helo, e.Client.Name, e.Client.Address, e.Hostname, e.Protocol, e.QueueID, e.TLS.Version, e.TLS.Cipher, e.Auth.Type, e.Auth.SSF)
	}
	f.Add("h\r\n.\r\n", "n\n\x00", "fe80::1%eth0", "j\\", "\xff", "i i", "(", ")", "P\n", "-1")
	f.Fuzz(func(t *testing.T, helo, name, address, host, proto, queueID, version, cipher, mech, ssf string) {
		if a, err := netip.ParseAddr(address); err != nil || a.Zone() != "" {
			address = "" // package milter passes nothing else on
		}
		env := milter.Envelope{
			Client:   milter.Client{Helo: helo, Name: name, Address: address},
			TLS:      milter.TLS{Version: version, Cipher: cipher, CipherBits: ssf, Verify: mech},
			Auth:     milter.Auth{Type: mech, SSF: ssf},
			Hostname: host, Protocol: proto, QueueID: queueID,
		}
		field := receivedField(&env, "milter.example.net", testTime)
		text, ok := strings.CutSuffix(field, "\n")
		if !ok {
			t.Fatalf("%q does not end in LF", field)
		}
		for i, line := range strings.Split(text, "\n") {
			if i > 0 && (len(line) < 2 || line[0] != '\t' || line[1] == '\t' || line[1] == ' ') {
				t.Errorf("line %d %q is not a folded one", i, line)
			}
			if len(line) >= 998 {
				t.Errorf("line %d is %d bytes long", i, len(line))
			}
			for _, c := range []byte(strings.TrimPrefix(line, "\t")) {
				if c < ' ' || c >= 0x7f {
					t.Errorf("line %d has the byte %#x", i, c)
				}
			}
		}
		form := sendmailForm
		if address == "" {
			form = localForm
		}
		m := form.FindStringSubmatch(strings.ReplaceAll(text, "\n\t", " "))
		if m == nil {
			t.Fatalf("%q is not of the form of sendmail", field)
		}
		if m[len(m)-1] != testDate {
			t.Errorf("the date is %q", m[len(m)-1])
		}
		if address != "" {
			if got, want := netip.MustParseAddr(m[3]), netip.MustParseAddr(address).Unmap(); got != want {
				t.Errorf("the address is %v, want %v", got, want)
			}
		}
	})
}
