package e2e

import (
	"regexp"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// diffRequestRows are about what amavisd is asked.
var diffRequestRows = []diffRow{
	{
		id: "request-form", theirs: "lines end in LF", ours: "lines end in CR LF", why: "what AM.PDP asks for; amavisd reads both",
		shows: []diffPattern{{where: `request line ends`, theirs: `LF`, ours: `CR LF`}},
	},
	{
		id: "request-order", theirs: "envelope first, client last", ours: "client first, envelope last",
		why: "the order means nothing to AM.PDP but for request=, which is first in both",
		shows: []diffPattern{{
			where:  `request order`,
			theirs: `request queue_id( protocol_name)? sender recipient tempdir tempdir_removed_by mail_file delivery_care_of( client_address)? client_name helo_name( policy_bank)?`,
			ours:   `request version_client protocol_name helo_name( client_name client_address)?( client_port)? queue_id tempdir tempdir_removed_by mail_file delivery_care_of( policy_bank)? sender recipient`,
		}},
	},
	{
		id: "version-client", theirs: "not sent", ours: "`version_client=2`", why: "tells amavisd which protocol is understood",
		shows: []diffPattern{{where: `request version_client`, theirs: ``, ours: `2`}},
	},
	{
		id: "client-port", theirs: "not sent", ours: "`client_port`", why: "an address behind NAT tells little without it",
		shows: []diffPattern{{where: `request client_port`, theirs: ``, ours: `PORT`}},
	},
	{
		id: "spool-name", theirs: "`WORKDIR/afQUEUEID`, on Postfix `WORKDIR/afRANDOM`", ours: "`WORKDIR/milter/amavis-milter-QUEUEID`",
		why: "amavisd takes its log id from such a name; one level lower Debian's cleaning of `amavis-*` does not reach it",
		shows: []diffPattern{
			{where: `request tempdir`, theirs: `/var/lib/amavis/tmp/af(QUEUEID|RANDOM)`, ours: `/var/lib/amavis/tmp/milter/amavis-milter-QUEUEID`},
			{where: `request mail_file`, theirs: `/var/lib/amavis/tmp/af(QUEUEID|RANDOM)/email\.txt`, ours: `/var/lib/amavis/tmp/milter/amavis-milter-QUEUEID/email\.txt`},
		},
	},
	{
		id: "log-id", theirs: "amavisd's own, `12345-01`", ours: "`QUEUEID-01`", why: "one grep finds a mail in the logs of MTA, milter and amavisd",
		shows: []diffPattern{{cases: `amavisd, .*`, where: `log_id of amavisd`, theirs: `AMAVISD-NN`, ours: `QUEUEID-NN`}},
	},
	{
		id: "protocol-name", theirs: "Postfix: not sent", ours: "Postfix: `ESMTP`, `ESMTPS`, `ESMTPA`, `ESMTPSA`, `UTF8SMTP` …",
		why:   "Postfix names no protocol; it follows from TLS, AUTH and SMTPUTF8",
		shows: []diffPattern{{where: `request protocol_name`, theirs: ``, ours: `ESMTPS?A?|UTF8SMTP`, mta: lab.Postfix}},
	},
	{
		id: "protocol-per-mail", theirs: "that of the connection's first mail", ours: "that of the mail", why: "a client may say HELO after EHLO",
		shows: []diffPattern{{cases: `HELO after EHLO`, where: `request protocol_name`, theirs: `ESMTP`, ours: `SMTP`, mta: lab.Sendmail}},
	},
	{
		id: "ipv6", theirs: "`client_address=IPv6:2001:db8::1`", ours: "`client_address=2001:db8::1`",
		why:   "an address without a prefix is what AM.PDP has; amavisd takes both",
		shows: []diffPattern{{where: `request client_address`, theirs: `IPv6:2001:db8::\w+`, ours: `2001:db8::\w+`, also: func(t, o string) bool { return t == "IPv6:"+o }}},
	},
	{
		id: "client-name", theirs: "`client_name=[192.0.2.1]` for a client without a verified name", ours: "`client_name=unknown`",
		why:   "that is not a name; both write `unknown` into the Received field",
		shows: []diffPattern{{where: `request client_name`, theirs: `\[[\w.:]+\]`, ours: `unknown`}},
	},
	{
		id: "no-client", theirs: "`client_name=localhost` and `(localhost )` in the Received field for mail that no SMTP client sent", ours: "no client at all, `(from unknown@localhost)`",
		why: "there is none; SpamAssassin passes over such a field",
		shows: []diffPattern{
			{cases: `SMTP without a client`, where: `request client_name`, theirs: `localhost`, ours: ``},
			{
				cases: `SMTP without a client`, where: `spool Received`, theirs: `Received: from helo\.remote\.test \(localhost \)\r\n\tby mx\.lab\.test \(amavisd-milter\) with ESMTP id QUEUEID;.*`,
				ours: `Received: \(from unknown@localhost\)\r\n\tby mx\.lab\.test \(amavis-milter\) with ESMTP id QUEUEID;\r\n\tDATE`,
			},
		},
	},
	{
		id: "brackets", theirs: "`sender=a@b` where the client left the brackets out", ours: "`sender=<a@b>`",
		why: "AM.PDP wants a path with its brackets; likewise `recipient`",
		shows: []diffPattern{
			{where: `request (sender|recipient)`, theirs: `[^<>]+`, ours: `<[^<>]+>`, also: func(t, o string) bool { return "<"+t+">" == o }},
		},
	},
	{
		id: "source-route", theirs: "`sender=<@relay:a@b>`", ours: "`sender=<a@b>`", why: "RFC 5321 has routes ignored, and amavisd's lists of senders and recipients know none",
		shows: []diffPattern{
			{where: `request (sender|recipient)`, theirs: `<@.*:\w+@[\w.]+>`, ours: `<\w+@[\w.]+>`, also: func(t, o string) bool { return strings.HasSuffix(t, ":"+o[1:]) }},
		},
	},
	{
		id: "odd-path", theirs: "`recipient=<b!a>`, `<a%b>`, `\"x\"<a@b>`, `<a@b,>` … as typed", ours: "`recipient=<a@b>`, what the MTA reads in it; likewise `sender`",
		why: "amavisd judges whom the MTA delivers to, and not a user of a foreign domain or another one of ours",
		shows: []diffPattern{
			{cases: `sender and recipient as routes of other networks`, where: `request sender`, theirs: `<remote\.test!someone>`, ours: `<someone@remote\.test>`},
			{cases: `sender and recipient as routes of other networks`, where: `request recipient`, theirs: `<user%lab\.test>`, ours: `<user@lab\.test>`},
		},
	},
	{
		id: "utf8-address", theirs: "each byte of an SMTPUTF8 address beyond ASCII becomes `\\xff`", ours: "the address as it is",
		why:   "the C program's escapes are wrong for such bytes: amavisd judges another address",
		shows: []diffPattern{{cases: `UTF-8 addresses`, where: `request (sender|recipient)`, theirs: `<\w+[\x{FFFD}]{2,4}\w+@\w+\.test>`, ours: `<(grüße|jürgen)@\w+\.test>`}},
	},
}

// diffSpoolRows are about the mail file.
var diffSpoolRows = []diffRow{
	{
		id: "received", theirs: "`with` only if the MTA tells `r`, no `id` on Postfix; `(envelope-from …)`, `(authenticated as …)`", ours: "always `with` and `id`; TLS; neither sender nor account",
		why: "the form that sendmail writes and SpamAssassin reads, with the same client in it",
		shows: []diffPattern{{
			where:  `spool Received`,
			theirs: `Received: from \S+ \(\S+ \[[\w.:]+\]\)( \(authenticated( bits=0)?\))?\r\n\tby mx\.lab\.test \(amavisd-milter\)( with \w+)?( \(authenticated as [\w@.]+\))?( id QUEUEID)?;\r\n\tDATE( \(UTC\))?\r\n\t\(envelope-from \S.*\)`,
			ours:   `Received: from \S+ \(\S+ \[[\w.:]+\]\)(\r\n\t\(authenticated( bits=0)?\))?\r\n\tby mx\.lab\.test \(amavis-milter\) with \w+ id QUEUEID(\r\n\t\(version=TLSv1\.\d cipher=\w+ bits=\d+( verify=NO)?\))?;\r\n\tDATE`,
			also: func(t, o string) bool { // the same client, authenticated likewise
				end := regexp.MustCompile(`\]\)\s*(\(authenticated[^)]*\))?`)
				return strings.ReplaceAll(t[:end.FindStringIndex(t)[1]], "\r\n\t", " ") == strings.ReplaceAll(o[:end.FindStringIndex(o)[1]], "\r\n\t", " ")
			},
		}},
	},
	{
		id: "field-bytes", theirs: "a space is put behind the colon where there was none (`Subject:x`, tab, folded first line)", ours: "the field as it was sent",
		why: "a DKIM signature is over the bytes that were sent; SpamAssassin has rules about the missing space",
		shows: []diffPattern{{
			where: `spool header`, theirs: `[\w-]+: .*`, ours: `[\w-]+:([^ ].*)?`,
			also: func(t, o string) bool { return t == strings.Replace(o, ":", ": ", 1) },
		}, {
			// SpamAssassin has a rule about fields without the space.
			cases: `amavisd, Subject of spam without space`, where: diffHeader, theirs: `X-Spam-(Score|Status): .*`, ours: `X-Spam-(Score: .*|Status: .*HDRS_MISSP=1,.*)`,
		}},
	},
	{
		id: "left-behind", theirs: "the mail stays in the spool until the next MAIL or the end of the connection", ours: "it is gone before the client has its reply",
		why:   "an idle connection, or a kill, leaves nobody's mail on the disk",
		shows: []diffPattern{{where: `left after the reply`, theirs: `the spool directory`, ours: ``}},
	},
	{
		id: "disk-full", theirs: "a spool that cannot be written makes 451 at MAIL", ours: "at the end of the mail",
		why: "nothing touches the disk before DATA, and most clients never come so far",
		shows: []diffPattern{
			{cases: `unwritable spool`, where: `reply to MAIL`, theirs: diffMalfunction, ours: `250 2\.1\.0 .*`},
			{cases: `unwritable spool`, where: `reply to (RCPT|DATA)`, theirs: `503 5\.\d\.\d .*`, ours: `250 2\.1\.5 .*|354 .*`},
			{cases: `unwritable spool`, where: diffReply, theirs: ``, ours: diffUnavailable},
		},
	},
}
