package faults

import (
	"fmt"
	"strings"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// passing is the verdict on a message that passes with these edits.
func passing(edits ...string) string {
	return strings.Join(append(edits[:len(edits):len(edits)],
		`chgheader 1 "X-Amavis-Milter-Unscanned" ""`, `chgheader 1 "X-Virus-Scanned" " by amavis-milter"`, "accept"), "\n")
}

// edited is a reply with one edit and return_value=continue.
func edited(edit string) string { return ampdptest.Lines(edit, "return_value=continue") }

// returned is a reply with an edit, a setreply and a return_value.
func returned(value, setReply string) string {
	return ampdptest.Lines("addheader=X-A b", "delrcpt=<bob@example.net>", "setreply="+setReply, "return_value="+value)
}

// oddReplies are whole replies that nobody would expect of amavisd.
func oddReplies() []scannerFault {
	var faults []scannerFault
	add := func(point, fault, detail, verdict string, h ampdptest.Handler) {
		faults = append(faults, scannerFault{point: point, fault: fault, detail: detail, h: h, verdict: verdict, requests: 1})
	}
	reply := func(point, fault, detail, verdict, reply string) {
		add(point, fault, detail, verdict, ampdptest.Raw(reply))
	}
	for n := 1; n <= 3; n++ {
		add("reply", "in pieces", fmt.Sprint(n), goodVerdict, inPieces(goodReply, n))
	}
	add("reply", "before the request", "", goodVerdict, early)
	reply("reply", "bare LF", "", goodVerdict, strings.ReplaceAll(goodReply, "\r\n", "\n"))
	reply("reply", "twice", "the same", goodVerdict, goodReply+goodReply)
	reply("reply", "twice", "another", goodVerdict, goodReply+returned("reject", "550 5.7.1 no"))
	add("reply", "twice", "in two writes", goodVerdict, inPieces(goodReply+returned("reject", "550 5.7.1 no"), len(goodReply)))
	reply("reply", "garbage behind it", "", goodVerdict, goodReply+randomBytes(1, 3000))
	reply("return_value", "first", "", goodVerdict, "return_value=continue\r\n"+replaced("return_value", []string{}...))
	reply("return_value", "escaped", "", goodVerdict, replaced("return_value", "return%5fvalue=%63ontinue"))
	reply("return_value", "accept", "", strings.ReplaceAll(goodVerdict, "continue", "accept"), replaced("return_value", "return_value=accept"))
	for _, version := range []string{"1", "3", "0", "-1", "x", "", "99999999999999999999", "2 3", "%00"} {
		reply("version_server", "wrong", version, goodVerdict, replaced("version_server", "version_server="+version))
	}
	reply("version_server", "missing", "", goodVerdict, replaced("version_server", []string{}...))
	reply("version_server", "twice", "", goodVerdict, replaced("version_server", "version_server=1", "version_server=2"))
	for _, id := range []string{"", "%0d%0a2026-01-01T00:00:00Z info forged", "a\rb", "\x1b[2J%1b[2J", "\x00%00", "\xff%80", "\" x=\"", strings.Repeat("A", 100_000)} {
		reply("log_id", "hostile", short(id), goodVerdict, replaced("log_id", "log_id="+id))
	}
	reply("log_id", "twice", "", goodVerdict, replaced("log_id", "log_id=a", "log_id=b"))
	reply("log_id", "missing", "", goodVerdict, replaced("log_id", []string{}...))
	for _, line := range []string{"=", "=x", "replacebody=/etc/passwd", "%0a=%0a", "\x00=\x00", "x==", strings.Repeat("x", 70_000) + "=" + strings.Repeat("y", 70_000), strings.Repeat("x=y\r\n", 999) + "x=y"} {
		reply("unknown attribute", "hostile", short(line), goodVerdict, replaced("exit_code", line))
	}
	reply("exit_code", "contradicts", "", goodVerdict, replaced("exit_code", "exit_code=75"))
	return append(append(faults, wrongClasses()...), hostileEdits()...)
}

// short cuts what would make a long name.
func short(s string) string { return s[:min(len(s), 20)] }

// wrongClasses have a setreply that does not go with the return_value, which counts, or
// that cannot be sent.
func wrongClasses() []scannerFault {
	var faults []scannerFault
	for _, c := range []struct{ value, setReply, verdict string }{
		{"continue", "550 5.7.1 no", passing(`addheader "X-A" " b"`, `delrcpt "<bob@example.net>"`)},
		{"accept", "451 4.7.1 no", ""}, // see below
		{"discard", "250 2.6.0 ok", "discard"},
		{"discard", "550 5.7.1 no", "discard"},
		{"discard", "451 4.7.1 no", "discard"},
		{"reject", "250 2.6.0 ok", rejectedVerdict},
		{"reject", "451 4.7.1 later", rejectedVerdict},
		{"reject", "354 3.0.0 go%20on", rejectedVerdict},
		{"reject", "100 1.0.0 x", rejectedVerdict},
		{"reject", "550 4.7.1 no", rejectedVerdict},
		{"reject", "550 2.7.1 no", rejectedVerdict},
		{"reject", "550 5.7 no", rejectedVerdict},
		{"reject", "550 5.7.1.1 no", rejectedVerdict},
		{"reject", "550 5.1234.1 no", rejectedVerdict},
		{"reject", "550 5.7.1%0d%0a no", rejectedVerdict},
		{"reject", "550  no", rejectedVerdict},
		{"reject", "550 5.7.1 ", "reply 550 5.7.1 Message rejected"},
		{"reject", "550 5.7.1 no%0d%0a250%20ok%0a%00%1b", "reply 550 5.7.1 no 250 ok ??"},
		{"reject", "550 5.7.1 100%25%20%25s", "reply 550 5.7.1 100%% %%s"},
		{"reject", "550 5.7.1 " + strings.Repeat("x", 10_000), "reply 550 5.7.1 " + strings.Repeat("x", 480)},
		{"tempfail", "250 2.6.0 ok", unavailableVerdict},
		{"tempfail", "550 5.7.1 no", unavailableVerdict},
		{"tempfail", "451 5.7.1 no", unavailableVerdict},
		{"tempfail", "451 4.5.0 Failure:%20/var/lib/amavis%20is%20full", unavailableVerdict},
		{"tempfail", "451 4.5.0 Error%20in%20processing,%20id=1,%20/secret", unavailableVerdict},
		{"tempfail", "451 4.7.1 later", "reply 451 4.7.1 later"},
	} {
		if c.verdict == "" {
			c.verdict = passing(`addheader "X-A" " b"`, `delrcpt "<bob@example.net>"`)
		}
		faults = append(faults, scannerFault{
			point: "return_value " + c.value, fault: "setreply of another class", detail: short(c.setReply),
			h: ampdptest.Raw(returned(c.value, c.setReply)), verdict: c.verdict, requests: 1,
		})
	}
	return faults
}

// hostileEdits can be read and are sent in a form that does no harm, or make the
// message fail as a whole.
func hostileEdits() []scannerFault {
	long := strings.Repeat("x", 60_000)
	var faults []scannerFault
	for _, c := range []struct{ edit, verdict string }{
		{"addheader=X-A a%0d%0aEvil:%20b", passing(`addheader "X-A" " a\n\tEvil: b"`)},
		{"addheader=X-A a%0aEvil:%20b%0a%0abody", passing(`addheader "X-A" " a\n\tEvil: b\n\t\n\tbody"`)},
		{"addheader=X-A a%0dEvil:%20b", passing(`addheader "X-A" " a Evil: b"`)},
		{"addheader=X-A a\rEvil:b", passing(`addheader "X-A" " a Evil:b"`)},
		{"addheader=X-A a%00b\x00c", passing(`addheader "X-A" " a b c"`)},
		{"addheader=X-A ", passing(`addheader "X-A" " "`)},
		{"addheader=X-A " + long, filterFailure},
		{"insheader=1 X-A " + long, filterFailure},
		{"chgheader=1 Subject " + long, filterFailure},
		{"addheader=" + long + " x", filterFailure},
		{"insheader=0 X-A a%0d%0aEvil:%20b", passing(`insheader 0 "X-A" " a\n\tEvil: b"`)},
		{"insheader=2147483647 X-A b", passing(`insheader 2147483647 "X-A" " b"`)},
		{"insheader=%30 X-A b", passing(`insheader 0 "X-A" " b"`)},
		{"chgheader=0 Subject y", passing(`chgheader 1 "Subject" " y"`)},
		{"chgheader=1 sUBJECT y", passing(`chgheader 1 "Subject" " y"`)},
		{"chgheader=1 Subject a%00%0d%0ab", passing(`chgheader 1 "Subject" " a \n\tb"`)},
		{"chgheader=2 Subject y", passing(`insheader 2147483647 "Subject" " y"`)},
		{"chgheader=2147483647 X-New y", passing(`addheader "X-New" " y"`)},
		{"delheader=0 Subject", passing(`chgheader 1 "Subject" ""`)},
		{"delheader=2147483647 Subject", passing(`chgheader 1 "Subject" ""`)},
		{"delheader=1 X-None", passing()},
		{"delheader=1 Received", passing()}, // ours, which the MTA has never seen
		{"addrcpt=a@example.org", passing(`addrcpt "<a@example.org>"`)},
		{"addrcpt=<a%00b@example.org>", filterFailure},
		{"addrcpt=<a@example.org>%0d%0aRCPT", filterFailure},
		{"addrcpt=a\rb@example.org", filterFailure},
		{"delrcpt=<bob@example.net%00>", filterFailure},
		{"delrcpt=<bob@example.net>%0a", filterFailure},
		{"delrcpt=bob@example.net", passing(`delrcpt "<bob@example.net>"`)},
		{"quarantine=spam%0d%0aX:%00y", passing(`quarantine "spam  X: y"`)},
	} {
		name, _, _ := strings.Cut(c.edit, "=")
		faults = append(faults, scannerFault{
			point: name, fault: "hostile edit", detail: short(c.edit[len(name)+1:]),
			h: ampdptest.Raw(edited(c.edit)), verdict: c.verdict, requests: 1,
		})
		if c.verdict == filterFailure { // nor any edit before or behind it
			faults = append(faults, scannerFault{
				point: name, fault: "hostile edit", detail: "among others " + short(c.edit[len(name)+1:]),
				h: ampdptest.Raw(replaced("insheader", c.edit)), verdict: c.verdict, requests: 1,
			})
		}
	}
	return faults
}

// inPieces sends a reply in writes of n bytes.
func inPieces(reply string, n int) ampdptest.Handler {
	return func(c *ampdptest.Conn) {
		if _, err := c.ReadRequest(); err != nil {
			return
		}
		for len(reply) > 0 {
			size := min(n, len(reply))
			if c.Send(reply[:size]) != nil {
				return
			}
			reply = reply[size:]
		}
		c.WaitClosed()
	}
}

// early answers before it has read anything.
func early(c *ampdptest.Conn) {
	if c.Send(goodReply) == nil {
		_, _ = c.ReadRequest()
		c.WaitClosed()
	}
}
