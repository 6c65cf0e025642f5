package bench

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// waitLimit bounds what a test waits for.
const waitLimit = 20 * time.Second

// scripted is a milter that a test scripts. It takes the wire apart by code of its own.
type scripted struct {
	actions, protocol uint32
	lists             []byte // of macros, as they stand in its answer to the offer

	// answer says what is written after an event; nothing where none is due.
	answer func(event byte, data []byte) []byte

	// bytewise has it write a byte at a time.
	bytewise bool

	// last is the message behind whose answer it hangs up; 0: none.
	last int

	got chan []byte // each frame, if it is set
}

// listen serves connections until the test ends.
func (s *scripted) listen(t *testing.T) Endpoint {
	t.Helper()
	at := Endpoint{"unix", filepath.Join(t.TempDir(), "milter.sock")}
	l, err := net.Listen("unix", at.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return at
}

func (s *scripted) serve(c net.Conn) {
	defer c.Close()
	for messages := 0; messages == 0 || messages != s.last; {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, frame); err != nil {
			return
		}
		if s.got != nil {
			s.got <- frame
		}
		if frame[0] == 'E' {
			messages++
		}
		var answer []byte
		switch frame[0] {
		case 'O':
			body := []byte{'O', 0, 0, 0, 6}
			body = binary.BigEndian.AppendUint32(body, s.actions)
			body = binary.BigEndian.AppendUint32(body, s.protocol)
			answer = packet(append(body, s.lists...))
		case 'D', 'A', 'Q':
		default:
			answer = s.answer(frame[0], frame[1:])
		}
		if answer != nil && len(answer) == 0 {
			return // hang up
		}
		for len(answer) > 0 {
			n := len(answer)
			if s.bytewise {
				n = 1
			}
			if _, err := c.Write(answer[:n]); err != nil {
				return
			}
			answer = answer[n:]
		}
	}
}

// packet puts a length before a frame.
func packet(frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

// packets joins frames, each with its length.
func packets(frames ...string) []byte {
	var all []byte
	for _, f := range frames {
		all = append(all, packet([]byte(f))...)
	}
	return all
}

// The right answer to the end of a message, for a milter that has not asked for leading
// spaces.
var (
	edit1    = "h" + Told[0][0] + "\x00" + Told[0][1] + "\x00"
	edit2    = "h" + Told[1][0] + "\x00" + Told[1][1] + "\x00"
	rightEnd = packets(edit1, edit2, "c")
)

// Bits by the numbers of libmilter's mfdef.h, which the test writes out once more.
const (
	testNoReplies = 1<<7 | 1<<12 | 1<<13 | 1<<14 | 1<<15 | 1<<16 | 1<<18 | 1<<19
	testNoData    = 1 << 9
	testLeadSpc   = 1 << 20
)

// atEnd answers the end of a message only.
func atEnd(end []byte) func(byte, []byte) []byte {
	return func(event byte, _ []byte) []byte {
		if event == 'E' {
			return end
		}
		return nil
	}
}

// always answers continue to each event, and the right end.
func always(event byte, _ []byte) []byte {
	if event == 'E' {
		return rightEnd
	}
	return packets("c")
}

func newTestLoop(t *testing.T) *Loop {
	t.Helper()
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// next returns the next frame that a scripted milter got.
func (s *scripted) next(t *testing.T) []byte {
	t.Helper()
	select {
	case f := <-s.got:
		return f
	case <-time.After(waitLimit):
		t.Fatal("no frame came")
		return nil
	}
}

// until returns the frames that came up to the first of a kind, that included.
func (s *scripted) until(t *testing.T, kind byte) [][]byte {
	t.Helper()
	var all [][]byte
	for {
		f := s.next(t)
		if all = append(all, f); f[0] == kind {
			return all
		}
	}
}

// kinds are the first bytes of frames.
func kinds(frames [][]byte) string {
	return string(bytes.Join(mapped(frames, func(f []byte) []byte { return f[:1] }), nil))
}

func mapped(frames [][]byte, f func([]byte) []byte) [][]byte {
	var all [][]byte
	for _, frame := range frames {
		all = append(all, f(frame))
	}
	return all
}
