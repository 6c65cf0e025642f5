package bench

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Commands and answers of the milter protocol (libmilter mfdef.h, SMFIC_* and SMFIR_*).
const (
	cmdAbort   = 'A'
	cmdBody    = 'B'
	cmdConnect = 'C'
	cmdMacro   = 'D'
	cmdEOM     = 'E'
	cmdHelo    = 'H'
	cmdHeader  = 'L'
	cmdMail    = 'M'
	cmdEOH     = 'N'
	cmdOptNeg  = 'O'
	cmdQuit    = 'Q'
	cmdRcpt    = 'R'
	cmdData    = 'T'

	ansAccept    = 'a'
	ansContinue  = 'c'
	ansDiscard   = 'd'
	ansAddHeader = 'h'
	ansInsHeader = 'i'
	ansChgHeader = 'm'
	ansProgress  = 'p'
	ansReject    = 'r'
	ansSkip      = 's'
	ansTempfail  = 't'
	ansReply     = 'y'
)

// Bits of the negotiation (mfapi.h SMFIF_*, mfdef.h SMFIP_*).
const (
	setSymList  = 1 << 8  // SMFIF_SETSYMLIST
	hdrLeadSpc  = 1 << 20 // SMFIP_HDR_LEADSPC
	allActions  = 0x1ff
	allProtocol = 0x1fffff
)

// bits says for each event by which bits of the negotiation it is not sent, or not
// answered.
var bits = map[byte]struct{ no, noReply uint32 }{
	cmdConnect: {1 << 0, 1 << 12},
	cmdHelo:    {1 << 1, 1 << 13},
	cmdMail:    {1 << 2, 1 << 14},
	cmdRcpt:    {1 << 3, 1 << 15},
	cmdBody:    {1 << 4, 1 << 19},
	cmdHeader:  {1 << 5, 1 << 7},
	cmdEOH:     {1 << 6, 1 << 18},
	cmdData:    {1 << 9, 1 << 16},
	cmdEOM:     {0, 0},
}

// stages are the events that have a list of macros, by their numbers in a list that a
// milter asks for (mfapi.h SMFIM_*).
var stages = map[uint32]byte{0: cmdConnect, 1: cmdHelo, 2: cmdMail, 3: cmdRcpt, 4: cmdData, 5: cmdEOM, 6: cmdEOH}

// MTA is how one MTA speaks to a milter.
type MTA struct {
	Name                       string
	version, actions, protocol uint32

	// macros are the lists that it sends unless a milter asks for others, and values
	// what it knows; queueID stands for the queue id.
	macros map[byte]string
	values map[string]string

	// idKnownAt are the events before which it sends the queue id.
	idKnownAt string

	// repeats says that it sends the macros of the end of the header before each
	// header field as well, and those of the end of the message before each piece of the
	// body (Postfix, milter8.c).
	repeats bool

	// EachFrame says that it writes each frame by itself, and not as many as fit until an
	// answer is due.
	EachFrame bool
}

// queueID is where the queue id goes: as long as one, and what no frame has.
const queueID = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"

// The two MTAs, by the offers and the macros that they were seen to send: both to a
// milter that needs nothing configured.
var (
	Postfix = MTA{
		Name: "Postfix", version: 6, actions: allActions, protocol: allProtocol,
		macros: map[byte]string{
			cmdConnect: "j {daemon_name} {daemon_addr} v _",
			cmdHelo:    "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
			cmdMail:    "i {auth_type} {auth_authen} {auth_author} {mail_addr} {mail_host} {mail_mailer}",
			cmdRcpt:    "i {rcpt_addr} {rcpt_host} {rcpt_mailer}",
			cmdData:    "i", cmdEOH: "i", cmdEOM: "i",
		},
		values: map[string]string{
			"j": "mx.example.org", "{daemon_name}": "mx.example.org", "{daemon_addr}": "192.0.2.25", "v": "Postfix 3.7.11",
			"_": "client.example.net [198.51.100.7]", "{client_name}": "client.example.net", "{client_port}": "40312", "{client_addr}": "198.51.100.7",
			"{client_resolve}": "OK", "{client_ptr}": "client.example.net", "{client_connections}": "0",
			"i": queueID, "{mail_addr}": "sender@example.net", "{mail_host}": "example.net", "{mail_mailer}": "smtp",
			"{rcpt_addr}": "user@example.org", "{rcpt_host}": "example.org", "{rcpt_mailer}": "relay",
		},
		idKnownAt: string([]byte{cmdData, cmdHeader, cmdEOH, cmdBody, cmdEOM}), repeats: true,
	}
	Sendmail = MTA{
		Name: "sendmail", version: 6, actions: allActions, protocol: allProtocol,
		macros: map[byte]string{
			cmdConnect: "j _ {daemon_name} {if_name} {if_addr}",
			cmdHelo:    "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}",
			cmdMail:    "i {auth_type} {auth_authen} {auth_ssf} {auth_author} {mail_mailer} {mail_host} {mail_addr}",
			cmdRcpt:    "{rcpt_mailer} {rcpt_host} {rcpt_addr}",
			cmdEOM:     "{msg_id}",
		},
		values: map[string]string{
			"j": "mx.example.org", "{daemon_name}": "MTA", "{if_name}": "mx.example.org", "{if_addr}": "192.0.2.25", "r": "ESMTP", "b": "Tue, 1 Jul 2025 12:00:00 +0200",
			"_": "client.example.net [198.51.100.7]", "{client_name}": "client.example.net", "{client_port}": "40312", "{client_addr}": "198.51.100.7",
			"{client_resolve}": "OK", "{client_ptr}": "client.example.net",
			"i": queueID, "{mail_addr}": "sender@example.net", "{mail_host}": "example.net.", "{mail_mailer}": "esmtp", "{msg_id}": "<1@example.net>",
			"{rcpt_addr}": "user@example.org", "{rcpt_host}": "example.org.", "{rcpt_mailer}": "esmtp",
		},
		idKnownAt: string([]byte{cmdMail, cmdRcpt, cmdData, cmdEOH, cmdEOM}),
	}
)

