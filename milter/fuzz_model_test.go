package milter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// content is a message as a handler sees it.
type content struct {
	helo, sender string
	recipients   []string
	header       []string // name:value
	eoh          int
	body         []byte
}

// newContent begins with an envelope.
func newContent(env *Envelope) *content {
	c := &content{helo: env.Client.Helo, sender: env.Sender.forMTA()}
	for _, r := range env.Recipients {
		c.recipients = append(c.recipients, r.forMTA())
	}
	return c
}

// digest is a number that another content would not have.
func (c *content) digest() uint64 {
	sum := fnv.New64a()
	fmt.Fprintf(sum, "%q %q %q %q %d %q", c.helo, c.sender, c.recipients, c.header, c.eoh, c.body)
	return sum.Sum64()
}

// panicField is a header field that makes the handler panic.
const panicField = "X-Panic"

// The kinds of verdicts that the handler under fuzzing gives. Which one is told by the
// content, and each but a discard tells the content, so that a message that was changed
// on its way, or the answer to another one, does not go unnoticed.
const (
	kindReject = iota + 1
	kindTempFail
	kindDiscard
	kindPanic
	kindUnsendable // changes of which the last cannot be sent
	kindRecipient  // changes that not every MTA offers
	kinds          // below it and 0 accept with a header field
)

func (c *content) kind() uint64 { return c.digest() % (kinds + 1) }

// verdict is what the handler says.
func (c *content) verdict() Verdict {
	id := fmt.Sprintf("%x", c.digest())
	told := AddHeader{"X-Digest", id}
	switch c.kind() {
	case kindReject:
		return Reject(MustSMTPReply(550, "5.7.1", id))
	case kindTempFail:
		return TempFail(MustSMTPReply(450, "4.7.1", id))
	case kindDiscard:
		return Discard()
	case kindPanic:
		panic(provoked)
	case kindUnsendable:
		return Accept(told, AddRecipient{PathOf("<a@example.com\r\n>")})
	case kindRecipient:
		return Accept(told, AddRecipient{PathOf("<a@example.com>")}, Quarantine{id})
	}
	return Accept(told, DeleteHeader{1, "X-Digest"})
}

// provoked is the value of panics that the handler means.
const provoked = "the handler was told to"

// answer is what the MTA has to read for that verdict.
func (c *content) answer(actions, protocol uint32) string {
	id := fmt.Sprintf("%x", c.digest())
	var changes []string
	if actions&miltertest.AddHeaders != 0 {
		space := ""
		if protocol&miltertest.HdrLeadSpc != 0 {
			space = " "
		}
		changes = append(changes, fmt.Sprintf("addheader %q %q", "X-Digest", space+id))
	}
	switch c.kind() {
	case kindReject:
		return "reply 550 5.7.1 " + id
	case kindTempFail:
		return "reply 450 4.7.1 " + id
	case kindDiscard:
		return "discard"
	case kindPanic, kindUnsendable:
		return failed
	case kindRecipient:
		if actions&miltertest.AddRcpts == 0 || actions&miltertest.Quarantine == 0 {
			return failed
		}
		changes = append(changes, `addrcpt "<a@example.com>"`, fmt.Sprintf("quarantine %q", id))
	default:
		if actions&miltertest.ChgHeaders != 0 {
			changes = append(changes, `chgheader 1 "X-Digest" ""`)
		}
	}
	return strings.Join(append(changes, "accept"), "\n")
}

// failed is the answer to a message that could not be judged.
const failed = "reply 451 4.3.0 Content filter failure, try again later"

// stages are the events of a message in their order; macros count as their event, but
// for those for the end. An event of an earlier stage than the one before begins anew.
const stages = "CHMRTLNBE"

// model reads the bytes of a connection in the simplest way that comes to mind and
// says what has to become of them.
type model struct {
	actions, protocol uint32 // as negotiated
	refused           bool   // whatever comes: there are too many connections

	answers []string   // behind that to the negotiation
	ended   []*content // of every transaction, in order
	panics  int

	last    int // stage
	helo    string
	env     *content
	tx      *content
	refusal string
}

// negotiates reports whether raw begins with an offer that has to be taken.
func negotiates(raw []byte) bool {
	code, data, _, ok := cutFrame(raw)
	return ok && code == 'O' && len(data) >= 12 && binary.BigEndian.Uint32(data) >= 2
}

// cutFrame cuts the first frame off, if it is whole.
func cutFrame(raw []byte) (code byte, data, rest []byte, ok bool) {
	if len(raw) < 4 {
		return 0, nil, nil, false
	}
	n := binary.BigEndian.Uint32(raw)
	if n == 0 || n > 1<<20+1 || uint64(len(raw)-4) < uint64(n) {
		return 0, nil, nil, false
	}
	return raw[4], raw[5 : 4+n], raw[4+n:], true
}

