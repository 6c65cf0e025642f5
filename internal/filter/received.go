package filter

import (
	"net/netip"
	"strings"
	"time"

	"github.com/amavis-milter/amavis-milter/milter"
)

// Bounds of what a stranger may write into the Received field, in bytes. With
// them no line comes near the 998 of RFC 5322 section 2.1.1.
const (
	maxHelo     = 512 // twice what RFC 5321 section 4.5.3.1.2 allows: Postfix takes 2,000
	maxHostName = 255 // RFC 1035 section 2.3.4
	maxToken    = 64  // queue id, protocol, TLS words
)

const unknownName = "unknown"

// usualReceived is the first capacity of a Received field in bytes.
const usualReceived = 512

// receivedField returns the Received field that stands for the hop from the SMTP
// client to the MTA: the MTA adds its own only after us, and SpamAssassin knows the
// client from nowhere else. It has the form that sendmail writes (which both
// amavisd and SpamAssassin's Metadata/Received.pm read), lines ended by LF.
//
// It always says "(NAME [ADDRESS])", with "unknown" for a client without a
// verified name, where sendmail would leave the name out: "([ADDRESS])" is also
// how qmail and Exim write, and SpamAssassin then takes the HELO for the name.
// Host names are in lower case for the same reason: a word "Exim" among them would
// have the field read as one of Exim's.
//
// A client without address has submitted locally, or a proxy hides who it is;
// SpamAssassin skips the field then.
func receivedField(env *milter.Envelope, hostname string, now time.Time) string {
	text := make([]byte, 0, usualReceived)
	add := func(words ...string) {
		for _, w := range words {
			text = append(text, w...)
		}
	}
	if addr, ok := clientAddr(env); ok {
		add("Received: from ", fromWord(env, addr), " (", clientName(env), " ", addressLiteral(addr), ")")
	} else {
		add("Received: (from unknown@localhost)")
	}
	if authenticated(env) {
		add("\n\t(authenticated", authBits(env.Auth), ")")
	}
	add("\n\tby ", byName(env, hostname), " (amavis-milter) with ", protocol(env))
	if id := token(env.QueueID); id != "" {
		add(" id ", id)
	}
	add(tlsComment(env.TLS), ";\n\t")
	text = now.AppendFormat(text, time.RFC1123Z)
	return string(append(text, '\n'))
}

// authBits returns the strength of the security layer; nothing where the MTA does
// not tell it, as Postfix does not.
func authBits(a milter.Auth) string {
	if !isNumber(a.SSF) {
		return ""
	}
	return " bits=" + a.SSF
}

// clientAddr returns the address of the SMTP client; ok is false where there is none
// that is known.
func clientAddr(env *milter.Envelope) (addr netip.Addr, ok bool) {
	addr, err := netip.ParseAddr(env.Client.Address)
	return addr.Unmap().WithZone(""), err == nil
}

// addressLiteral writes an address as RFC 5321 section 4.1.3 does.
func addressLiteral(addr netip.Addr) string {
	var space [len("[IPv6:]") + 64]byte // longer than any address without a zone
	text := append(space[:0], '[')
	if !addr.Is4() {
		text = append(text, "IPv6:"...)
	}
	return string(append(addr.AppendTo(text), ']'))
}

// fromWord returns the word that SpamAssassin takes for the HELO. For a client that
// gave none it is the name or the address, as in the MTA's own field: rules about
// bad HELOs must not hit one that was never said.
func fromWord(env *milter.Envelope, addr netip.Addr) string {
	if env.Client.Helo != "" {
		return heloWord(env.Client.Helo)
	}
	if name := clientName(env); name != unknownName {
		return name
	}
	return addressLiteral(addr)
}

// heloWord makes a HELO argument safe. An address literal stays as it was typed,
// for SpamAssassin has rules about those; anything else keeps the bytes of a host
// name and a few that are often seen in one. Not '=' or '@': SpamAssassin would take
// "envelope-from=someone" for the sender and check SPF with it. Of a long name the
// end is kept, where the domain is.
func heloWord(helo string) string {
	if isAddressLiteral(helo) {
		return helo
	}
	return replaceUnsafe(helo[max(0, len(helo)-maxHelo):], maxHelo, "-._:+~")
}

