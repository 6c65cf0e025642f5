package milter

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
	gomilter "github.com/d--j/go-milter"
)

// answerTo runs one message whose verdict is v.
func answerTo(t *testing.T, o miltertest.Offer, v Verdict) (miltertest.Answer, *bench, Outcome) {
	t.Helper()
	b := startServer(t, &testHandler{verdict: func(context.Context) Verdict { return v }}, quickTimes())
	m := b.mta(t, o)
	if err := m.Greet(); err != nil {
		t.Fatal(err)
	}
	a, err := m.SendMessage(plainMessage)
	if err != nil {
		t.Fatal(err)
	}
	m.Abort()
	m.Quit()
	return a, b, outcome(t, b.handler.transaction(t, 0))
}

func TestVerdicts(t *testing.T) {
	reject := MustSMTPReply(554, "5.7.1", "100% spam\r\n250 ok")
	for name, c := range map[string]struct {
		v    Verdict
		want string
	}{
		"accept":   {Accept(), "accept"},
		"discard":  {Discard(), "discard"},
		"reject":   {Reject(reject), "reply 554 5.7.1 100%% spam 250 ok"},
		"tempfail": {TempFail(MustSMTPReply(451, "4.3.0", "")), "reply 451 4.3.0 Try again later"},
		"none":     {Verdict{}, "reply 451 4.3.0 Content filter failure, try again later"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, o := answerTo(t, miltertest.Sendmail817, c.v)
			mustAnswer(t, a, nil, c.want)
			if o.Err != nil || o.Sent.Disposition() != c.v.Disposition() {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// TestReplies: replies are those of the library, but that those it would write in two lines,
// since each % counts twice in them, stay one: the MTA makes one of the two.
func TestReplies(t *testing.T) {
	for _, text := range []string{"", "plain", "100%", "%%", "%s %n%", "\u00e4\xff\x00\t\r\nx", strings.Repeat("x", 2*MaxReplyTextBytes)} {
		for _, code := range []int{400, 451, 554, 599} {
			r := MustSMTPReply(code, map[int]string{4: "4.3.0", 5: "5.7.1"}[code/100], text)
			response, err := gomilter.RejectWithCodeAndReason(uint16(code), r.Enhanced()+" "+r.Text())
			if err != nil {
				t.Fatal(err)
			}
			want := appendFrame(nil, answerReplyCode, response.Response().Data)
			if got := appendReply(nil, r); string(got) != string(want) {
				t.Errorf("%q\nwant\n%q", got, want)
			}
		}
	}
	percents := MustSMTPReply(554, "5.7.1", strings.Repeat("%", MaxReplyTextBytes))
	if got, want := string(appendReply(nil, percents)), strings.Repeat("%", 2*MaxReplyTextBytes)+"\x00"; !strings.HasSuffix(got, " "+want) {
		t.Errorf("%q", got)
	}
}

// TestReplyNotAnswered: a reply is sent in the place of an answer without one, and of nothing
// else.
func TestReplyNotAnswered(t *testing.T) {
	for _, frame := range [][]byte{appendFrame(nil, 'r', nil), appendFrame(nil, 't', nil), appendFrame(nil, 'c', nil), appendFrame(nil, 'a', nil), appendFrame(nil, 't', []byte("x")), {0, 0, 0, 1}} {
		g := &guard{instead: []byte("reply")}
		_, err := g.Write(frame)
		if plain := len(frame) == 5 && (frame[4] == 'r' || frame[4] == 't'); plain != (err == nil) || plain != (string(g.out) == "reply") {
			t.Errorf("%q: %q is sent, error %v", frame, g.out, err)
		}
		if _, err2 := g.Write(appendFrame(nil, 'c', nil)); (err2 == nil) != (err == nil) {
			t.Errorf("%q: then an answer is written: %v", frame, err2)
		}
	}
}

// TestReplyOnce: a reply is sent in the place of one answer, and the next message has its own.
func TestReplyOnce(t *testing.T) {
	verdicts := []Verdict{Reject(MustSMTPReply(554, "5.7.1", "no")), Accept(AddHeader{"X-A", "v"}), TempFail(MustSMTPReply(451, "4.3.0", "later")), Discard()}
	next := 0
	b := startServer(t, &testHandler{verdict: func(context.Context) Verdict { next++; return verdicts[next-1] }}, quickTimes())
	m := greeted(t, b.dial(t), miltertest.Sendmail817)
	for _, want := range []string{"reply 554 5.7.1 no", "addheader \"X-A\" \" v\"\naccept", "reply 451 4.3.0 later", "discard"} {
		a, err := m.SendMessage(plainMessage)
		mustAnswer(t, a, err, want)
	}
}

func TestChanges(t *testing.T) {
	all := []Change{
		DeleteRecipient{NewPath("<b@example.org>")},
		AddRecipient{NewPath("<b+spam@example.org>")},
		DeleteHeader{2, "X-Spam"},
		DeleteHeader{1, "X-Spam"},
		ChangeHeader{1, "subject", "***SPAM*** x"},
		InsertHeader{1, "X-Top", "t"},
		AddHeader{"X-Folded", "a\n\tb\n c"},
		Quarantine{"held\nfor reasons"},
	}
	withSpace := strings.Join([]string{
		`delrcpt "<b@example.org>"`, `addrcpt "<b+spam@example.org>"`,
		`chgheader 2 "X-Spam" ""`, `chgheader 1 "X-Spam" ""`, `chgheader 1 "subject" " ***SPAM*** x"`,
		`insheader 1 "X-Top" " t"`, `addheader "X-Folded" " a\n\tb\n c"`, `quarantine "held for reasons"`, "accept"}, "\n")
	a, _, _ := answerTo(t, miltertest.Sendmail817, Accept(all...))
	mustAnswer(t, a, nil, withSpace)

	// The space behind the colon is ours only if HDR_LEADSPC was negotiated.
	noLeadSpc := miltertest.Sendmail817
	noLeadSpc.Protocol &^= miltertest.HdrLeadSpc
	a, _, _ = answerTo(t, noLeadSpc, Accept(all...))
	mustAnswer(t, a, nil, strings.NewReplacer(`" ***`, `"***`, `" t"`, `"t"`, `" a\n`, `"a\n`).Replace(withSpace))
}

func TestHeaderValues(t *testing.T) {
	for in, want := range map[string]string{
		"plain":               `" plain"`,
		"":                    `" "`,
		"a\r\n b":             `" a\n b"`,
		"a\nX-Injected: y":    `" a\n\tX-Injected: y"`,
		"a\rX-Injected: y":    `" a X-Injected: y"`,
		"a\r\nX-Injected: y":  `" a\n\tX-Injected: y"`,
		"a\n\n\nb":            `" a\n\t\n\t\n\tb"`,
		"a\n":                 `" a"`,
		"a\r\n\r\n":           `" a"`,
		"a\x00b":              `" a b"`,
		"\n folded at once":   `"\n folded at once"`,
		"\u00e4 stays UTF-8":  `" ä stays UTF-8"`,
		"\xff any byte stays": `" \xff any byte stays"`,
	} {
		a, _, _ := answerTo(t, miltertest.Postfix37, Accept(AddHeader{"X-A", in}))
		if got := a.Changes[0]; got != `addheader "X-A" `+want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// TestNotSendable: one change that cannot be sent is a tempfail and no change at
// all.
func TestNotSendable(t *testing.T) {
	fine := AddHeader{"X-Fine", "v"}
	noQuarantine := miltertest.Version2
	noRecipients := miltertest.Sendmail817
	noRecipients.Actions &^= miltertest.AddRcpts | miltertest.DelRcpts
	for name, c := range map[string]struct {
		o   miltertest.Offer
		bad Change
	}{
		"name with a colon":      {miltertest.Sendmail817, AddHeader{"X:Y", "v"}},
		"name with a space":      {miltertest.Sendmail817, ChangeHeader{1, "X Y", "v"}},
		"empty name":             {miltertest.Sendmail817, DeleteHeader{1, ""}},
		"negative index":         {miltertest.Sendmail817, InsertHeader{-1, "X", "v"}},
		"value over the packet":  {miltertest.Sendmail817, AddHeader{"X", strings.Repeat("v", 65535)}},
		"recipient with NUL":     {miltertest.Sendmail817, AddRecipient{NewPath("<a\x00@x>")}},
		"recipient with LF":      {miltertest.Sendmail817, DeleteRecipient{NewPath("<a\n@x>")}},
		"no recipient":           {miltertest.Sendmail817, AddRecipient{}},
		"quarantine not offered": {noQuarantine, Quarantine{"why"}},
		"addrcpt not offered":    {noRecipients, AddRecipient{NewPath("<a@x>")}},
		"delrcpt not offered":    {noRecipients, DeleteRecipient{NewPath("<a@x>")}},
	} {
		t.Run(name, func(t *testing.T) {
			a, b, o := answerTo(t, c.o, Accept(fine, c.bad, fine))
			mustAnswer(t, a, nil, "reply 451 4.3.0 Content filter failure, try again later")
			if o.Err == nil || o.Sent.Disposition() != DispositionTempFail {
				t.Errorf("outcome %+v", o)
			}
			if !strings.Contains(b.log.String(), "change 2 of 3") {
				t.Errorf("log: %s", b.log)
			}
		})
	}
}

// TestValueLimit: the largest field that MTAs keep is sent whole; a larger one is a
// tempfail, and nothing of it is sent. To fold it would make it no shorter.
func TestValueLimit(t *testing.T) {
	noLeadSpc := miltertest.Sendmail817
	noLeadSpc.Protocol &^= miltertest.HdrLeadSpc
	fill := func(n int) string { return strings.Repeat("v", n) }
	folded := func(n int) string {
		v := strings.Repeat(fill(70)+"\n\t", n/72)
		return v + fill(n-len(v))
	}
	for name, c := range map[string]struct {
		o      miltertest.Offer
		space  string
		change func(n int) Change
	}{
		"add":                   {miltertest.Sendmail817, " ", func(n int) Change { return AddHeader{"X", fill(n)} }},
		"add, folded":           {miltertest.Sendmail817, " ", func(n int) Change { return AddHeader{"X", folded(n)} }},
		"add, no leading space": {noLeadSpc, "", func(n int) Change { return AddHeader{"X", fill(n)} }},
		"insert":                {miltertest.Postfix37, " ", func(n int) Change { return InsertHeader{1, "X", fill(n)} }},
		"change":                {miltertest.Postfix37, " ", func(n int) Change { return ChangeHeader{1, "X", fill(n)} }},
		"change, folded":        {miltertest.Sendmail817, " ", func(n int) Change { return ChangeHeader{1, "X", folded(n)} }},
		"insert, old MTA":       {miltertest.Version2, "", func(n int) Change { return InsertHeader{1, "X", fill(n)} }},
	} {
		fits := MaxHeaderField - len("X:"+c.space)
		for n, want := range map[int]byte{fits - 1: 'a', fits: 'a', fits + 1: 'y'} {
			a, _, o := answerTo(t, c.o, Accept(AddHeader{"X-Before", "v"}, c.change(n), AddHeader{"X-After", "v"}))
			if a.Code != want {
				t.Errorf("%s, value of %d bytes: %q, want %q", name, n, a.Code, want)
			}
			changes := 3
			if want == 'y' {
				changes = 0
			}
			if len(a.Changes) != changes || (o.Err == nil) != (want == 'a') {
				t.Errorf("%s, value of %d bytes: %d changes, %v", name, n, len(a.Changes), o.Err)
			}
			if want == 'a' && !strings.Contains(a.Changes[1], strings.Repeat("v", 70)) {
				t.Errorf("%s, value of %d bytes: %.100s", name, n, a.Changes[1])
			}
		}
	}
}

// TestNotOffered: header changes that the MTA does not offer are left out with a
// warning.
func TestNotOffered(t *testing.T) {
	o := miltertest.Sendmail817
	o.Actions &^= miltertest.AddHeaders
	a, b, _ := answerTo(t, o, Accept(AddHeader{"X-A", "v"}, ChangeHeader{1, "Subject", "s"}))
	mustAnswer(t, a, nil, "chgheader 1 \"Subject\" \" s\"\naccept")
	if s := b.log.String(); !strings.Contains(s, "left out") || !strings.Contains(s, "SMFIF_ADDHDRS") {
		t.Errorf("log: %s", s)
	}
}

func TestSMTPReply(t *testing.T) {
	for _, c := range []struct {
		code     int
		enhanced string
		ok       bool
	}{
		{550, "5.7.1", true}, {451, "4.3.0", true}, {599, "5.999.999", true}, {400, "4.0.0", true},
		{399, "4.0.0", false}, {600, "5.0.0", false}, {250, "2.0.0", false}, {550, "4.7.1", false}, {450, "5.0.0", false},
		{550, "", false}, {550, "5", false}, {550, "5.7", false}, {550, "5.7.", false}, {550, "5..1", false}, {550, "5.7.1.2", false},
		{550, "5.1000.1", false}, {550, "5.7.1 x", false}, {550, "5.x.1", false},
	} {
		if _, err := NewSMTPReply(c.code, c.enhanced, "t"); (err == nil) != c.ok {
			t.Errorf("%d %q: %v", c.code, c.enhanced, err)
		}
	}
	long := strings.Repeat("ä", MaxReplyTextBytes)
	for in, want := range map[string]string{
		"":                 "Message rejected",
		" \r\n":            "Message rejected",
		"a\r\nb\nc\td":     "a b c d",
		"bell\a \x1b[31m":  "bell? ?[31m",
		"\xff":             "?",
		long:               long[:MaxReplyTextBytes],
		"x" + long:         "x" + long[:MaxReplyTextBytes-2],
		"100% of 50%, ok?": "100% of 50%, ok?",
	} {
		if got := MustSMTPReply(550, "5.7.1", in).Text(); got != want {
			t.Errorf("%q: text %q, want %q", in, got, want)
		}
	}
	for _, wrong := range []func(){
		func() { Reject(MustSMTPReply(451, "4.3.0", "x")) },
		func() { TempFail(MustSMTPReply(550, "5.7.1", "x")) },
		func() { Reject(SMTPReply{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a verdict with a reply of the wrong class was made")
				}
			}()
			wrong()
		}()
	}
}

// TestFieldNames: what is no name of a header field is sent by no change: the MTA would
// take it for something else.
func TestFieldNames(t *testing.T) {
	long := strings.Repeat("n", MaxHeaderField)
	for name, want := range map[string]error{
		"X-A": nil, "!": nil, "~": nil, "": errNotAName, "a b": errNotAName, "a:": errNotAName, "a\x00": errNotAName, "a\n": errNotAName,
		"a\x7f": errNotAName, "\xe4": errNotAName, "ä": errNotAName, long[:MaxHeaderField-3]: nil, long + "n": errLongField,
	} {
		s := &session{g: newGuard(nil, DefaultTimes()), actions: gomilter.AllClientSupportedActionMasks}
		for _, c := range []Change{AddHeader{name, "v"}, InsertHeader{0, name, "v"}, ChangeHeader{1, name, "v"}, DeleteHeader{1, name}} {
			if err := s.applyOne(nil, c); !errors.Is(err, want) {
				t.Errorf("%T %.20q: %v, want %v", c, name, err, want)
			}
		}
	}
	s := &session{g: newGuard(nil, DefaultTimes()), actions: gomilter.AllClientSupportedActionMasks}
	for _, c := range []Change{InsertHeader{-1, "A", "v"}, ChangeHeader{-1, "A", "v"}, DeleteHeader{-1, "A"}, InsertHeader{AtEnd + 1, "A", "v"}} {
		if s.applyOne(nil, c) == nil {
			t.Errorf("%#v is sent", c)
		}
	}
	if err := s.applyOne(nil, InsertHeader{AtEnd, "A", "v"}); err != nil {
		t.Error(err)
	}
}
