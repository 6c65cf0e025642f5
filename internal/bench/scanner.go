package bench

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// requestSize is the most that a request may have, in bytes.
	requestSize = 64 << 10

	// lingering is how many connections that were answered are kept: amavisd leaves it to
	// its client to close one, and looking whether it has would cost more than all else.
	lingering = 256
)

// reply is what amavisd says to every request, in its order.
var reply = func() []byte {
	var b strings.Builder
	b.WriteString("version_server=2\r\nlog_id=00042-07\r\nsetreply=250 2.5.0 Ok,%20id=00042-07,%20continue%20delivery\r\n")
	for _, edit := range Told {
		fmt.Fprintf(&b, "addheader=%s %s\r\n", encode(edit[0]), encode(edit[1]))
	}
	b.WriteString("return_value=continue\r\nexit_code=0\r\n\r\n")
	return []byte(b.String())
}()

// encode writes what may stand in one field of an attribute (README.protocol).
func encode(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02x", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Scanner answers every AM.PDP request at once, with the edits that are Told.
type Scanner struct {
	At Endpoint

	loop            *Loop
	fd              int
	scratch         []byte
	linger          [lingering]int // answered connections, 0 where there is none
	oldest          int
	unused          []*inquiry
	requests, wrong int
	reply           []byte

	// examine is given each mail file, if it is set.
	examine func(file []byte, err error)
}

// NewScanner listens at an endpoint.
func NewScanner(loop *Loop, at Endpoint) (*Scanner, error) {
	fd, at, err := at.listen()
	if err != nil {
		return nil, err
	}
	s := &Scanner{At: at, loop: loop, fd: fd, scratch: make([]byte, requestSize), reply: reply}
	loop.Do(func() { err = loop.add(fd, s) })
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

// Close stops listening.
func (s *Scanner) Close() {
	s.loop.Do(func() {
		s.loop.remove(s.fd)
		for i, fd := range s.linger {
			if fd != 0 {
				closeFD(fd)
				s.linger[i] = 0
			}
		}
	})
	if s.At.Network == "unix" {
		os.Remove(s.At.Address)
	}
}

// Requests returns how many requests were answered so far, and how many of them were
// none of AM.PDP.
func (s *Scanner) Requests() (all, wrong int) {
	s.loop.Do(func() { all, wrong = s.requests, s.wrong })
	return all, wrong
}

// Examine has a function called with each mail file, on the loop's thread, before its
// request is answered; nil ends that.
func (s *Scanner) Examine(f func(file []byte, err error)) {
	s.loop.Do(func() { s.examine = f })
}

// ready accepts connections: one, or if there is much to do all.
func (s *Scanner) ready(uint32) {
	for {
		fd, errno := accept(s.fd)
		if errno != 0 {
			return
		}
		s.serve(fd)
		if !s.loop.busy {
			return
		}
	}
}

// serve answers at once if the request is there already.
func (s *Scanner) serve(fd int) {
	n, errno := read(fd, s.scratch)
	if errno == 0 && n > 0 && isWhole(s.scratch[:n]) {
		s.answer(fd, s.scratch[:n])
		s.later(fd)
		return
	}
	if errno == 0 && n == 0 {
		closeFD(fd)
		return
	}
	c := s.inquiry()
	c.fd = fd
	if n > 0 {
		c.request = append(c.request, s.scratch[:n]...)
	}
	if s.loop.add(fd, c) != nil {
		closeFD(fd)
	}
}

// inquiry returns one that is not used any more, or a new one.
func (s *Scanner) inquiry() *inquiry {
	if n := len(s.unused); n > 0 {
		c := s.unused[n-1]
		s.unused = s.unused[:n-1]
		return c
	}
	return &inquiry{scanner: s}
}

func isWhole(request []byte) bool {
	return bytes.HasSuffix(request, []byte("\n\r\n")) || bytes.HasSuffix(request, []byte("\n\n"))
}

// What a request begins with: amavisd-milter encodes the dot as well.
var askedPlainly, askedEncoded = []byte("request=AM.PDP"), []byte("request=AM%2ePDP")

func (s *Scanner) answer(fd int, request []byte) {
	s.requests++
	if !bytes.HasPrefix(request, askedPlainly) && !bytes.HasPrefix(request, askedEncoded) {
		s.wrong++
	}
	if s.examine != nil {
		s.examine(mailFile(request))
	}
	write(fd, s.reply)
}

// later closes a connection when many others have been answered.
func (s *Scanner) later(fd int) {
	if old := s.linger[s.oldest]; old != 0 {
		closeFD(old)
	}
	s.linger[s.oldest] = fd
	s.oldest = (s.oldest + 1) % lingering
}

// inquiry is a connection whose request is not whole.
type inquiry struct {
	scanner *Scanner
	fd      int
	request []byte
}

func (c *inquiry) ready(uint32) {
	s := c.scanner
	n, errno := read(c.fd, s.scratch)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno != 0 || n == 0 || len(c.request)+n > requestSize {
		if len(c.request) > 0 {
			s.wrong++
		}
		s.loop.remove(c.fd)
		c.request = c.request[:0]
		s.unused = append(s.unused, c)
		return
	}
	c.request = append(c.request, s.scratch[:n]...)
	if isWhole(c.request) {
		s.answer(c.fd, c.request)
		c.request = c.request[:0]
	}
}

// mailFile reads the file that a request names.
func mailFile(request []byte) ([]byte, error) {
	for line := range bytes.Lines(request) {
		value, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("mail_file="))
		if !ok {
			continue
		}
		path, err := url.PathUnescape(string(value))
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	}
	return nil, fmt.Errorf("a request without mail_file")
}
