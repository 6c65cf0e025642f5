package milter

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/panics"
	gomilter "github.com/d--j/go-milter"
)

// Limits of one message's envelope. An MTA has limits of its own; these keep a
// peer that is none from filling the memory.
const (
	// MaxRecipients is the largest number of recipients of one message.
	MaxRecipients = 50_000
	// MaxEnvelopeBytes bounds the sum of the paths of one message.
	MaxEnvelopeBytes = 8 << 20
)

// Replies that this package gives by itself. The SMTP client reads no more than
// that; the log has the cause.
var (
	replyFailure    = MustSMTPReply(451, "4.3.0", "Content filter failure, try again later")
	replyTooManyTo  = MustSMTPReply(452, "4.5.3", "Too many recipients")
	replyNoRoom     = MustSMTPReply(452, "4.3.1", "Insufficient system resources, try again later")
	replyBusy       = MustSMTPReply(451, "4.3.2", "Too many connections, try again later")
	replyOutOfOrder = MustSMTPReply(451, "4.5.0", "Content filter protocol error, try again later")
)

// session turns the library's callbacks on one connection into transactions. No
// callback returns an error, for that would drop the connection, and Postfix then
// fails every later message of its SMTP session; what is wrong is answered at the
// end of the message.
type session struct {
	srv *Server
	g   *guard

	refusing bool // every message is refused: there are too many connections
	resuming bool // the connection goes on after a doze

	actions  gomilter.OptAction
	protocol gomilter.OptProtocol

	// Facts of the connection.
	client   Client
	tls      TLS
	hostname string
	daemon   string

	// The message, from MAIL on.
	env     *Envelope
	size    int         // bytes in paths
	held    int         // bytes of memory that they take
	charged int         // of these, what is counted with those of other messages
	tx      Transaction // from DATA on
	refusal *SMTPReply  // what the message is to be answered whatever the handler thinks
}

func newSession(srv *Server, g *guard) *session { return &session{srv: srv, g: g} }

// recovered is deferred around everything that a peer can reach: a panic is
// logged and ends in cure, never in the end of the process.
func (s *session) recovered(stage string, cure func()) {
	if p := recover(); p != nil {
		panics.Log(s.logger(), stage, p)
		cure()
	}
}

// protect runs the work of a callback. After a panic in it the message is
// tempfailed.
func (s *session) protect(stage string, work func()) {
	defer s.recovered(stage, func() { s.refuse(replyFailure) })
	work()
}

// on is protect for the callbacks of events that the MTA may wait for.
func (s *session) on(stage string, work func()) (*gomilter.Response, error) {
	s.protect(stage, work)
	return gomilter.RespContinue, nil
}

// refuse notes the answer to the current message; the first one stands.
func (s *session) refuse(reply SMTPReply) {
	if s.refusal == nil {
		s.refusal = &reply
	}
}

// NewConnection is called at the start and, on the same session, after QUIT_NC.
func (s *session) NewConnection(m gomilter.Modifier) error {
	if s.resuming {
		s.resuming = false
		return nil
	}
	s.protect("new connection", func() {
		s.reset(ErrAborted)
		s.client, s.tls, s.hostname, s.daemon = Client{}, TLS{}, "", ""
		s.actions = m.Actions()
		s.protocol = m.Protocol()
		s.takeContent()
	})
	return nil
}

// Connect takes the facts of the SMTP client. host is its verified name or, in
// sendmail, its address in brackets.
func (s *session) Connect(host, family string, port uint16, addr string, m gomilter.Modifier) (*gomilter.Response, error) {
	return s.on("connect", func() {
		s.reset(ErrAborted)
		s.client = Client{Port: port}
		if family == "tcp4" || family == "tcp6" {
			s.client.Address = cleanAddress(addr)
		}
		if p, err := strconv.ParseUint(s.macro("{client_port}"), 10, 16); err == nil && port == 0 {
			s.client.Port = uint16(p)
		}
		s.client.Name = verifiedName(clip(host), s.macro("{client_name}"), s.macro("{client_resolve}"))
		s.hostname = s.macro("j")
		s.daemon = s.macro("{daemon_name}")
		s.tls = TLS{}
	})
}

