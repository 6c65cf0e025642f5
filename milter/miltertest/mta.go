// Package miltertest is a scripted MTA: it speaks the MTA's side of the milter
// protocol over any connection, byte by byte as written here, and so can also say
// what no real MTA would. It shares no code with the milter under test.
package miltertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Protocol steps that matter to the script (libmilter mfdef.h, SMFIP_*).
const (
	NoUnknown   = 1 << 8  // SMFIP_NOUNKNOWN
	NRHeader    = 1 << 7  // SMFIP_NR_HDR
	NRConnect   = 1 << 12 // SMFIP_NR_CONN
	NRHelo      = 1 << 13 // SMFIP_NR_HELO
	NRMail      = 1 << 14 // SMFIP_NR_MAIL
	NRRcpt      = 1 << 15 // SMFIP_NR_RCPT
	NRData      = 1 << 16 // SMFIP_NR_DATA
	NRUnknown   = 1 << 17 // SMFIP_NR_UNKN
	NREOH       = 1 << 18 // SMFIP_NR_EOH
	NRBody      = 1 << 19 // SMFIP_NR_BODY
	HdrLeadSpc  = 1 << 20 // SMFIP_HDR_LEADSPC
	SetSymList  = 1 << 8  // SMFIF_SETSYMLIST, an action
	Quarantine  = 1 << 5  // SMFIF_QUARANTINE, an action
	AddHeaders  = 1 << 0  // SMFIF_ADDHDRS, an action
	ChgHeaders  = 1 << 4  // SMFIF_CHGHDRS, an action
	AddRcpts    = 1 << 2  // SMFIF_ADDRCPT, an action
	DelRcpts    = 1 << 3  // SMFIF_DELRCPT, an action
	NoReplies   = NRHeader | NRConnect | NRHelo | NRMail | NRRcpt | NRData | NRUnknown | NREOH | NRBody
	allActions6 = 0x1ff
)

// Offer is what the MTA offers in the negotiation.
type Offer struct{ Version, Actions, Protocol uint32 }

// What real MTAs offer.
var (
	Sendmail817 = Offer{6, allActions6, 0x1fffff}
	Postfix37   = Offer{6, allActions6, 0x1fffff}
	// Version2 is sendmail 8.11: no quarantine, an answer to every event.
	Version2 = Offer{2, 0x1f, 0x7f}
)

// MTA is one milter connection from the MTA's side. Its methods fail with an error
// as soon as the milter does what it must not.
type MTA struct {
	Conn    net.Conn
	Timeout time.Duration // for one answer; 10 s if 0

	Version, Actions, Protocol uint32            // as negotiated
	MacroLists                 map[uint32]string // by stage, as asked for (SMFIF_SETSYMLIST)
	Waits                      int               // answers waited for since the start
}

// Answer is what the milter answered to an event.
type Answer struct {
	Code     byte     // 'a', 'c', 'd', 'r', 't', 'y', 's': SMFIR_*
	Reply    string   // of 'y', with its percent signs as they came
	Changes  []string // one line each, as String prints them
	Progress int      // progress packets before the answer
}

// String prints an answer with its changes, a line each.
func (a Answer) String() string {
	name := map[byte]string{'a': "accept", 'c': "continue", 'd': "discard", 'r': "reject", 't': "tempfail", 's': "skip"}[a.Code]
	if a.Code == 'y' {
		name = "reply " + a.Reply
	}
	return strings.Join(append(append([]string{}, a.Changes...), name), "\n")
}

// New negotiates over conn.
func New(conn net.Conn, o Offer) (*MTA, error) {
	m := &MTA{Conn: conn, MacroLists: map[uint32]string{}}
	var data []byte
	for _, v := range []uint32{o.Version, o.Actions, o.Protocol} {
		data = binary.BigEndian.AppendUint32(data, v)
	}
	if err := m.Send('O', data); err != nil {
		return nil, err
	}
	code, data, err := m.Receive()
	if err != nil {
		return nil, fmt.Errorf("negotiation: %w", err)
	}
	if code != 'O' || len(data) < 12 {
		return nil, fmt.Errorf("negotiation: answer %q of %d bytes", code, len(data))
	}
	m.Version = binary.BigEndian.Uint32(data)
	m.Actions = binary.BigEndian.Uint32(data[4:])
	m.Protocol = binary.BigEndian.Uint32(data[8:])
	if m.Version > o.Version || m.Actions&^o.Actions != 0 || m.Protocol&^o.Protocol != 0 {
		return nil, fmt.Errorf("negotiation: asked for more than was offered: version %d actions %#x protocol %#x", m.Version, m.Actions, m.Protocol)
	}
	for data = data[12:]; len(data) > 4; {
		stage := binary.BigEndian.Uint32(data)
		list, rest, ok := strings.Cut(string(data[4:]), "\x00")
		if !ok {
			return nil, errors.New("negotiation: macro list without NUL")
		}
		m.MacroLists[stage] = list
		data = []byte(rest)
	}
	return m, nil
}

// Frame makes the bytes of one frame.
func Frame(code byte, data []byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(len(data)+1))
	return append(append(f, code), data...)
}

// Send sends one frame.
func (m *MTA) Send(code byte, data []byte) error { return m.SendRaw(Frame(code, data)) }

