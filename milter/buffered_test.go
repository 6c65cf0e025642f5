package milter

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// bigFrame is the largest frame.
var bigFrame = miltertest.Frame('B', make([]byte, MaxFrameBytes-1))

// bigBuffer is what is counted for reading it.
const bigBuffer = maxBufferBytes - readAheadBytes

// TestReserve holds the bound on read buffers at one below, at, and above.
func TestReserve(t *testing.T) {
	c := newCrowd(newTestLog(&logBuffer{}))
	if !c.reserve(maxBufferedBytes-1) || !c.reserve(1) || c.reserve(1) {
		t.Error("not the limit")
	}
	c.release(1)
	if c.reserve(2) || !c.reserve(1) {
		t.Error("what is given back is not had again")
	}
}

// TestBufferWaitsForRoom: a frame for which there is no room waits, and passes when
// there is; if there is none in time its connection is closed.
func TestBufferWaitsForRoom(t *testing.T) {
	for _, freed := range []bool{true, false} {
		inHall(t, Limits{}, func(h *hall) {
			const left = 100 << 10
			h.reserve(maxBufferedBytes - left)
			m := h.mta("", miltertest.Sendmail817)
			m.SendUpTo(plainMessage, "body")
			done := make(chan error, 1)
			go func() { done <- m.SendRaw(bigFrame) }()
			time.Sleep(DefaultTimes().Content / 2) // fake time; a disk that hangs under others may take it
			synctest.Wait()
			if got := h.buffered.Load(); got > maxBufferedBytes || len(done) != 0 {
				t.Errorf("%d bytes buffered", got)
			}
			if freed {
				h.release(maxBufferedBytes - left)
				if err := <-done; err != nil {
					t.Fatalf("after there was room: %v", err)
				}
				a, err := m.EOM()
				mustAnswer(t, a, err, "accept")
				synctest.Wait()
				if got := h.buffered.Load(); got != 0 {
					t.Errorf("%d bytes are counted after the message", got)
				}
			} else {
				if err := <-done; err == nil {
					t.Error("passed without room")
				}
				synctest.Wait()
				h.release(maxBufferedBytes - left)
				if !strings.Contains(h.log.String(), errNoRoom.Error()) {
					t.Errorf("log:\n%s", h.log)
				}
			}
			if s := h.log.String(); strings.Count(s, `limit="buffered bytes"`) != 1 {
				t.Errorf("log:\n%s", s)
			}
		})
	}
}

// TestHalfFramesMakeRoom: connections that have stopped within large frames hold no
// more than the bound together, and are closed when an MTA needs the room.
func TestHalfFramesMakeRoom(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		const stalled = 2 * maxBufferedBytes / bigBuffer
		var conns []net.Conn
		for range stalled {
			m := h.mta("", miltertest.Sendmail817)
			conns = append(conns, m.Conn)
			go m.SendRaw(bigFrame[:len(bigFrame)-1])
			synctest.Wait()
			if got := h.buffered.Load(); got > maxBufferedBytes {
				t.Fatalf("%d bytes buffered", got)
			}
		}
		m := h.mta("", miltertest.Sendmail817)
		m.SendUpTo(plainMessage, "header")
		began := time.Now()
		if err := m.SendRaw(bigFrame); err != nil {
			t.Fatal(err)
		}
		a, err := m.EOM()
		mustAnswer(t, a, err, "accept")
		if waited := time.Since(began); waited > 2*owedGrace {
			t.Errorf("waited %v", waited)
		}
		closed := 0
		for _, c := range conns {
			if isClosed(c) {
				closed++
			}
		}
		if closed == 0 {
			t.Error("nobody made room")
		}
	})
}

