package filter

import (
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
		"Received: from [IPv6:2001:DB8:0::1] (v6.example.org [IPv6:2001:db8::1])\n" +
			"\t(authenticated bits=0)\n" +
			"\tby mx.example.net (amavis-milter) with ESMTPSA id 415G78Xq012345\n" +
			"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256 verify=NO);\n\t" + testDate + "\n",
		"ip=2001:db8::1 rdns=v6.example.org helo=!IPv6:2001:DB8:0::1! by=mx.example.net id=415G78Xq012345 auth=ESMTPSA",
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
			"\t(authenticated)\n" +
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
		"Received: from client.example.org (client.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=client.example.org by=mx.example.net id=Q1234 auth=",
	},
	{
		"neither HELO nor a name",
		milter.Envelope{
			Client:   milter.Client{Name: "unknown", Address: "192.0.2.66"},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from [192.0.2.66] (unknown [192.0.2.66])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.66 rdns= helo=!192.0.2.66! by=mx.example.net id=Q1234 auth=",
	},
	{
		"no HELO, Postfix",
		milter.Envelope{
			Client:   milter.Client{Name: "client.example.org", Address: "192.0.2.1"},
			Hostname: "mx.example.net", QueueID: "4TT8zL1Xq3z1",
		},
		"Received: from client.example.org (client.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id 4TT8zL1Xq3z1;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=client.example.org by=mx.example.net id=4TT8zL1Xq3z1 auth=",
	},
	{
		"TLS (Postfix)",
		milter.Envelope{
			Client:   milter.Client{Helo: "client.example.org", Name: "client.example.org", Address: "192.0.2.1"},
			TLS:      milter.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_256_GCM_SHA384", CipherBits: "256"},
			Hostname: "mx.example.net", QueueID: "4TT8zL1Xq3z1",
		},
		"Received: from client.example.org (client.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTPS id 4TT8zL1Xq3z1\n" +
			"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256);\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=client.example.org by=mx.example.net id=4TT8zL1Xq3z1 auth=",
	},
	{
		"AUTH (Postfix): no bits are told",
		milter.Envelope{
			Client:   milter.Client{Helo: "[IPv6:2001:db8::66]", Name: "unknown", Address: "2001:db8::66"},
			Auth:     milter.Auth{Type: "PLAIN", Authen: "ann@example.net"},
			Hostname: "mx.example.net", QueueID: "4TT8zL1Xq3z1",
		},
		"Received: from [IPv6:2001:db8::66] (unknown [IPv6:2001:db8::66])\n" +
			"\t(authenticated)\n" +
			"\tby mx.example.net (amavis-milter) with ESMTPA id 4TT8zL1Xq3z1;\n\t" + testDate + "\n",
		"ip=2001:db8::66 rdns= helo=!IPv6:2001:db8::66! by=mx.example.net id=4TT8zL1Xq3z1 auth=ESMTPA",
	},
	{
		"SMTPUTF8 (Postfix)",
		milter.Envelope{
			Client:   milter.Client{Helo: "client.example.org", Name: "unknown", Address: "192.0.2.1"},
			Hostname: "mx.example.net", QueueID: "4TT8zL1Xq3z1", UTF8: true,
		},
		"Received: from client.example.org (unknown [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with UTF8SMTP id 4TT8zL1Xq3z1;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=client.example.org by=mx.example.net id=4TT8zL1Xq3z1 auth=",
	},
	{
		"SMTPUTF8, TLS, AUTH (Postfix)",
		milter.Envelope{
			Client:   milter.Client{Helo: "client.example.org", Name: "unknown", Address: "192.0.2.1"},
			TLS:      milter.TLS{Version: "TLSv1.2"},
			Auth:     milter.Auth{Type: "LOGIN", Authen: "ann"},
			Hostname: "mx.example.net", QueueID: "4TT8zL1Xq3z1", UTF8: true,
		},
		"Received: from client.example.org (unknown [192.0.2.1])\n" +
			"\t(authenticated)\n" +
			"\tby mx.example.net (amavis-milter) with UTF8SMTPSA id 4TT8zL1Xq3z1\n" +
			"\t(version=TLSv1.2);\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=client.example.org by=mx.example.net id=4TT8zL1Xq3z1 auth=UTF8SMTPSA",
	},
	{
		"SMTPUTF8, but the MTA names the protocol",
		milter.Envelope{
			Client:   milter.Client{Helo: "client.example.org", Name: "unknown", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "Q1234", UTF8: true,
		},
		"Received: from client.example.org (unknown [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns= helo=client.example.org by=mx.example.net id=Q1234 auth=",
	},
	{
		"sendmail, TLS and AUTH",
		milter.Envelope{
			Client:   milter.Client{Helo: "laptop.local", Name: "client.example.org", Address: "192.0.2.1"},
			TLS:      milter.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_256_GCM_SHA384", CipherBits: "256", Verify: "NO"},
			Auth:     milter.Auth{Type: "CRAM-MD5", Authen: "ann", SSF: "0"},
			Hostname: "mx.example.net", Protocol: "ESMTPSA", QueueID: "6ANJSnl2000115",
		},
		"Received: from laptop.local (client.example.org [192.0.2.1])\n" +
			"\t(authenticated bits=0)\n" +
			"\tby mx.example.net (amavis-milter) with ESMTPSA id 6ANJSnl2000115\n" +
			"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384 bits=256 verify=NO);\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=laptop.local by=mx.example.net id=6ANJSnl2000115 auth=ESMTPSA",
	},
	{
		"IPv4 mapped into IPv6",
		milter.Envelope{
			Client:   milter.Client{Helo: "client.example.org", Name: "client.example.org", Address: "::ffff:192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "Q1234",
		},
		"Received: from client.example.org (client.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=client.example.org by=mx.example.net id=Q1234 auth=",
	},
	{
		"link-local IPv6",
		milter.Envelope{
			Client:   milter.Client{Helo: "pc", Name: "unknown", Address: "fe80::1%eth0"},
			Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "Q1234",
		},
		"Received: from pc (unknown [IPv6:fe80::1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id Q1234;\n\t" + testDate + "\n",
		"ip=fe80::1 rdns= helo=pc by=mx.example.net id=Q1234 auth=",
	},
	{
		"HELO is a bare address",
		milter.Envelope{
			Client:   milter.Client{Helo: "198.51.100.9", Name: "client.example.org", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from 198.51.100.9 (client.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=198.51.100.9 by=mx.example.net id=Q1234 auth=",
	},
	{
		"HELO in UTF-8, with a dot at its end",
		milter.Envelope{
			Client:   milter.Client{Helo: "b\u00fc.example.org.", Name: "client.example.org", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "ESMTP", QueueID: "Q1234",
		},
		"Received: from b??.example.org. (client.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=client.example.org helo=b??.example.org. by=mx.example.net id=Q1234 auth=",
	},
	{
		"HELO in the words of other MTAs",
		milter.Envelope{
			Client:   milter.Client{Helo: "by", Name: "authenticated.qmail-smtpd.example.org", Address: "192.0.2.1"},
			Hostname: "mx.example.net", Protocol: "SMTP", QueueID: "Q1234",
		},
		"Received: from by (authenticated.qmail-smtpd.example.org [192.0.2.1])\n" +
			"\tby mx.example.net (amavis-milter) with SMTP id Q1234;\n\t" + testDate + "\n",
		"ip=192.0.2.1 rdns=authenticated.qmail-smtpd.example.org helo=by by=mx.example.net id=Q1234 auth=",
	},
	{
		"mail of Postfix's sendmail command",
		milter.Envelope{
			Client:   milter.Client{Helo: "localhost", Name: "localhost", Address: "127.0.0.1"},
			Hostname: "mx.example.net", QueueID: "4TT8zL1Xq3z1",
		},
		"Received: from localhost (localhost [127.0.0.1])\n" +
			"\tby mx.example.net (amavis-milter) with ESMTP id 4TT8zL1Xq3z1;\n\t" + testDate + "\n",
		"ip=127.0.0.1 rdns=localhost helo=localhost by=mx.example.net id=4TT8zL1Xq3z1 auth=",
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
