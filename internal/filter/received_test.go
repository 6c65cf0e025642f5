package filter

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter"
)

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
	want := "Received: (from unknown@localhost)\n\tby localhost (amavis-milter) with SMTP;\n\t" + testDate + "\n"
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
		// The domain is at the end: without it SpamAssassin takes the client for one
		// that does not know its own.
		if name := strings.Repeat("h", n-len(".example.org")) + ".example.org"; !strings.HasSuffix(heloWord(name), ".example.org") {
			t.Errorf("a HELO of %d bytes has lost its domain: %q", n, heloWord(name))
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
var sendmailForm = regexp.MustCompile(`^Received: from (\S+) \((\S+) \[(?:IPv6:)?([0-9a-f:.]+)\]\)(?: \(authenticated(?: bits=\d+)?\))? by (\S+) \(amavis-milter\) with ([A-Z0-9]+)(?: id (\S+))?(?: \([^()]*\))?; (.*)$`)

var localForm = regexp.MustCompile(`^Received: \(from unknown@localhost\)(?: \(authenticated(?: bits=\d+)?\))? by (\S+) \(amavis-milter\) with ([A-Z0-9]+)(?: id (\S+))?(?: \([^()]*\))?; (.*)$`)

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
