package miltertest

import (
	"fmt"
	"slices"
	"strings"
)

// Message is one message as an MTA sends it.
type Message struct {
	QueueID    string
	Sender     string // with its brackets
	Recipients []string
	Header     [][2]string // value as it stands behind the colon
	Body       []byte
}

// Greet sends CONNECT and HELO of an ordinary client.
func (m *MTA) Greet() error {
	err := m.Macros('C', "j", "mx.example.org", "{daemon_name}", "MTA", "{client_name}", "client.example.net", "{client_addr}", "192.0.2.1", "{client_resolve}", "OK")
	if err == nil {
		_, err = m.Connect("client.example.net", '4', 40000, "192.0.2.1")
	}
	if err == nil {
		_, err = m.Helo("helo.example.net")
	}
	return err
}

// SendMessage sends a whole message and returns the verdict. An answer other than
// continue before the end is an error.
func (m *MTA) SendMessage(msg Message) (Answer, error) {
	if err := m.SendUpTo(msg, "eom"); err != nil {
		return Answer{}, err
	}
	return m.EOM()
}

// SendUpTo sends a message up to but without the stage: mail, rcpt, data, header,
// eoh, body or eom.
func (m *MTA) SendUpTo(msg Message, stage string) error {
	type step struct {
		stage string
		do    func() (Answer, error)
	}
	steps := []step{
		{"mail", func() (Answer, error) {
			if err := m.Macros('M', "i", msg.QueueID); err != nil {
				return Answer{}, err
			}
			return m.Mail(msg.Sender)
		}},
	}
	for _, r := range msg.Recipients {
		steps = append(steps, step{"rcpt", func() (Answer, error) { return m.Rcpt(r) }})
	}
	steps = append(steps, step{"data", m.Data})
	for _, h := range msg.Header {
		value := h[1]
		if m.Protocol&HdrLeadSpc == 0 {
			value = strings.TrimPrefix(value, " ")
		}
		steps = append(steps, step{"header", func() (Answer, error) { return m.Header(h[0], value) }})
	}
	steps = append(steps, step{"eoh", m.EOH})
	for chunk := range slices.Chunk(msg.Body, 65535) {
		steps = append(steps, step{"body", func() (Answer, error) { return m.Body(chunk) }})
	}
	for _, s := range steps {
		if s.stage == stage {
			return nil
		}
		a, err := s.do()
		if err != nil {
			return fmt.Errorf("%s: %w", s.stage, err)
		}
		if a.Code != 'c' {
			return fmt.Errorf("%s: answered %q", s.stage, a)
		}
	}
	return nil
}
