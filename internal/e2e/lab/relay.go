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

// Exchange is one connection between a milter and amavisd, byte for byte.
type Exchange struct {
	Request []byte
	Reply   []byte
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
	var request lockedBuffer
	var reply bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.MultiWriter(server, &request), client)
		server.CloseWrite()
	}()
	// The exchange is on record before the milter has all of the reply, so that a
	// test that has seen the verdict finds it.
	tee := &replyTee{to: client, copy: &reply, atEnd: func() {
		r.mu.Lock()
		r.exchanges = append(r.exchanges, Exchange{request.Bytes(), bytes.Clone(reply.Bytes())})
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
	if bytes.HasSuffix(t.copy.Bytes(), []byte("\n\r\n")) || bytes.HasSuffix(t.copy.Bytes(), []byte("\n\n")) {
		t.atEnd()
	}
	return t.to.Write(p)
}

// lockedBuffer is a buffer that one goroutine fills and another reads.
type lockedBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *lockedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.text)
}