// The two forms of sendmail. It writes each packet by itself (milter.c milter_write); the
// other one has its offer and its macros and gathers frames as Postfix does, which shows
// what of a row is the writing.
var (
	SendmailAsItWrites = Sendmail.as("sendmail, as it writes", true)
	SendmailGathered   = Sendmail.as("sendmail's offer, gathered", false)
)

// as is the same MTA by another name and with another way to write.
func (m MTA) as(name string, eachFrame bool) MTA {
	m.Name, m.EachFrame = name, eachFrame
	return m
}

// terms are what a milter and an MTA agreed on.
type terms struct {
	actions, protocol uint32
	macros            map[byte]string
}

// appendFrame appends one frame.
func appendFrame(p []byte, command byte, data ...byte) []byte {
	p = binary.BigEndian.AppendUint32(p, uint32(len(data)+1))
	return append(append(p, command), data...)
}

func cstrings(list ...string) []byte {
	var p []byte
	for _, s := range list {
		p = append(append(p, s...), 0)
	}
	return p
}

// offer is the MTA's first frame.
func (m *MTA) offer() []byte {
	var p []byte
	for _, v := range []uint32{m.version, m.actions, m.protocol} {
		p = binary.BigEndian.AppendUint32(p, v)
	}
	return appendFrame(nil, cmdOptNeg, p...)
}

// agree reads the milter's answer to the offer, without its length.
func (m *MTA) agree(frame []byte) (terms, error) {
	if len(frame) < 13 || frame[0] != cmdOptNeg {
		return terms{}, fmt.Errorf("the answer to the offer is a frame of %d bytes", len(frame))
	}
	p := frame[1:]
	version := binary.BigEndian.Uint32(p)
	t := terms{actions: binary.BigEndian.Uint32(p[4:]), protocol: binary.BigEndian.Uint32(p[8:]), macros: map[byte]string{}}
	if version < 2 || version > m.version || t.actions&^m.actions != 0 || t.protocol&^m.protocol != 0 {
		return t, fmt.Errorf("more was asked for than was offered: version %d, actions %#x, protocol %#x", version, t.actions, t.protocol)
	}
	for event, list := range m.macros {
		t.macros[event] = list
	}
	for p = p[12:]; len(p) > 0; {
		if len(p) < 5 {
			return t, fmt.Errorf("%d bytes are left of the answer to the offer", len(p))
		}
		event, ok := stages[binary.BigEndian.Uint32(p)]
		list, rest, whole := strings.Cut(string(p[4:]), "\x00")
		if !ok || !whole || t.actions&setSymList == 0 {
			return t, fmt.Errorf("a list of macros for stage %d that cannot be", binary.BigEndian.Uint32(p))
		}
		t.macros[event] = strings.ReplaceAll(list, ",", " ")
		p = []byte(rest)
	}
	return t, nil
}

// macroFrame is what the MTA sends before an event; nothing if it knows none of the
// macros.
func (m *MTA) macroFrame(t terms, event byte) []byte {
	list := event
	switch {
	case m.repeats && event == cmdHeader:
		list = cmdEOH
	case m.repeats && event == cmdBody:
		list = cmdEOM
	}
	data := []byte{event}
	for _, name := range strings.Fields(t.macros[list]) {
		value, known := m.values[name]
		if !known || value == queueID && !strings.ContainsRune(m.idKnownAt, rune(event)) {
			continue
		}
		data = append(data, cstrings(name, value)...)
	}
	if len(data) == 1 {
		return nil
	}
	return appendFrame(nil, cmdMacro, data...)
}
