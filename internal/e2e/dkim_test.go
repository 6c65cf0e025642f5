package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// leastShapes is how many awkward messages with c=simple/simple there must be.
const leastShapes = 20

// TestDKIM: signatures over messages of awkward shape verify in the mail file,
// below our Received field and without it, and on the message that is delivered,
// to which amavisd has added fields at the top and we one at the bottom. The same
// messages with a space or a byte more must fail.
func TestDKIM(t *testing.T) {
	needLab(t)
	key := newSigner(t)
	var shapes []shape
	for _, s := range slices.Concat(simpleShapes(), relaxedShapes(), spamShapes()) {
		shapes = append(shapes, s.message(t, key))
	}
	if n := len(simpleShapes()); n < leastShapes {
		t.Fatalf("%d messages with c=simple/simple, want %d", n, leastShapes)
	}
	onEach(t, lab.Extensions, func(t *testing.T, p *lab.Pipeline) {
		for i, signed := range verifyAll(t, key, passAll(t, p, shapes)) {
			if signed.check(t) {
				t.Logf("%2d %-40s %d bytes: spool ok, delivered ok", i+1, signed.passage.shape.name, len(signed.passage.shape.raw))
			}
		}
	})
}

// verified is what the verifier says about the states of one message.
type verified struct {
	passage passage
	results map[string]string // by state
}

// States of a message that are verified.
const (
	asSpooled       = "mail file"
	asSpooledBare   = "mail file without our Received field"
	asDelivered     = "delivered"
	withOtherByte   = "delivered, one byte of the body changed"
	withOtherSpace  = "delivered, one space more in a signed field"
	withOtherHeader = "delivered, one byte more in a signed field"
)

var states = []string{asSpooled, asSpooledBare, asDelivered, withOtherByte, withOtherSpace, withOtherHeader}

// verifyAll verifies all states of all messages.
func verifyAll(t *testing.T, key *signer, passages []passage) []verified {
	t.Helper()
	var messages [][]byte
	for _, passed := range passages {
		bare, err := passed.spooled()
		if err != nil {
			t.Fatalf("%s: %v", passed.shape.name, err)
		}
		d, err := passed.delivered()
		if err != nil {
			t.Fatalf("%s: %v", passed.shape.name, err)
		}
		mustBeEdited(t, passed, d)
		messages = append(messages, crlf(passed.exchanges[0].Spooled), crlf(bare), d.Raw,
			otherByte(d.Raw), insertAfter(d.Raw, "\r\ndate:", " "), insertAfter(d.Raw, "<someone", "s"))
	}
	results, err := lab.VerifyDKIM(&key.key.PublicKey, messages)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]verified, len(passages))
	for i := range all {
		all[i] = verified{passages[i], map[string]string{}}
		for n, state := range states {
			all[i].results[state] = summaryOf(results[i*len(states)+n])
		}
	}
	return all
}

// summaryOf is "pass" if there are signatures and all verify.
func summaryOf(results []string) string {
	if len(results) == 0 {
		return "no signature"
	}
	for _, result := range results {
		if result != "pass" {
			return result
		}
	}
	return "pass"
}

// check reports whether the results are what they must be.
func (v verified) check(t *testing.T) bool {
	t.Helper()
	name := v.passage.shape.name
	want := map[string]bool{asSpooled: true, asSpooledBare: true, asDelivered: true, withOtherSpace: strings.HasSuffix(name, "relaxed")}
	if name == "spam, Subject signed" {
		want[asDelivered] = false // amavisd has changed the Subject, as it was told to
	}
	ok := true
	for _, state := range states {
		if passes := v.results[state] == "pass"; passes != want[state] {
			ok = false
			t.Errorf("%s: %s: %s; want pass: %t", name, state, v.results[state], want[state])
		}
	}
	if !ok {
		t.Logf("delivered:\n%s", cut(v.passage.deliveries[0].Raw))
	}
	return ok
}

// mustBeEdited fails unless the message bears amavisd's fields, as amavisd sent
// them, and our own.
func mustBeEdited(t *testing.T, passed passage, d *lab.Delivery) {
	t.Helper()
	name := passed.shape.name
	if edits, folded, err := editsDelivered(passed.exchanges[0], d); err != nil || edits < 4 || folded < 1 {
		t.Errorf("%s: %d edits of amavisd, %d of them folded: %v; want 4 or more, one folded", name, edits, folded, err)
	}
	for field, want := range map[string]int{"X-Spam-Status": 1, "X-Virus-Scanned": 1, "X-Amavis-Milter-Unscanned": 0} {
		if n := len(d.Values(field)); n != want {
			t.Errorf("%s: delivered with %d fields %s, want %d", name, n, field, want)
		}
	}
	tagged := strings.Contains(fmt.Sprint(d.Values("Subject")), "***SPAM***")
	if tagged != strings.HasPrefix(name, "spam") {
		t.Errorf("%s: delivered with the Subject %q", name, d.Values("Subject"))
	}
}

// otherByte changes the last byte of the body that is no line end; a body of line
// ends only gets one more byte.
func otherByte(raw []byte) []byte {
	raw = bytes.Clone(raw)
	start := bytes.Index(raw, []byte("\r\n\r\n")) + len("\r\n\r\n")
	if at := len(bytes.TrimRight(raw[start:], "\r\n")); at > 0 {
		raw[start+at-1] ^= 1
		return raw
	}
	return append(raw, "x\r\n"...)
}

// insertAfter inserts something behind the first occurrence of a text in lower case
// below the uppermost signature.
func insertAfter(raw []byte, text, more string) []byte {
	lower := bytes.ToLower(raw)
	start := bytes.Index(lower, []byte("dkim-signature:"))
	at := start + bytes.Index(lower[start:], []byte(text)) + len(text)
	return slices.Concat(raw[:at], []byte(more), raw[at:])
}