// TestBufferIsGivenBack: a message that waits for its verdict holds no large buffer,
// nor does one in its content when room is short.
func TestBufferIsGivenBack(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		m := h.mta("", miltertest.Sendmail817)
		m.SendUpTo(plainMessage, "header")
		m.SendRaw(bigFrame)
		synctest.Wait()
		if got := h.buffered.Load(); got != bigBuffer {
			t.Errorf("in the content %d bytes are counted, want %d", got, bigBuffer)
		}
		h.reserve(maxBufferedBytes / 2)
		m.Body([]byte("x"))
		synctest.Wait()
		if got := h.buffered.Load(); got != maxBufferedBytes/2 {
			t.Errorf("in the content, with little room, %d bytes are counted", got-maxBufferedBytes/2)
		}
		h.release(maxBufferedBytes / 2)
		m.SendRaw(bigFrame)
		a, err := m.EOM()
		mustAnswer(t, a, err, "accept")
	})
}

// TestEnvelopes holds the bound on the paths of all messages at one below, at, and
// above, and that a message gives back what it has taken; beyond it ordinary mail
// passes all the same.
func TestEnvelopes(t *testing.T) {
	const recipients = 500
	list := plainMessage
	list.Recipients = nil
	for i := range recipients {
		list.Recipients = append(list.Recipients, fmt.Sprintf("<list-%03d@example.org>", i))
	}
	const size = len("<a@example.net>") + pathCost + recipients*(len("<list-000@example.org>")+pathCost) - ownEnvelope
	inHall(t, Limits{}, func(h *hall) {
		m := h.mta("", miltertest.Sendmail817)
		m.SendUpTo(list, "header")
		synctest.Wait()
		if got := h.envelopes.Load(); got != int64(size) {
			t.Fatalf("%d bytes are counted, want %d", got, size)
		}
		m.Abort()
		synctest.Wait()
		for more, want := range map[int]string{-1: "accept", 0: "accept", 1: "reply 452 4.3.1 Insufficient system resources, try again later"} {
			h.envelopes.Store(int64(maxEnvelopesBytes - size + more))
			a, err := m.SendMessage(list)
			mustAnswer(t, a, err, want)
			synctest.Wait()
			if got := h.envelopes.Load(); got != int64(maxEnvelopesBytes-size+more) {
				t.Errorf("%d bytes are left counted", got-int64(maxEnvelopesBytes-size+more))
			}
		}
		h.envelopes.Store(maxEnvelopesBytes)
		if !h.passes(m) {
			t.Error("an ordinary message is refused when others hold all there is")
		}
		h.envelopes.Store(0)
		if s := h.log.String(); strings.Count(s, "no room for further recipients") != 1 {
			t.Errorf("log:\n%s", s)
		}
	})
}

// TestRefusedEnvelope: a message that was refused for want of room holds none, however
// it goes on.
func TestRefusedEnvelope(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		h.envelopes.Store(maxEnvelopesBytes)
		m := h.mta("", miltertest.Sendmail817)
		m.Mail("<a@example.net>")
		for range 5000 {
			m.Rcpt("<" + strings.Repeat("a", 900) + "@example.org>")
		}
		synctest.Wait()
		if got := h.envelopes.Load(); got != maxEnvelopesBytes {
			t.Errorf("a refused message is counted with %d bytes", got-maxEnvelopesBytes)
		}
		h.envelopes.Store(0)
		m.SendRaw(miltertest.Frame('T', nil))
		a, err := m.EOM()
		mustAnswer(t, a, err, "reply 452 4.3.1 Insufficient system resources, try again later")
	})
}

// TestShortPathsCount: recipients cost memory whatever their paths are.
func TestShortPathsCount(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		m := h.mta("", miltertest.Sendmail817)
		m.Mail("<>")
		for range 1000 {
			m.Rcpt("")
		}
		synctest.Wait()
		if got, least := h.envelopes.Load(), int64(1000*pathCost-ownEnvelope); got < least {
			t.Errorf("%d bytes are counted for 1000 recipients, want %d at least", got, least)
		}
	})
}