// isAddressLiteral reports whether s is an address in brackets. "IPv6:" may be
// missing, and an IPv4 address may have it.
func isAddressLiteral(s string) bool {
	inner, ok := strings.CutPrefix(s, "[")
	if !ok {
		return false
	}
	if inner, ok = strings.CutSuffix(inner, "]"); !ok {
		return false
	}
	if len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:") {
		inner = inner[5:]
	}
	addr, err := netip.ParseAddr(inner)
	return err == nil && addr.Zone() == ""
}

// clientName returns the verified name of the SMTP client, or "unknown": what the
// MTA vouches for is package milter's to decide, what looks like a name is ours.
func clientName(env *milter.Envelope) string {
	if !isHostName(env.Client.Name) {
		return unknownName
	}
	return asciiLower(env.Client.Name)
}

// byName returns the name of the MTA, or ours if it told none.
func byName(env *milter.Envelope, hostname string) string {
	for _, name := range []string{env.Hostname, hostname} {
		if isHostName(name) {
			return asciiLower(name)
		}
	}
	return "localhost"
}

// protocol returns the protocol of the message as the MTA names it. Postfix does
// not; then it is put together as RFC 3848 and RFC 6531 section 4.3 say, and as
// Postfix does for its own Received field. Whether the client said HELO or EHLO is
// not told: who said neither speaks SMTP, everybody else counts as ESMTP.
func protocol(env *milter.Envelope) string {
	p := env.Protocol
	if p != "" && len(p) <= maxToken && !strings.ContainsFunc(p, notProtocol) {
		return p
	}
	switch {
	case env.UTF8:
		p = "UTF8SMTP"
	case env.Client.Helo == "" && !encrypted(env.TLS) && !authenticated(env):
		p = "SMTP"
	default:
		p = "ESMTP"
	}
	if encrypted(env.TLS) {
		p += "S"
	}
	if authenticated(env) {
		p += "A"
	}
	return p
}

func notProtocol(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') }

func encrypted(t milter.TLS) bool { return t.Version != "" || t.Cipher != "" }

func authenticated(env *milter.Envelope) bool { return env.Auth.Type != "" || env.Auth.Authen != "" }

// tlsComment returns what sendmail says about TLS, or nothing without TLS.
func tlsComment(t milter.TLS) string {
	if !encrypted(t) {
		return ""
	}
	var words []string
	for _, w := range []struct{ name, value string }{
		{"version", t.Version}, {"cipher", t.Cipher}, {"bits", t.CipherBits}, {"verify", t.Verify},
	} {
		if v := token(w.value); v != "" {
			words = append(words, w.name+"="+v)
		}
	}
	return "\n\t(" + strings.Join(words, " ") + ")"
}

// token makes a word of the MTA's safe.
func token(s string) string { return replaceUnsafe(s, maxToken, "-._/+:") }

// replaceUnsafe returns at most n bytes of s in which every byte that is neither an
// ASCII letter or digit nor one of others has become '?'.
func replaceUnsafe(s string, n int, others string) string {
	s = s[:min(len(s), n)]
	isUnsafe := func(c byte) bool { return !isAlphaNumeric(c) && strings.IndexByte(others, c) < 0 }
	for i := range len(s) {
		if isUnsafe(s[i]) {
			b := []byte(s)
			for ; i < len(b); i++ {
				if isUnsafe(b[i]) {
					b[i] = '?'
				}
			}
			return string(b)
		}
	}
	return s
}

func isHostName(s string) bool {
	if s == "" || len(s) > maxHostName {
		return false
	}
	for i := range len(s) {
		if !isAlphaNumeric(s[i]) && s[i] != '-' && s[i] != '.' && s[i] != '_' {
			return false
		}
	}
	return true
}

func isNumber(s string) bool {
	if s == "" || len(s) > 5 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func isAlphaNumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
