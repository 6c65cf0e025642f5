package e2e

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// mailOfKind finds one of a kind with two recipients or more.
func mailOfKind(t *testing.T, plan *soakPlan, kind string) (*soakMail, int) {
	t.Helper()
	for number := range 10_000 {
		if m := plan.mail(lab.Postfix, number); m.kind.name == kind && len(m.recipients) > 1 {
			return m, number
		}
	}
	t.Fatalf("no mail of kind %q", kind)
	return nil, 0
}

// comesOut is a mail as it should come out.
func comesOut(m *soakMail) *lab.Delivery {
	raw := bytes.Clone(m.raw)
	if m.kind.fate == tagged {
		raw = bytes.Replace(raw, []byte("\r\nSubject: "), []byte("\r\nSubject: ***SPAM*** "), 1)
	}
	above := "X-Virus-Scanned: Debian amavis at lab.test\r\nReceived: from helo.remote.test\r\n\tby mx.lab.test\r\n"
	return &lab.Delivery{Sender: "<" + sender + ">", Recipients: paths(m.recipients...), Raw: append([]byte(above), raw...)}
}

// TestLedger: the accounts of a soak balance if all went well, and each thing that
// can go wrong is found, under its own name.
func TestLedger(t *testing.T) {
	edit := func(old, with string) func(*lab.Delivery) {
		return func(d *lab.Delivery) { d.Raw = bytes.Replace(d.Raw, []byte(old), []byte(with), 1) }
	}
	const (
		above = "X-Virus-Scanned: Debian amavis at lab.test\r\n"
		from  = "From: Some One <someone@remote.test>\r\n"
	)
	for _, test := range []struct {
		name   string
		kind   string
		told   account // what the client was told
		copies int     // how often it is delivered
		edit   func(*lab.Delivery)
		want   string // the kinds of faults
	}{
		{"accepted", "plain", account{accepted: 1}, 1, nil, ""},
		{"accepted, 8 bit", "8 bit", account{accepted: 1, retried: 3}, 1, nil, ""},
		{"accepted, with dots", "dots", account{accepted: 1}, 1, nil, ""},
		{"tagged", "spam", account{accepted: 1}, 1, nil, ""},
		{"discarded", "virus", account{accepted: 1}, 0, nil, ""},
		{"rejected", "banned", account{rejected: 1}, 0, nil, ""},
		{"twice, as the client sent it", "plain", account{accepted: 1, unknown: 1}, 2, nil, ""},
		{"once, though the client sent it twice", "plain", account{accepted: 1, unknown: 1}, 1, nil, ""},
		{"lost", "plain", account{accepted: 1}, 0, nil, "lost"},
		{"lost for good", "plain", account{accepted: 1, unknown: 2}, 0, nil, "lost"},
		{"twice", "plain", account{accepted: 1, retried: 3}, 2, nil, "duplicated"},
		{"three times, though the client sent it twice", "plain", account{accepted: 1, unknown: 1}, 3, nil, "duplicated"},
		{"delivered, though never accepted", "plain", account{retried: 1}, 1, nil, "wrong"},
		{"never accepted", "plain", account{retried: 9}, 0, nil, "wrong"},
		{"good mail rejected", "plain", account{rejected: 1}, 0, nil, "wrong"},
		{"virus delivered", "virus", account{accepted: 1}, 1, nil, "wrong"},
		{"banned mail accepted", "banned", account{accepted: 1}, 1, nil, "wrong"},
		{"to somebody else", "plain", account{accepted: 1}, 1, func(d *lab.Delivery) { d.Recipients = append(d.Recipients, "<who@lab.test>") }, "wrong"},
		{"to fewer", "plain", account{accepted: 1}, 1, func(d *lab.Delivery) { d.Recipients = d.Recipients[1:] }, "lost"},
		{"a stranger's", "plain", account{accepted: 1}, 1, edit("\r\n"+soakID, "\r\nX-No-Id"), "lost strange"},
		{"no mark", "plain", account{accepted: 1}, 1, edit(above, ""), "unscanned"},
		{"our mark", "plain", account{accepted: 1}, 1, edit("Debian amavis at lab.test", "by amavis-milter"), "unscanned"},
		{"marked unscanned", "plain", account{accepted: 1}, 1, edit(above, above+"X-Amavis-Milter-Unscanned: busy\r\n"), "altered unscanned"},
		{"a field more", "plain", account{accepted: 1}, 1, edit(above, above+"X-Amavis-Alert: oh dear\r\n"), "altered"},
		{"a field twice", "plain", account{accepted: 1}, 1, edit(above, "Received: from nowhere\r\n"+above), "altered"},
		{"a field less", "plain", account{accepted: 1}, 1, edit("MIME-Version: 1.0\r\n", ""), "altered"},
		{"fields exchanged", "plain", account{accepted: 1}, 1, func(d *lab.Delivery) {
			edit(from, "")(d)
			edit("Subject: ", from+"Subject: ")(d)
		}, "altered"},
		{"subject not tagged", "spam", account{accepted: 1}, 1, edit("***SPAM*** ", ""), "altered"},
		{"subject tagged", "plain", account{accepted: 1}, 1, edit("Subject: ", "Subject: ***SPAM*** "), "altered"},
		{"sender", "plain", account{accepted: 1}, 1, func(d *lab.Delivery) { d.Sender = "<>" }, "altered"},
		{"a bit of the body", "plain", account{accepted: 1}, 1, func(d *lab.Delivery) { d.Raw[len(d.Raw)-9] ^= 1 }, "altered"},
		{"the end of the body", "plain", account{accepted: 1}, 1, func(d *lab.Delivery) { d.Raw = d.Raw[:len(d.Raw)-2] }, "altered"},
		{"a dot less", "dots", account{accepted: 1}, 1, edit("\r\n..\r\n", "\r\n.\r\n"), "altered"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger(&soakPlan{seed: 4, began: time.Unix(1_700_000_000, 0), largest: soakLargestBad, kinds: soakKinds})
			mail, number := mailOfKind(t, l.plan, test.kind)
			a := l.open(lab.Postfix, number, mail)
			a.accepted, a.rejected, a.retried, a.unknown = test.told.accepted, test.told.rejected, test.told.retried, test.told.unknown
			for range test.copies {
				d := comesOut(mail)
				if test.edit != nil {
					test.edit(d)
				}
				l.deliver(d)
			}
			sums := l.sums()
			if got := strings.Join(slices.Sorted(maps.Keys(l.faults)), " "); got != test.want {
				t.Errorf("faults %q: %v; want %q", got, l.faults, test.want)
			}
			if n := l.total(sums); n.sent != 1 || (n.lost+n.duplicated+n.unscanned+n.altered+n.wrong > 0) != (test.want != "") {
				t.Errorf("in all %v", n)
			}
		})
	}
}