// SendRaw sends bytes as they are.
func (m *MTA) SendRaw(p []byte) error {
	_ = m.Conn.SetWriteDeadline(time.Now().Add(m.timeout()))
	_, err := m.Conn.Write(p)
	return err
}

// Receive reads one frame.
func (m *MTA) Receive() (code byte, data []byte, err error) {
	_ = m.Conn.SetReadDeadline(time.Now().Add(m.timeout()))
	var head [4]byte
	if _, err := io.ReadFull(m.Conn, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > 1<<20 {
		return 0, nil, fmt.Errorf("frame of %d bytes from the milter", n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(m.Conn, frame); err != nil {
		return 0, nil, err
	}
	return frame[0], frame[1:], nil
}

func (m *MTA) timeout() time.Duration {
	if m.Timeout > 0 {
		return m.Timeout
	}
	return 10 * time.Second
}

// Macros sends the macros of a command: names and values in turn.
func (m *MTA) Macros(command byte, kv ...string) error {
	return m.Send('D', append([]byte{command}, cstrings(kv...)...))
}

// Connect announces an SMTP client. family is '4', '6', 'L' or 'U'.
func (m *MTA) Connect(host string, family byte, port uint16, address string) (Answer, error) {
	data := append(cstrings(host), family)
	if family != 'U' {
		data = binary.BigEndian.AppendUint16(data, port)
		data = append(data, cstrings(address)...)
	}
	return m.event('C', data, NRConnect)
}

// Helo announces the HELO name.
func (m *MTA) Helo(name string) (Answer, error) { return m.event('H', cstrings(name), NRHelo) }

// Mail sends the reverse-path, as the MTA would: with its brackets or not.
func (m *MTA) Mail(path string, args ...string) (Answer, error) {
	return m.event('M', cstrings(append([]string{path}, args...)...), NRMail)
}

// Rcpt sends a forward-path.
func (m *MTA) Rcpt(path string, args ...string) (Answer, error) {
	return m.event('R', cstrings(append([]string{path}, args...)...), NRRcpt)
}

// Data announces DATA; it does not exist before version 4.
func (m *MTA) Data() (Answer, error) {
	if m.Version < 4 {
		return Answer{Code: 'c'}, nil
	}
	return m.event('T', nil, NRData)
}

// Header sends one header field.
func (m *MTA) Header(name, value string) (Answer, error) {
	return m.event('L', cstrings(name, value), NRHeader)
}

// EOH ends the header.
func (m *MTA) EOH() (Answer, error) { return m.event('N', nil, NREOH) }

// Body sends one piece of the body, at most 65,535 bytes.
func (m *MTA) Body(chunk []byte) (Answer, error) { return m.event('B', chunk, NRBody) }

// EOM ends the message and waits for the verdict.
func (m *MTA) EOM() (Answer, error) { return m.event('E', nil, 0) }

// Abort drops the message.
func (m *MTA) Abort() error { return m.Send('A', nil) }

// Quit ends the connection.
func (m *MTA) Quit() error {
	err := m.Send('Q', nil)
	return errors.Join(err, m.Conn.Close())
}

// event sends a command and waits for its answer unless the milter has asked to
// give none.
func (m *MTA) event(code byte, data []byte, noReply uint32) (Answer, error) {
	if err := m.Send(code, data); err != nil {
		return Answer{}, err
	}
	if noReply != 0 && m.Protocol&noReply != 0 {
		return Answer{Code: 'c'}, nil
	}
	return m.Answer()
}

// Answer waits for the answer to an event.
func (m *MTA) Answer() (Answer, error) {
	m.Waits++
	var a Answer
	for {
		code, data, err := m.Receive()
		if err != nil {
			return a, err
		}
		switch code {
		case 'p':
			a.Progress++
		case 'a', 'c', 'd', 'r', 't', 's':
			a.Code = code
			return a, nil
		case 'y':
			a.Code, a.Reply = code, strings.TrimSuffix(string(data), "\x00")
			return a, nil
		default:
			change, err := describe(code, data)
			if err != nil {
				return a, err
			}
			a.Changes = append(a.Changes, change)
		}
	}
}

// describe prints a change as one line.
func describe(code byte, data []byte) (string, error) {
	names := map[byte]string{'h': "addheader", 'i': "insheader", 'm': "chgheader", '+': "addrcpt", '-': "delrcpt", 'q': "quarantine"}
	name, ok := names[code]
	if !ok {
		return "", fmt.Errorf("unknown answer %q", code)
	}
	line := name
	if code == 'i' || code == 'm' {
		if len(data) < 4 {
			return "", fmt.Errorf("short %s", name)
		}
		line += fmt.Sprintf(" %d", binary.BigEndian.Uint32(data))
		data = data[4:]
	}
	if len(data) == 0 || data[len(data)-1] != 0 {
		return "", fmt.Errorf("%s without its last NUL", name)
	}
	fields := strings.Split(string(data[:len(data)-1]), "\x00")
	want := 1
	if code == 'h' || code == 'i' || code == 'm' {
		want = 2
	}
	if len(fields) != want {
		return "", fmt.Errorf("%s of %d strings", name, len(fields))
	}
	for _, f := range fields {
		line += fmt.Sprintf(" %q", f)
	}
	return line, nil
}

func cstrings(list ...string) []byte {
	var data []byte
	for _, s := range list {
		data = append(append(data, s...), 0)
	}
	return data
}
