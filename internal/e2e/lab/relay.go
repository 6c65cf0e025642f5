package lab

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
)

// spoolLimit is how much of a mail file an exchange keeps, in bytes.
const spoolLimit = 64 << 20

// Exchange is one connection between a milter and amavisd, byte for byte.
type Exchange struct {
	Request []byte
	Reply   []byte

	// Spooled is the mail file that the request names, as it was before amavisd
	// heard of it; at most spoolLimit bytes, nil if it could not be read.
	Spooled []byte
}

// Attribute is one decoded line of an exchange.
type Attribute struct{ Name, Value string }

// Attributes decodes the lines of a request or a reply, up to its empty line.
// Names and values are percent-decoded as README.protocol has it; a value of
// several fields is decoded as a whole, which is enough for a test to read.
func Attributes(wire []byte) ([]Attribute, error) {
	var attributes []Attribute
	for line := range bytes.Lines(wire) {
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			return attributes, nil
		}
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("line %q is no attribute", text)
		}
		name, err := url.PathUnescape(name)
		if err != nil {
			return nil, err
		}
		if value, err = url.PathUnescape(value); err != nil {
			return nil, err
		}
		attributes = append(attributes, Attribute{name, value})
	}
	return attributes, fmt.Errorf("no empty line at the end")
}

// Relay stands between a milter and amavisd and records what both say. Where it
// cannot reach amavisd it hangs up at once.
type Relay struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu        sync.Mutex
	exchanges []Exchange
}

// StartRelay listens on a local socket that anyone may connect to, and passes
// connections on to the local socket target.
func StartRelay(path, target string) (*Relay, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("starting the recording relay: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		listener.Close()
		return nil, err
	}
	r := &Relay{listener: listener, target: target}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.wg.Go(func() { r.pass(conn.(*net.UnixConn)) })
		}
	}()
	return r, nil
}

// Close ends the relay and its connections' recording.
func (r *Relay) Close() error {
	err := r.listener.Close()
	r.wg.Wait()
	return err
}

// Mark returns the number of exchanges that have ended so far.
func (r *Relay) Mark() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.exchanges)
}

// Exchanges returns those since a mark.
func (r *Relay) Exchanges(mark int) []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Exchange(nil), r.exchanges[min(mark, len(r.exchanges)):]...)
}

func (r *Relay) pass(client *net.UnixConn) {
	defer client.Close()
	conn, err := net.Dial("unix", r.target)
	if err != nil {
		return
	}
	server := conn.(*net.UnixConn)
	defer server.Close()
	request := &requestTee{to: server}
	var reply bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(request, client)
		server.CloseWrite()
	}()
	// The exchange is on record before the milter has all of the reply, so that a
	// test that has seen the verdict finds it.
	tee := &replyTee{to: client, copy: &reply, atEnd: func() {
		exchange := request.exchange()
		exchange.Reply = bytes.Clone(reply.Bytes())
		r.mu.Lock()
		r.exchanges = append(r.exchanges, exchange)
		r.mu.Unlock()
	}}
	io.Copy(tee, server)
	client.CloseWrite()
	client.CloseRead()
	<-done
}

// replyTee copies what it writes and calls atEnd before it passes on the empty
// line that ends a reply.
type replyTee struct {
	to    io.Writer
	copy  *bytes.Buffer
	atEnd func()
}

func (t *replyTee) Write(p []byte) (int, error) {
	t.copy.Write(p)
	if isComplete(t.copy.Bytes()) {
		t.atEnd()
	}
	return t.to.Write(p)
}

// isComplete reports whether a request or a reply ends in its empty line.
func isComplete(wire []byte) bool {
	return bytes.HasSuffix(wire, []byte("\n\r\n")) || bytes.HasSuffix(wire, []byte("\n\n"))
}

// requestTee copies what it writes, and reads the mail file before it passes on
// the empty line that ends a request. One goroutine writes, another asks for the
// exchange.
type requestTee struct {
	to io.Writer

	mu      sync.Mutex
	request []byte
	spooled []byte
}

func (t *requestTee) Write(p []byte) (int, error) {
	t.take(p)
	return t.to.Write(p)
}

func (t *requestTee) take(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.request = append(t.request, p...)
	if !isComplete(t.request) {
		return
	}
	attributes, err := Attributes(t.request)
	if err != nil {
		return
	}
	for _, a := range attributes {
		if a.Name == "mail_file" {
			t.spooled = readSpool(a.Value)
		}
	}
}

// exchange returns what is known by now.
func (t *requestTee) exchange() Exchange {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Exchange{Request: bytes.Clone(t.request), Spooled: t.spooled}
}

// readSpool reads at most spoolLimit bytes of a file; nil if that fails.
func readSpool(path string) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, spoolLimit))
	if err != nil {
		return nil
	}
	return text
}
