package milter

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
	gomilter "github.com/d--j/go-milter"
)

// benchFrames is a message from MAIL to its end, as an MTA sends it that waits for no
// answer before.
func benchFrames(size int) []byte {
	var frames []byte
	add := func(code byte, data string) { frames = append(frames, miltertest.Frame(code, []byte(data))...) }
	add('D', "Mi\x004F1D2C3B5A\x00{mail_addr}\x00ann@example.com\x00")
	add('M', "<ann@example.com>\x00SIZE=4096\x00")
	add('D', "R{rcpt_addr}\x00bob@example.org\x00")
	add('R', "<bob@example.org>\x00")
	add('T', "")
	for i := range 25 {
		add('L', fmt.Sprintf("X-Field-%d\x00 a value of the length that header fields have\x00", i))
	}
	add('N', "")
	for body := strings.Repeat("A line of text as it stands in a mail, with some words\r\n", size/56); body != ""; {
		n := min(len(body), 65535)
		add('B', body[:n])
		body = body[n:]
	}
	add('E', "")
	return frames
}

// endless is a connection that always has the next message.
type endless struct {
	net.Conn
	message []byte
	at      int
}

func (c *endless) Read(p []byte) (int, error) {
	n := copy(p, c.message[c.at:])
	c.at = (c.at + n) % len(c.message)
	return n, nil
}

// BenchmarkGuard is what reading a message costs before anything is done with it: framing,
// checks, order, macros.
func BenchmarkGuard(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			message := benchFrames(size)
			ours, theirs := net.Pipe()
			defer ours.Close()
			defer theirs.Close()
			g := newGuard(&endless{Conn: theirs, message: message}, DefaultTimes())
			g.greeted = true
			g.content = func(byte, []byte) bool { return true }
			p := make([]byte, 64<<10)
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				for end := false; !end; {
					n, err := g.Read(p)
					if err != nil {
						b.Fatal(err)
					}
					end = bytes.Equal(p[:n], []byte{0, 0, 0, 1, cmdBodyEOB})
				}
				g.messageDone()
			}
		})
	}
}

// benchHandler takes everything and accepts it.
type benchHandler struct{}

func (h benchHandler) Begin(*Envelope) Transaction   { return h }
func (benchHandler) Header(string, string)           {}
func (benchHandler) EndHeader()                      {}
func (benchHandler) Body([]byte)                     {}
func (benchHandler) Verdict(context.Context) Verdict { return Accept(AddHeader{"X-A", "b"}) }
func (benchHandler) End(Outcome)                     {}

// BenchmarkSession is a whole message over a socket, to a handler that does nothing.
func BenchmarkSession(b *testing.B) {
	message := append(benchFrames(4<<10), miltertest.Frame('A', nil)...)
	srv := NewServer(benchHandler{}, newTestLog(&logBuffer{}), DefaultTimes())
	defer srv.Close()
	ours, theirs := socketPair()
	defer ours.Close()
	go srv.serveConn(theirs)
	m, err := miltertest.New(ours, miltertest.Postfix37)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ours.Write(message); err != nil {
			b.Fatal(err)
		}
		if a, err := m.Answer(); err != nil || a.Code != 'a' {
			b.Fatal(a, err)
		}
	}
}

// BenchmarkReply makes the frame of a reply, and as the library does.
func BenchmarkReply(b *testing.B) {
	r := MustSMTPReply(451, "4.3.0", "Content scanner unavailable, try again later")
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			appendReply(nil, r)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := gomilter.RejectWithCodeAndReason(uint16(r.Code()), r.Enhanced()+" "+r.Text()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
