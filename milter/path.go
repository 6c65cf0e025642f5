package milter

import "strings"

// Path is a reverse-path or forward-path (RFC 5321 section 4.1.2) as the MTA
// accepted it, always with its angle brackets. The zero value is no path at all;
// the null sender is [NullSender].
type Path struct{ text string }

// NullSender is the reverse-path of bounces and other mail that must not be
// answered: <>.
var NullSender = Path{"<>"}

// NewPath makes a path of what the MTA passed as the argument of MAIL or RCPT. It
// refuses nothing, for the MTA has accepted it already, and a path in brackets
// stays as it is, byte for byte. Both MTAs hand arguments on as they were typed:
// brackets can be missing (Postfix leaves them out of local mail, too), and around
// the path can be what RFC 5322 allows in a header: a display name, comments,
// spaces, a source route. The MTA reads over that, so it is left out: amavisd would
// take it for a part of the address, of a foreign domain, and Postfix does not find
// a recipient again that is named with it.
func NewPath(arg string) Path {
	if mailbox, ok := readMailbox(arg); ok {
		return Path{"<" + mailbox + ">"}
	}
	return PathOf(arg)
}

// PathOf makes a path of s, which is one but for its brackets: they are added where
// they are missing.
func PathOf(s string) Path {
	if len(s) > 1 && s[0] == '<' && s[len(s)-1] == '>' {
		return Path{s}
	}
	return Path{"<" + s + ">"}
}

// String returns the path with its angle brackets; the zero Path is "".
func (p Path) String() string { return p.text }

// IsZero reports whether p is no path at all.
func (p Path) IsZero() bool { return p.text == "" }

// isPlain reports whether p is nothing but a path, so that every MTA knows which
// recipient is meant.
func (p Path) isPlain() bool {
	mailbox, ok := readMailbox(p.text)
	return ok && "<"+mailbox+">" == p.text && !strings.ContainsAny(unquoted(mailbox), ",:;")
}

// readMailbox finds the mailbox in an argument as both MTAs do: in the innermost
// brackets if there are any, without comments, spaces at its ends or beside '@' and
// '.', and without a source route. ok is false where quotes, comments or brackets
// have no end, or it is not clear which brackets are meant.
func readMailbox(arg string) (mailbox string, ok bool) {
	var b []byte
	opened, closed := 0, 0
	for s := arg; s != ""; {
		n, kind := nextWord(s)
		word := s[:n]
		s = s[n:]
		switch {
		case kind == unfinished, word == ")":
			return "", false
		case kind == comment:
		case word == "<":
			if closed > 0 {
				return "", false
			}
			opened, b = opened+1, b[:0]
		case word == ">":
			if opened == 0 && s != "" {
				return "", false
			}
			closed++
		case closed > 0: // behind the brackets
		case word == " " || word == "\t":
			if len(b) > 0 && b[len(b)-1] != '@' && b[len(b)-1] != '.' {
				b = append(b, word...)
			}
		case word == "@" || word == ".":
			b = append(trimSpace(b), word...)
		default:
			b = append(b, word...)
		}
	}
	return withoutRoute(string(trimSpace(b))), opened <= closed
}

func trimSpace(b []byte) []byte { return []byte(strings.TrimRight(string(b), " \t")) }

// withoutRoute cuts a source route off (RFC 5321 section 4.1.2 A-d-l, which
// appendix C says to ignore).
func withoutRoute(mailbox string) string {
	if !strings.HasPrefix(mailbox, "@") {
		return mailbox
	}
	for s := mailbox; s != ""; {
		n, _ := nextWord(s)
		if s[:n] == ":" && len(s) > n {
			return strings.TrimLeft(s[n:], " \t")
		}
		s = s[n:]
	}
	return mailbox
}

// unquoted returns what stands in an address outside of quotes and domain literals.
func unquoted(s string) string {
	var b strings.Builder
	for s != "" {
		n, kind := nextWord(s)
		if kind == single {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// The kinds of words in an address.
type wordKind int

const (
	single     wordKind = iota // one byte
	quoted                     // a quoted string, a quoted pair, or a domain literal
	comment                    // with those in it
	unfinished                 // one of these without its end
)

// nextWord returns the length and the kind of the first word of s, which is not
// empty.
func nextWord(s string) (n int, kind wordKind) {
	switch s[0] {
	case '\\':
		if len(s) == 1 {
			return 1, unfinished
		}
		return 2, quoted
	case '"':
		return nested(s, 0, '"', quoted)
	case '[':
		return nested(s, 0, ']', quoted)
	case '(':
		return nested(s, '(', ')', comment)
	}
	return 1, single
}

// nested returns the length of a word that ends with last; first, unless it is 0,
// begins another one within.
func nested(s string, first, last byte, kind wordKind) (int, wordKind) {
	depth := 1
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case last:
			if depth--; depth == 0 {
				return i + 1, kind
			}
		case first:
			depth++
		}
	}
	return len(s), unfinished
}
