package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Mail is a message as the load sends it.
type Mail struct {
	Header [][2]string // value as it stands behind the colon
	Body   []byte      // with CR LF

	// Recipients is how many it has; 0 stands for one.
	Recipients int
}

// bodyChunk is the most that an MTA sends of a body in one frame, in bytes (mfdef.h
// MILTER_CHUNK_SIZE).
const bodyChunk = 65535

// headerFields is the number of header fields of a mail.
const headerFields = 25

// NewMail makes a mail of so many bytes, header and body together, with headerFields
// fields.
func NewMail(size int) Mail {
	m := Mail{Header: [][2]string{
		{"Received", " from client.example.net (client.example.net [198.51.100.7])\n\tby mx.example.org with ESMTPS id 1A2B3C; Tue, 1 Jul 2025 12:00:00 +0200"},
		{"Message-ID", " <20250701100000.1A2B3C@example.net>"},
		{"Date", " Tue, 1 Jul 2025 12:00:00 +0200"},
		{"From", " A Sender <sender@example.net>"},
		{"To", " A User <user@example.org>"},
		{"Subject", " a message of the benchmark"},
		{"MIME-Version", " 1.0"},
		{"Content-Type", " text/plain; charset=us-ascii"},
	}}
	for i := len(m.Header); i < headerFields; i++ {
		m.Header = append(m.Header, [2]string{fmt.Sprintf("X-Bench-Field-%d", i), " a value of the usual length, " + strings.Repeat("x", 20)})
	}
	header := len(m.file())
	line := []byte("This is a line of text of the usual length, as mail programs make them.\r\n")
	m.Body = bytes.Repeat(line, max(0, size-header)/len(line)+1)[:max(0, size-header)]
	if n := len(m.Body); n >= 2 {
		copy(m.Body[n-2:], "\r\n")
		if n > 2 && m.Body[n-3] == '\r' {
			m.Body[n-3] = '.'
		}
	}
	return m
}

// file is the mail as it is stored: with line ends LF.
func (m Mail) file() []byte {
	var p []byte
	for _, h := range m.Header {
		p = append(append(append(append(p, h[0]...), ':'), h[1]...), '\n')
	}
	return append(append(p, '\n'), bytes.ReplaceAll(m.Body, []byte("\r\n"), []byte("\n"))...)
}

// burst is what is written before the next answer is due, and of which event that is
// one.
type burst struct {
	pieces [][]byte
	ids    [][]byte // the places of the queue id
	event  byte     // 0: no answer is due
}

// script is what an MTA writes, in bursts: the frames of a greeting or of a message.
type script struct {
	mta    *MTA
	terms  terms
	bursts []burst

	pieces  [][]byte // of the burst that is being made
	ids     [][]byte
	pending []byte // of the piece that is being made
}

// send adds an event with its macros.
func (s *script) send(event byte, data ...byte) {
	if s.terms.protocol&bits[event].no != 0 {
		return
	}
	s.add(s.mta.macroFrame(s.terms, event))
	s.add(appendFrame(nil, event, data...))
	s.due(event)
}

func (s *script) add(frame []byte) {
	s.pending = append(s.pending, frame...)
	if s.mta.EachFrame && len(frame) > 0 {
		s.flush(0)
	}
}

// addShared adds a frame whose bytes all connections share; it holds no queue id.
func (s *script) addShared(frame []byte) {
	s.endPiece()
	s.pieces = append(s.pieces, frame)
	if s.mta.EachFrame {
		s.flush(0)
	}
}

func (s *script) endPiece() {
	if len(s.pending) == 0 {
		return
	}
	s.pieces = append(s.pieces, s.pending)
	for p := s.pending; ; {
		at := bytes.Index(p, []byte(queueID))
		if at < 0 {
			break
		}
		s.ids = append(s.ids, p[at:at+len(queueID)])
		p = p[at+len(queueID):]
	}
	s.pending = nil
}

// due ends a burst if the event is one that is answered.
func (s *script) due(event byte) {
	if noReply := bits[event].noReply; noReply == 0 || s.terms.protocol&noReply == 0 {
		s.flush(event)
	}
}

// flush ends a burst. An answer that is due after a frame that was written by itself is
// one to that.
func (s *script) flush(event byte) {
	s.endPiece()
	if n := len(s.bursts); len(s.pieces) > 0 {
		s.bursts = append(s.bursts, burst{s.pieces, s.ids, event})
	} else if n > 0 && s.bursts[n-1].event == 0 {
		s.bursts[n-1].event = event
	}
	s.pieces, s.ids = nil, nil
}

// greeting is what is said once on a connection.
func greeting(m *MTA, t terms) []burst {
	s := script{mta: m, terms: t}
	peer := append(cstrings("client.example.net"), '4')
	peer = binary.BigEndian.AppendUint16(peer, 40312)
	s.send(cmdConnect, append(peer, cstrings("198.51.100.7")...)...)
	s.send(cmdHelo, cstrings("client.example.net")...)
	s.flush(0)
	return s.bursts
}

// recipient is the address of the i-th of them.
func recipient(i int) string {
	if i == 0 {
		return "<user@example.org>"
	}
	return fmt.Sprintf("<user%d@example.org>", i)
}

// dialogue is what is said for a message, from MAIL to its end. Large bodies are taken from
// shared, which fills itself.
func (m Mail) dialogue(mta *MTA, t terms, shared *sharedBody) []burst {
	s := script{mta: mta, terms: t}
	if !mta.EachFrame {
		s.pending = append(s.pending, abort...) // for the message before
	}
	s.send(cmdMail, cstrings("<sender@example.net>")...)
	for i := range max(1, m.Recipients) {
		s.send(cmdRcpt, cstrings(recipient(i))...)
	}
	s.send(cmdData)
	for _, h := range m.Header {
		value := h[1]
		if t.protocol&hdrLeadSpc == 0 {
			value = strings.TrimPrefix(value, " ")
		}
		s.send(cmdHeader, cstrings(h[0], value)...)
	}
	s.send(cmdEOH)
	m.sendBody(&s, shared)
	s.send(cmdEOM)
	return s.bursts
}

// sendBody adds the frames of the body. One that is not answered, or a small one, may go
// with others; the frames of a large one are made once for all connections.
func (m Mail) sendBody(s *script, shared *sharedBody) {
	if len(m.Body) <= bodyChunk {
		if len(m.Body) > 0 {
			s.send(cmdBody, m.Body...)
		}
		return
	}
	if s.terms.protocol&bits[cmdBody].no != 0 {
		return
	}
	if shared.frames == nil {
		for body := m.Body; len(body) > 0; {
			n := min(len(body), bodyChunk)
			shared.frames = append(shared.frames, appendFrame(nil, cmdBody, body[:n]...))
			body = body[n:]
		}
	}
	for _, frame := range shared.frames {
		s.add(s.mta.macroFrame(s.terms, cmdBody))
		s.addShared(frame)
		s.due(cmdBody)
	}
}

// sharedBody holds the frames of a large body.
type sharedBody struct{ frames [][]byte }