// run reads what follows the offer.
func (m *model) run(raw []byte) {
	_, _, raw, _ = cutFrame(raw)
	for {
		code, data, rest, ok := cutFrame(raw)
		if !ok || !m.event(code, data) {
			m.forget()
			return
		}
		raw = rest
	}
}

// event reports whether the connection goes on.
func (m *model) event(code byte, data []byte) bool {
	first, rest, found := bytes.Cut(data, []byte{0})
	order := code
	switch code {
	case 'D':
		if len(data) == 0 {
			return false
		}
		if order = data[0]; order == 'E' {
			order = 0
		}
	case 'C':
		if !found || len(rest) == 0 || rest[0] != 'U' && (len(rest) < 4 || !strings.Contains("L46", string(rest[:1]))) {
			return false
		}
	case 'H':
		if len(data) == 0 {
			return false
		}
	case 'M', 'R':
		if !found {
			return false
		}
	case 'L':
		if value, ok := bytes.CutSuffix(rest, []byte{0}); !found || len(first) == 0 || !ok || bytes.IndexByte(value, 0) >= 0 {
			return false
		}
	case 'T', 'N', 'B', 'E', 'A', 'K', 'U':
	default: // QUIT, and what is none of these
		return false
	}
	if stage := strings.IndexByte(stages, order) + 1; stage > 0 {
		if stage < m.last {
			m.forget()
		}
		m.last = stage
	}
	m.act(code, data, string(first), rest)
	return true
}

// act does what a well-formed frame says.
func (m *model) act(code byte, data []byte, first string, rest []byte) {
	switch code {
	case 'D':
	case 'C', 'K':
		m.forget()
		m.helo = ""
		if code == 'C' {
			m.answer(miltertest.NRConnect)
		}
	case 'A':
		m.forget()
	case 'H':
		m.helo = first[max(len(first)-maxName, 0):]
		m.answer(miltertest.NRHelo)
	case 'M':
		m.forget()
		m.env = &content{helo: m.helo, sender: NewPath(first).forMTA()}
		if m.refused {
			m.refusal = tooMany
		}
		m.answer(miltertest.NRMail)
	case 'R':
		if m.env != nil {
			m.env.recipients = append(m.env.recipients, NewPath(first).forMTA())
		}
		m.answer(miltertest.NRRcpt)
	case 'U':
		m.answer(miltertest.NRUnknown)
	default:
		m.begin()
		m.content(code, data, first, rest)
	}
}

// begin is DATA, or what there is of a message without it.
func (m *model) begin() {
	switch {
	case m.tx != nil || m.env == nil || m.refusal != "":
	case len(m.env.recipients) == 0:
		m.refusal = noMessage
	default:
		m.tx = m.env
	}
}

// content is DATA and all that follows it.
func (m *model) content(code byte, data []byte, first string, rest []byte) {
	taken := m.tx != nil && m.refusal == ""
	switch code {
	case 'T':
		m.answer(miltertest.NRData)
	case 'L':
		value := string(rest[:len(rest)-1])
		if m.protocol&miltertest.HdrLeadSpc == 0 {
			value = " " + value
		}
		if taken && first == panicField {
			m.panics++
			m.refusal = failed
		} else if taken {
			m.tx.header = append(m.tx.header, first+":"+value)
		}
		m.answer(miltertest.NRHeader)
	case 'N':
		if taken {
			m.tx.eoh++
		}
		m.answer(miltertest.NREOH)
	case 'B', 'E':
		if taken {
			m.tx.body = append(m.tx.body, data...)
		}
		if code == 'B' {
			m.answer(miltertest.NRBody)
		} else {
			m.answers = append(m.answers, m.verdict())
			m.forget()
		}
	}
}

// verdict is the answer to the end of a message.
func (m *model) verdict() string {
	switch {
	case m.refusal != "":
		return m.refusal
	case m.tx == nil:
		return noMessage
	case m.tx.kind() == kindPanic:
		m.panics++
	}
	return m.tx.answer(m.actions, m.protocol)
}

// answer is that to an event before the end of the message.
func (m *model) answer(noReply uint32) {
	switch {
	case m.protocol&noReply != 0:
	case noReply == miltertest.NRMail && m.refused:
		m.answers = append(m.answers, tooMany)
	default:
		m.answers = append(m.answers, "continue")
	}
}

// forget ends the message at hand.
func (m *model) forget() {
	if m.tx != nil {
		m.ended = append(m.ended, m.tx)
	}
	m.env, m.tx, m.refusal = nil, nil, ""
}
