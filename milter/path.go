package milter

import (
	"bytes"
	"strings"
)

// Path is a reverse-path or forward-path (RFC 5321 section 4.1.2) as the MTA
// accepted it, always with its angle brackets. The zero value is no path at all;
// the null sender is [NullSender].
type Path struct {
	text string
	// typed is by what the MTA finds a recipient again, where that is not text.
	typed string
}

// NullSender is the reverse-path of bounces and other mail that must not be
// answered: <>.
var NullSender = Path{text: "<>"}

// NewPath makes a path of what the MTA passed as the argument of MAIL or RCPT, and
// that alone: see [ReadPath].
func NewPath(arg string) Path { return ReadPath(arg, "") }

// ReadPath makes a path of what the MTA passed as the argument of MAIL or RCPT, and
// of the address that the MTA says it read in it (macros {mail_addr}, {rcpt_addr}),
// which may be missing or anything. It refuses nothing, for the MTA has accepted it
// already.
//
// Both MTAs hand arguments on as they were typed. A plain path, with or without
// brackets (Postfix leaves them out of local mail), stays as it is, byte for byte,
// whatever the MTA makes of it: it may have looked an alias up. All else is for the
// MTA to read, for it is the MTA that delivers: amavisd would judge somebody else,
// most often of a foreign domain, and what was meant for ours would come in untagged.
// Where the MTA does not tell, it is what readMailbox finds.
func ReadPath(arg, reading string) Path {
	if inside, ok := strings.CutPrefix(arg, "<"); ok {
		if inside, ok = strings.CutSuffix(inside, ">"); ok && isPlainMailbox(inside) {
			return Path{text: arg}
		}
	}
	if isPlainMailbox(arg) {
		return Path{text: "<" + arg + ">"}
	}
	mailbox, ok := readMailbox(arg)
	typed := PathOf(arg)
	if ok {
		typed = Path{text: "<" + mailbox + ">"}
	}
	told := toldMailbox(mailbox, reading)
	if told == "" || "<"+told+">" == typed.text {
		return typed
	}
	return Path{text: "<" + told + ">", typed: typed.text}
}

// PathOf makes a path of s, which is one but for its brackets: they are added where
// they are missing.
func PathOf(s string) Path {
	if len(s) > 1 && s[0] == '<' && s[len(s)-1] == '>' {
		return Path{text: s}
	}
	return Path{text: "<" + s + ">"}
}

// String returns the path with its angle brackets; the zero Path is "".
func (p Path) String() string { return p.text }

// IsZero reports whether p is no path at all.
func (p Path) IsZero() bool { return p.text == "" }

// forMTA is by what the MTA finds the recipient. Postfix compares with what was
// typed, not with what it read in it; sendmail reads it once more.
func (p Path) forMTA() string {
	if p.typed != "" {
		return p.typed
	}
	return p.text
}

// moreBytes is how much the path holds beyond the argument that was typed, in bytes.
func (p Path) moreBytes() int {
	if p.typed == "" {
		return 0
	}
	return len(p.text)
}

// isFound reports whether every MTA finds the recipient by forMTA: it is nothing but
// a mailbox, neither several nor a group.
func (p Path) isFound() bool {
	path := p.forMTA()
	mailbox, ok := readMailbox(path)
	return ok && "<"+mailbox+">" == path && !strings.ContainsAny(unquoted(mailbox), ",:;")
}

// readMailbox finds the mailbox in an argument where the MTA does not tell: in the
// innermost brackets if there are any, without comments, spaces at its ends or beside
// '@' and '.', and without a source route. Between two words a comment leaves a space:
// sendmail makes a character of its own of either (BlankSub), and never one word of
// two. ok is false where quotes, comments or brackets have no end, or it is not clear
// which brackets are meant.
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
		case kind == comment, word == " ", word == "\t":
			if len(b) > 0 && b[len(b)-1] != '@' && b[len(b)-1] != '.' {
				b = append(b, ' ')
			}
		case word == "@" || word == ".":
			b = append(bytes.TrimRight(b, " "), word...)
		default:
			b = append(b, word...)
		}
	}
	return withoutRoute(string(bytes.TrimRight(b, " "))), opened <= closed
}

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
