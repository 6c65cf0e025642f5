package faults

import (
	"math/rand/v2"
	"strings"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// replaced is the good reply with other lines in the place of those of an attribute.
func replaced(attribute string, lines ...string) string {
	var reply []string
	for _, line := range goodLines {
		if name, _, _ := strings.Cut(line, "="); name != attribute {
			reply = append(reply, line)
		} else if lines != nil {
			reply = append(reply, lines...)
			lines = nil
		}
	}
	return ampdptest.Lines(reply...)
}

// badReplies are whole, and none of AM.PDP. No edit of theirs may be made, though all
// others are in order.
func badReplies() []scannerFault {
	var faults []scannerFault
	add := func(point, fault, detail, reply string) {
		faults = append(faults, scannerFault{point: point, fault: fault, detail: detail, h: ampdptest.RawThenHangUp(reply), cause: malformed, requests: 1})
	}
	add("reply", "empty", "CR LF", "\r\n")
	add("reply", "empty", "LF", "\n")
	add("reply", "another protocol", "HTTP", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	add("reply", "another protocol", "SMTP", "220 mx.example.org ESMTP amavisd-new service ready\r\n")
	add("reply", "another protocol", "TLS", "\x15\x03\x01\x00\x02\x02\x46")
	add("reply", "garbage", "NULs", strings.Repeat("\x00", 5000))
	add("reply", "garbage", "line without =", replaced("log_id", "nonsense"))
	add("reply", "garbage", "behind return_value", replaced("exit_code", "nonsense"))
	add("reply", "garbage", "before it", "\x00"+goodReply[:20]+"\r\n"+goodReply)
	for seed := range uint64(16) {
		add("reply", "garbage", "random", randomBytes(seed, 600))
	}
	for _, value := range []string{"", "Continue", "CONTINUE", "continue ", " continue", "continue x", "pass", "0", "continue%00", "%", "con%0atinue", "quarantine", strings.Repeat("x", 70_000)} {
		add("return_value", "unknown", value, replaced("return_value", "return_value="+value))
	}
	add("return_value", "missing", "", replaced("return_value", []string{}...))
	add("return_value", "twice", "the same", replaced("return_value", "return_value=continue", "return_value=continue"))
	add("return_value", "twice", "another", replaced("return_value", "return_value=reject", "return_value=continue"))
	add("return_value", "twice", "in disguise", replaced("return_value", "return%5fvalue=accept", "return_value=continue"))
	for _, value := range []string{"", "250", "250 2.6.0", "250 2.6.0 a b", "x 2.6.0 a", "99 2.6.0 a", "600 2.6.0 a", "-250 2.6.0 a", "+250 2.6.0 a", "2147483898 2.6.0 a", "250 2.6.0 %"} {
		add("setreply", "malformed", value, replaced("setreply", "setreply="+value))
	}
	for _, index := range []string{"", "-1", "+1", "1.0", "0x1", "1e0", "one", "2147483648", "99999999999999999999", "%31%", "1%00"} {
		add("delheader", "index", index, replaced("delheader", "delheader="+index+" X-Spam-Flag"))
		add("chgheader", "index", index, replaced("chgheader", "chgheader="+index+" Subject x"))
		add("insheader", "index", index, replaced("insheader", "insheader="+index+" X-Spam-Level x"))
	}
	for _, name := range []string{"", "X:", "X:%20y%0d%0aZ", "a%20b", "%0d%0aZ", "%00", "X%00", "%c3%bc", "\x00", "X\xff", "%"} {
		add("delheader", "name", name, replaced("delheader", "delheader=1 "+name))
		add("chgheader", "name", name, replaced("chgheader", "chgheader=1 "+name+" x"))
		add("insheader", "name", name, replaced("insheader", "insheader=1 "+name+" x"))
		add("addheader", "name", name, replaced("addheader", "addheader="+name+" x"))
	}
	for _, attribute := range []string{"delheader", "chgheader", "insheader", "addheader"} {
		for _, value := range []string{"", "1", "1 X a b c", "X"} {
			add(attribute, "fields", value, replaced(attribute, attribute+"="+value))
		}
	}
	for _, attribute := range []string{"delrcpt", "addrcpt"} {
		for _, value := range []string{"", "<>", "<a@b> <c@d>", "%", "<a@b>%0"} {
			add(attribute, "malformed", value, replaced(attribute, attribute+"="+value))
		}
	}
	for _, attribute := range []string{"version_server", "log_id", "addheader", "quarantine", "exit_code", "unknown", "na%me", "%zz"} {
		add(attribute, "escape", "", replaced("exit_code", attribute+"=X %g0"))
		add(attribute, "escape", "cut", replaced("exit_code", attribute+"=X %0"))
	}
	return faults
}

// randomBytes are always the same for a seed. There is no line end among them: an empty
// line would end the reply, which is another fault.
func randomBytes(seed uint64, n int) string {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte(r.Uint32()); b[i] == '\n' {
			b[i] = 0
		}
	}
	return string(b)
}