// unknownClient is Postfix's word for a client whose name it cannot verify.
const unknownClient = "unknown"

// verifiedName returns the client's name as far as the MTA vouches for it.
func verifiedName(host, clientName, resolve string) string {
	name := clientName
	if name == "" {
		name = host
	}
	if name == "" || strings.HasPrefix(name, "[") || (resolve != "" && resolve != "OK") {
		return unknownClient
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return unknownClient
	}
	return name
}

// cleanAddress returns an address in its usual form, IPv4 ones mapped into IPv6
// as IPv4; empty if it is none.
func cleanAddress(addr string) string {
	addr = strings.TrimPrefix(addr, "IPv6:")
	addr = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return ""
	}
	return ip.Unmap().String()
}

// Helo takes the name and the TLS facts, which come with the HELO after STARTTLS.
func (s *session) Helo(name string, m gomilter.Modifier) (*gomilter.Response, error) {
	return s.on("helo", func() {
		s.client.Helo = clip(name)
		s.tls = s.tlsFacts()
	})
}

func (s *session) tlsFacts() TLS {
	return TLS{
		Version:    s.macro("{tls_version}"),
		Cipher:     s.macro("{cipher}"),
		CipherBits: s.macro("{cipher_bits}"),
		Verify:     s.macro("{verify}"),
	}
}

// MailFrom begins an envelope. The library has cut the brackets off its from; the
// guard has the argument as it was sent.
func (s *session) MailFrom(_, args string, m gomilter.Modifier) (response *gomilter.Response, err error) {
	defer func() {
		if s.refusing {
			s.refuse(replyBusy)
			response = s.response(TempFail(replyBusy))
		}
	}()
	return s.on("mail", func() {
		argument := s.g.takeArgument()
		s.reset(ErrAborted)
		if t := s.tlsFacts(); t.Version != "" {
			s.tls = t
		}
		s.env = &Envelope{
			Client: s.client, TLS: s.tls, Hostname: s.hostname, DaemonName: s.daemon,
			Auth: Auth{
				Type:   s.macro("{auth_type}"),
				Authen: s.macro("{auth_authen}"),
				SSF:    s.macro("{auth_ssf}"),
			},
			Protocol: s.macro("r"),
			QueueID:  s.macro("i"),
			Sender:   ReadPath(argument, s.macro("{mail_addr}")),
			UTF8:     hasKeyword(args, "SMTPUTF8"),

			CanQuarantine: s.actions&gomilter.OptQuarantine != 0,
		}
		s.size = len(argument) + s.env.Sender.moreBytes()
		s.hold(s.size + pathCost)
	})
}

// hold counts the memory of one more path, the first ownEnvelope for the message alone.
// If there is no room for it the message is refused, and holds none any more.
func (s *session) hold(bytes int) bool {
	beyond := max(s.held+bytes-ownEnvelope, 0) - s.charged
	if beyond > 0 && !s.srv.charge(beyond) {
		s.refuse(replyNoRoom)
		s.env.Sender, s.env.Recipients = Path{}, nil
		s.release()
		return false
	}
	s.held += bytes
	s.charged += max(beyond, 0)
	return true
}

// release gives back what the message's paths have taken.
func (s *session) release() {
	if s.charged > 0 {
		s.srv.charge(-s.charged)
	}
	s.size, s.held, s.charged = 0, 0, 0
}

// clip cuts a name to what is kept of it: its end, for there the domain stands. The copy
// keeps the rest from living as long.
func clip(name string) string {
	if len(name) <= maxName {
		return name
	}
	return strings.Clone(name[len(name)-maxName:])
}

// hasKeyword reports whether a keyword without a value is among ESMTP arguments,
// which are separated by spaces (RFC 5321 section 4.1.2: in any case).
func hasKeyword(args, keyword string) bool {
	for arg := range strings.FieldsSeq(args) {
		if strings.EqualFold(arg, keyword) {
			return true
		}
	}
	return false
}

