package milter

import "strings"

// toldMailbox returns what to tell amavisd of a mailbox that is not plain, and that
// the MTA has read as reading; empty for the mailbox as it is.
func toldMailbox(mailbox, reading string) string {
	if local, domain := splitMailbox(reading); isReadLocalPart(local) && isDomain(domain) {
		return reading
	}
	// sendmail names a user of its own host alone, and says postmaster of
	// <postmaster@its.own.host>: the domain is the one that was typed. Where no reading
	// is needed none is taken, for that user may be an alias' target.
	local, domain := splitMailbox(mailbox)
	if isPlainLocalPart(reading) && isDomain(domain) && !isLocalPart(local) {
		return reading + "@" + domain
	}
	return ""
}

// isPlainMailbox reports whether all read the same in s: it is nothing, or
// "local@domain", the local part being one word or one quoted string, without the
// characters of other networks' routes (a!b, a%b), of which MTAs make an address of
// their own.
func isPlainMailbox(s string) bool {
	local, domain := splitMailbox(s)
	return s == "" || isDomain(domain) && isPlainLocalPart(local)
}

func isPlainLocalPart(s string) bool { return isLocalPart(s) && !strings.ContainsAny(s, "@!%") }

// splitMailbox splits s at its last '@'; without one there is no domain.
func splitMailbox(s string) (local, domain string) {
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// isLocalPart reports whether s is one word, with any dots in it, or one quoted
// string.
func isLocalPart(s string) bool {
	if !strings.HasPrefix(s, `"`) {
		return s != "" && !strings.ContainsFunc(s, isSpecial)
	}
	n, kind := nextWord(s)
	return n == len(s) && kind == quoted && !strings.ContainsFunc(s, isControl)
}

// isReadLocalPart reports whether s can be what an MTA reads as a local part: words,
// quoted strings and quoted pairs in any order, and what else sendmail lets stand there
// (g:user), but nothing by which s would be more than one.
func isReadLocalPart(s string) bool {
	if s == "" || strings.ContainsFunc(s, isControl) {
		return false
	}
	for rest := s; rest != ""; {
		n, kind := nextWord(rest)
		if kind == comment || kind == unfinished || kind == single && strings.Contains("<>),@ ", rest[:n]) {
			return false
		}
		rest = rest[n:]
	}
	return true
}

// isDomain reports whether s is a host name, of whatever script, or an address
// literal.
func isDomain(s string) bool {
	if literal, ok := strings.CutPrefix(s, "["); ok {
		literal, ok = strings.CutSuffix(literal, "]")
		return ok && literal != "" && !strings.ContainsFunc(literal, func(c rune) bool { return c != ':' && c != '.' && notInLabel(c) })
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || strings.ContainsFunc(label, notInLabel) {
			return false
		}
	}
	return true
}

// isSpecial reports whether c has a meaning of its own in an address (RFC 5322
// section 3.2.3), but for '.', or is a space or a control character.
func isSpecial(c rune) bool {
	return c <= ' ' || c == 0x7f || strings.ContainsRune("()<>[]:;@\\,\"", c)
}

func isControl(c rune) bool { return c < ' ' || c == 0x7f }

// notInLabel reports whether c is none of a label's characters: those of host names,
// the underscore, and all beyond ASCII.
func notInLabel(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c > 0x7f:
		return false
	}
	return true
}
