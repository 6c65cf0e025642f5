package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Sink is an SMTP server that takes every message and keeps it.
type Sink struct {
	listener   net.Listener
	mu         sync.Mutex
	deliveries []*Delivery
	watcher    func(*Delivery) // gets them instead, if there is one
}

// sinkTimeout is how long the sink waits for a line.
const sinkTimeout = 5 * time.Minute

// StartSink listens on a TCP address.
func StartSink(address string) (*Sink, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("starting the SMTP sink: %w", err)
	}
	s := &Sink{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s, nil
}

// Address is where the sink listens.
func (s *Sink) Address() string { return s.listener.Addr().String() }

// Close ends the sink.
func (s *Sink) Close() error { return s.listener.Close() }

// Deliveries returns the messages since a mark (a number of messages), in the
// order in which they came.
func (s *Sink) Deliveries(mark int) []*Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Delivery(nil), s.deliveries[min(mark, len(s.deliveries)):]...)
}

// Mark returns the number of messages so far.
func (s *Sink) Mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.deliveries)
}

// Watch gives every message from now on to take, before the MTA has its reply, and
// keeps none; nil has them kept again. Several calls of take may run at once.
func (s *Sink) Watch(take func(*Delivery)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watcher = take
}

// take is called with each message.
func (s *Sink) take(d *Delivery) {
	s.mu.Lock()
	watcher := s.watcher
	if watcher == nil {
		s.deliveries = append(s.deliveries, d)
	}
	s.mu.Unlock()
	if watcher != nil {
		watcher(d)
	}
}

func (s *Sink) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	reply := func(text string) { fmt.Fprintf(conn, "%s\r\n", text) }
	reply("220 sink ESMTP")
	var mail Delivery
	for {
		conn.SetReadDeadline(time.Now().Add(sinkTimeout))
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, argument, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply("250-sink\r\n250-8BITMIME\r\n250-PIPELINING\r\n250-DSN\r\n250-SMTPUTF8\r\n250 SIZE 0")
		case "HELO", "NOOP":
			reply("250 sink")
		case "MAIL":
			mail = Delivery{Sender: path(argument)}
			reply("250 2.1.0 ok")
		case "RCPT":
			mail.Recipients = append(mail.Recipients, path(argument))
			reply("250 2.1.5 ok")
		case "DATA":
			reply("354 go on")
			if mail.Raw, err = readData(in); err != nil {
				return
			}
			s.take(&Delivery{mail.Sender, mail.Recipients, mail.Raw})
			mail = Delivery{}
			reply("250 2.0.0 taken")
		case "RSET":
			mail = Delivery{}
			reply("250 2.0.0 ok")
		case "QUIT":
			reply("221 2.0.0 bye")
			return
		default:
			reply("500 5.5.1 what?")
		}
	}
}

// path returns the path of "FROM:<path> parameters" or "TO:<path>".
func path(argument string) string {
	_, argument, _ = strings.Cut(argument, ":")
	argument = strings.TrimSpace(argument)
	// Parameters can have brackets of their own (ORCPT).
	if path, _, ok := strings.Cut(argument, "> "); ok {
		return path + ">"
	}
	if end := strings.LastIndexByte(argument, '>'); end >= 0 {
		return argument[:end+1]
	}
	return argument
}

// readData reads to the line of one dot and removes the dots that were stuffed
// (RFC 5321 section 4.5.2).
func readData(in *bufio.Reader) ([]byte, error) {
	var data bytes.Buffer
	atLineStart := true
	for {
		line, err := in.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if atLineStart {
			if string(line) == ".\r\n" {
				return data.Bytes(), nil
			}
			line = bytes.TrimPrefix(line, []byte("."))
		}
		data.Write(line)
		atLineStart = err == nil
	}
}