// RcptTo adds a recipient.
func (s *session) RcptTo(_, _ string, m gomilter.Modifier) (*gomilter.Response, error) {
	return s.on("rcpt", func() {
		argument := s.g.takeArgument()
		if s.env == nil || s.refusal != nil {
			return
		}
		recipient := ReadPath(argument, s.macro("{rcpt_addr}"))
		more := len(argument) + recipient.moreBytes()
		if len(s.env.Recipients) >= MaxRecipients || s.size+more > MaxEnvelopeBytes {
			s.refuse(replyTooManyTo)
			return
		}
		if !s.hold(more + pathCost) {
			return
		}
		s.size += more
		s.env.Recipients = append(s.env.Recipients, recipient)
	})
}

// Data begins the transaction: Postfix has told the queue id by now.
func (s *session) Data(m gomilter.Modifier) (*gomilter.Response, error) {
	return s.on("data", func() {
		s.begin()
	})
}

// begin opens the transaction if the envelope is complete.
func (s *session) begin() {
	if s.tx != nil || s.env == nil || s.refusal != nil {
		return
	}
	if len(s.env.Recipients) == 0 {
		s.warnDisorder("message without recipients")
		s.refuse(replyOutOfOrder)
		return
	}
	s.learnQueueID()
	s.tx = s.srv.handler.Begin(s.env)
}

func (s *session) learnQueueID() {
	if id := s.macro("i"); id != "" {
		s.env.QueueID = id
	}
}

// Header passes on a header field with its value as it was sent.
func (s *session) Header(name, value string, m gomilter.Modifier) (*gomilter.Response, error) {
	return s.on("header", func() {
		s.begin()
		if s.tx != nil && s.refusal == nil {
			if !s.hasLeadingSpace() {
				value = " " + value
			}
			s.tx.Header(name, value)
		}
	})
}

// hasLeadingSpace reports whether the MTA leaves the space behind the colon to us.
func (s *session) hasLeadingSpace() bool { return s.protocol&gomilter.OptHeaderLeadingSpace != 0 }

// Headers ends the header.
func (s *session) Headers(m gomilter.Modifier) (*gomilter.Response, error) {
	return s.on("end of header", func() {
		s.begin()
		if s.tx != nil && s.refusal == nil {
			s.tx.EndHeader()
		}
	})
}

// BodyChunk passes on a piece of the body. A piece that the guard made of the end
// packet gets no answer: the MTA waits for the one to the end of the message.
func (s *session) BodyChunk(chunk []byte, m gomilter.Modifier) (*gomilter.Response, error) {
	response, err := s.on("body", func() {
		s.begin()
		if s.tx != nil && s.refusal == nil {
			s.tx.Body(chunk)
		}
	})
	if s.g.tail {
		s.g.tail = false
		response = nil
	}
	return response, err
}

// Abort drops the message and keeps the connection. It comes also after every
// message that was answered, and from the library itself when the MTA forgets it.
func (s *session) Abort(gomilter.Modifier) error {
	s.protect("abort", func() {
		s.reset(ErrAborted)
	})
	return nil
}

// Unknown is an SMTP command that the MTA does not know either.
func (s *session) Unknown(string, gomilter.Modifier) (*gomilter.Response, error) {
	return gomilter.RespContinue, nil
}

// Cleanup is called last, when the connection has ended.
func (s *session) Cleanup(gomilter.Modifier) {
	if s.g.dozing {
		return
	}
	s.protect("cleanup", func() {
		cause := error(ErrPeerGone)
		if s.srv.isDraining() {
			cause = ErrServerClosed
		}
		s.reset(cause)
	})
}

// reset ends the transaction, if there is one, and forgets the message. It is
// safe at any time.
func (s *session) reset(cause error) {
	tx := s.tx
	s.env, s.tx, s.refusal = nil, nil, nil
	s.release()
	if tx != nil {
		tx.End(Outcome{Err: cause})
	}
}

// macro looks a macro up, one of a letter with and without braces.
func (s *session) macro(name string) string {
	value, told := s.g.macros.get(name)
	if !told && len(name) == 1 {
		value, _ = s.g.macros.get("{" + name + "}")
	}
	return value
}

var (
	_ gomilter.Milter = (*session)(nil)
	_ net.Listener    = (*oneShot)(nil)
)
