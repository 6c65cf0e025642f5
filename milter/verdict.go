package milter

import (
	"fmt"
	"strconv"
	"strings"
)

// Disposition is what is to become of a message. The zero value is none.
type Disposition int

// The dispositions, each with its libmilter name.
const (
	DispositionAccept   Disposition = iota + 1 // SMFIS_ACCEPT, after the changes
	DispositionReject                          // SMFIS_REJECT with a 5xx reply
	DispositionTempFail                        // SMFIS_TEMPFAIL with a 4xx reply
	DispositionDiscard                         // SMFIS_DISCARD
)

func (d Disposition) String() string {
	switch d {
	case DispositionAccept:
		return "accept"
	case DispositionReject:
		return "reject"
	case DispositionTempFail:
		return "tempfail"
	case DispositionDiscard:
		return "discard"
	}
	return "none"
}

// Verdict is the answer to one message. It is made only by Accept, Reject,
// TempFail and Discard, so that a reject with a 2xx reply or a discard with
// header changes cannot be written. The zero Verdict is no verdict.
type Verdict struct {
	disposition Disposition
	reply       SMTPReply
	changes     []Change
}

// Accept lets the message pass, with the changes made in the given order.
func Accept(changes ...Change) Verdict {
	return Verdict{disposition: DispositionAccept, changes: changes}
}

// Reject refuses the message for good. It panics if reply is not a 5xx one.
func Reject(reply SMTPReply) Verdict {
	mustClass(reply, 5)
	return Verdict{disposition: DispositionReject, reply: reply}
}

// TempFail refuses the message for now. It panics if reply is not a 4xx one.
func TempFail(reply SMTPReply) Verdict {
	mustClass(reply, 4)
	return Verdict{disposition: DispositionTempFail, reply: reply}
}

// Discard takes the message and drops it; the SMTP client sees success.
func Discard() Verdict { return Verdict{disposition: DispositionDiscard} }

// Disposition returns what is to become of the message.
func (v Verdict) Disposition() Disposition { return v.disposition }

// Reply returns the reply of a reject or tempfail, the zero SMTPReply otherwise.
func (v Verdict) Reply() SMTPReply { return v.reply }

// Changes returns the changes of an accept in their order.
func (v Verdict) Changes() []Change { return v.changes }

// SMTPReply is a negative reply to the SMTP client (RFC 5321 section 4.2) with an
// enhanced status code (RFC 3463) of the same class.
type SMTPReply struct {
	code     int
	enhanced string
	text     string
}

// NewSMTPReply makes a reply of a code from 400 to 599, an enhanced status code
// such as "5.7.1" of the same class, and a text. The text may hold any bytes: line
// ends and tabs become spaces, other control bytes '?', and what is over
// MaxReplyTextBytes is cut off. An empty text becomes a general one, for sendmail
// takes no reply without a text.
func NewSMTPReply(code int, enhanced, text string) (SMTPReply, error) {
	if code < 400 || code > 599 {
		return SMTPReply{}, fmt.Errorf("SMTP reply code %d is not from 400 to 599", code)
	}
	if err := checkEnhanced(enhanced); err != nil {
		return SMTPReply{}, err
	}
	if int(enhanced[0]-'0') != code/100 {
		return SMTPReply{}, fmt.Errorf("enhanced status code %s does not go with reply code %d", enhanced, code)
	}
	return SMTPReply{code, enhanced, cleanReplyText(text, code/100)}, nil
}

// MustSMTPReply is NewSMTPReply for constants: it panics on an error.
func MustSMTPReply(code int, enhanced, text string) SMTPReply {
	r, err := NewSMTPReply(code, enhanced, text)
	if err != nil {
		panic(err)
	}
	return r
}

// Code returns the three-digit reply code; 0 in the zero SMTPReply.
func (r SMTPReply) Code() int { return r.code }

// Enhanced returns the enhanced status code.
func (r SMTPReply) Enhanced() string { return r.enhanced }

// Text returns the text behind the codes.
func (r SMTPReply) Text() string { return r.text }

// String returns the reply as one line, as it may stand in a log; empty for the
// zero SMTPReply.
func (r SMTPReply) String() string {
	if r.code == 0 {
		return ""
	}
	return strconv.Itoa(r.code) + " " + r.enhanced + " " + r.text
}

func mustClass(r SMTPReply, class int) {
	if r.code/100 != class {
		panic(fmt.Sprintf("milter: reply %q is not of class %dxx", r, class))
	}
}

// checkEnhanced checks the form class.subject.detail of RFC 3463 section 2:
// class 4 or 5 here, the others one to three digits.
func checkEnhanced(s string) error {
	bad := fmt.Errorf("enhanced status code %q is not of the form 4.x.x or 5.x.x", s)
	if len(s) < 5 || s[1] != '.' || (s[0] != '4' && s[0] != '5') {
		return bad
	}
	part, digits := 0, 0
	for _, c := range []byte(s[2:]) {
		switch {
		case c >= '0' && c <= '9' && digits < 3:
			digits++
		case c == '.' && part == 0 && digits > 0:
			part, digits = 1, 0
		default:
			return bad
		}
	}
	if part != 1 || digits == 0 {
		return bad
	}
	return nil
}

// MaxReplyTextBytes bounds the text of a reply, so that the line stays within the
// 512 bytes of RFC 5321 section 4.5.3.1.5 with both codes and CR LF.
const MaxReplyTextBytes = 480

// cleanReplyText makes one line of printable ASCII and UTF-8 (which RFC 6531
// section 3.7.4 allows in replies).
func cleanReplyText(s string, class int) string {
	s = strings.TrimSpace(strings.ToValidUTF8(s, "?"))
	if len(s) > MaxReplyTextBytes {
		s = strings.ToValidUTF8(s[:MaxReplyTextBytes], "")
	}
	clean := []byte(strings.ReplaceAll(s, "\r\n", " "))
	for i, c := range clean {
		switch {
		case c == '\r' || c == '\n' || c == '\t':
			clean[i] = ' '
		case c < ' ' || c == 0x7f:
			clean[i] = '?'
		}
	}
	switch {
	case len(clean) > 0:
		return string(clean)
	case class == 5:
		return "Message rejected"
	}
	return "Try again later"
}
