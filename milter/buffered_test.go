package milter

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// bigFrame is the largest frame, ordinaryFrame the largest of those that we negotiate.
var (
	bigFrame      = miltertest.Frame('B', make([]byte, MaxFrameBytes-1))
	ordinaryFrame = miltertest.Frame('B', make([]byte, 64<<10))
)

// What is counted for reading them.
const (
	ordinaryCount = ordinaryBuffer - readAheadBytes
	largeCount    = maxBufferBytes - ordinaryBuffer
)

// TestReserve holds the bound on larger read buffers at one below, at, and above.
func TestReserve(t *testing.T) {
	c := newCrowd(newTestLog(&logBuffer{}))
	if !c.reserve(maxLargeBytes-1) || !c.reserve(1) || c.reserve(1) {
		t.Error("not the limit")
	}
	c.large.Add(-1)
	if c.reserve(2) || !c.reserve(1) {
		t.Error("what is given back is not had again")
	}
}

// TestBufferSizes: a buffer grows with what it holds, with one stop, and never beyond
// the largest frame.
func TestBufferSizes(t *testing.T) {
	g := newGuard(nil, DefaultTimes())
	var sizes []int
	for len(sizes) < 10 {
		g.in = make([]byte, g.nextSize())
		sizes = append(sizes, len(g.in))
		g.greeted = true
	}
	want := []int{firstReadBytes, 4 << 10, 16 << 10, ordinaryBuffer, 2 * ordinaryBuffer, 4 * ordinaryBuffer,
		8 * ordinaryBuffer, maxBufferBytes, maxBufferBytes, maxBufferBytes}
	if !slices.Equal(sizes, want) {
		t.Errorf("sizes %v, want %v", sizes, want)
	}
}

// TestBufferWaitsForRoom: a larger frame for which there is no room waits, and passes
// when there is; if there is none in time its connection is closed. Ordinary ones pass.
func TestBufferWaitsForRoom(t *testing.T) {
	for _, freed := range []bool{true, false} {
		inHall(t, Limits{}, func(h *hall) {
			const left = 100 << 10
			h.reserve(maxLargeBytes - left)
			m := h.mta("", miltertest.Sendmail817)
			m.SendUpTo(plainMessage, "body")
			done := make(chan error, 1)
			go func() { done <- m.SendRaw(bigFrame) }()
			synctest.Wait()
			time.Sleep(owedGrace / 2) // fake time
			if got := h.large.Load(); got > maxLargeBytes || len(done) != 0 {
				t.Errorf("%d bytes taken", got)
			}
			other := h.mta("", miltertest.Sendmail817)
			other.SendUpTo(plainMessage, "body")
			if err := other.SendRaw(ordinaryFrame); err != nil {
				t.Errorf("an ordinary frame beside it: %v", err)
			}
			a, err := other.EOM()
			mustAnswer(t, a, err, "accept")
			if freed {
				h.large.Add(left - maxLargeBytes)
				if err := <-done; err != nil {
					t.Fatalf("after there was room: %v", err)
				}
				a, err := m.EOM()
				mustAnswer(t, a, err, "accept")
			} else {
				if err := <-done; err == nil {
					t.Error("passed without room")
				}
				synctest.Wait()
				h.large.Add(left - maxLargeBytes)
			}
			time.Sleep(2 * bufferPoll) // fake time
			synctest.Wait()
			if h.buffered.Load() != 0 || h.large.Load() != 0 {
				t.Errorf("%d and %d bytes are counted after the messages", h.buffered.Load(), h.large.Load())
			}
			if s := h.log.String(); strings.Count(s, `limit="bytes of larger frames"`) != 1 {
				t.Errorf("log:\n%s", s)
			}
		})
	}
}

// TestNoRoomInTime: nobody who owes us nothing is closed for room; who waits for it in
// vain is, and the log says why.
func TestNoRoomInTime(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		h.reserve(maxLargeBytes)
		m := h.mta("", miltertest.Sendmail817)
		idle := h.mta("", miltertest.Sendmail817)
		m.SendUpTo(plainMessage, "body")
		if err := m.SendRaw(bigFrame); err == nil {
			t.Error("passed without room")
		}
		synctest.Wait()
		if !h.passes(idle) {
			t.Error("another one is refused")
		}
		h.large.Add(-maxLargeBytes)
	})
}

// TestHalfFramesMakeRoom: connections that have stopped within a frame hold little more
// than the bound together, and ordinary and larger frames of others pass at once or
// after a moment.
func TestHalfFramesMakeRoom(t *testing.T) {
	for name, tt := range map[string]struct {
		frame []byte
		most  func(h *hall) bool
	}{
		"ordinary": {ordinaryFrame, func(h *hall) bool { return h.buffered.Load() <= maxBufferedBytes+ordinaryCount }},
		"large":    {bigFrame, func(h *hall) bool { return h.large.Load() <= maxLargeBytes }},
	} {
		t.Run(name, func(t *testing.T) {
			inHall(t, Limits{}, func(h *hall) {
				const stalled = 300
				var conns []net.Conn
				for range stalled {
					m := h.mta("", miltertest.Sendmail817)
					conns = append(conns, m.Conn)
					go m.SendRaw(tt.frame[:len(tt.frame)-1])
					synctest.Wait()
					time.Sleep(2 * owedGrace) // fake time
				}
				if !tt.most(h) {
					t.Errorf("%d and %d bytes are buffered", h.buffered.Load(), h.large.Load())
				}
				m := h.mta("", miltertest.Sendmail817)
				m.SendUpTo(plainMessage, "body")
				began := time.Now()
				if err := m.SendRaw(ordinaryFrame); err != nil || time.Since(began) > 0 {
					t.Errorf("an ordinary frame took %v: %v", time.Since(began), err)
				}
				if err := m.SendRaw(bigFrame); err != nil || time.Since(began) > owedGrace {
					t.Errorf("a large one took %v: %v", time.Since(began), err)
				}
				a, err := m.EOM()
				mustAnswer(t, a, err, "accept")
				closed := 0
				for _, c := range conns {
					if isClosed(c) {
						closed++
					}
				}
				if closed == 0 || !isClosed(conns[0]) {
					t.Errorf("%d made room, the first one among them: %v", closed, isClosed(conns[0]))
				}
			})
		})
	}
}

// TestHalfFramesAtOnce: a burst of connections that stop within a frame is relieved although
// nothing comes after it, and no more of them are closed than have to be. Who has all of a
// frame to send gets it through meanwhile, at once.
func TestHalfFramesAtOnce(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		const stalled = 1500
		half := ordinaryFrame[:len(ordinaryFrame)-1]
		var conns []net.Conn
		for range stalled {
			m := h.mta("", miltertest.Sendmail817)
			conns = append(conns, m.Conn)
			go m.SendRaw(half)
		}
		synctest.Wait()
		if got := h.buffered.Load(); got != stalled*ordinaryCount {
			t.Errorf("%d bytes are buffered", got)
		}
		m := h.mta("", miltertest.Sendmail817)
		m.SendUpTo(plainMessage, "body")
		began := time.Now()
		if err := m.SendRaw(ordinaryFrame); err != nil || time.Since(began) > 0 {
			t.Errorf("an ordinary frame took %v: %v", time.Since(began), err)
		}
		a, err := m.EOM()
		mustAnswer(t, a, err, "accept")
		time.Sleep(owedGrace + 2*searchPause) // fake time
		synctest.Wait()
		if got := h.buffered.Load(); got > maxBufferedBytes {
			t.Errorf("%d bytes are still buffered", got)
		}
		time.Sleep(searchPause) // fake time
		synctest.Wait()
		if h.relieving.Load() {
			t.Error("it goes on looking")
		}
		closed := 0
		for _, c := range conns {
			if isClosed(c) {
				closed++
			}
		}
		if want := stalled - maxBufferedBytes/ordinaryCount; closed != want {
			t.Errorf("%d of %d were closed, want %d", closed, stalled, want)
		}
	})
}

// TestPauseBeforeAFrame: an MTA that has paused in a message's content, as it may, is not
// taken for one that has owed the rest of a frame for as long.
func TestPauseBeforeAFrame(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		m := h.mta("", miltertest.Sendmail817)
		m.SendUpTo(plainMessage, "body")
		time.Sleep(5 * owedGrace) // fake time
		m.SendRaw(ordinaryFrame[:2*burstBytes])
		h.ordinary(2 * maxBufferedBytes)
		time.Sleep(owedGrace / 2) // fake time
		synctest.Wait()
		if isClosed(m.Conn) {
			t.Error("it was closed for what it had owed before")
		}
		time.Sleep(owedGrace) // fake time
		synctest.Wait()
		if !isClosed(m.Conn) {
			t.Error("it is not closed for the rest of the frame")
		}
		h.ordinary(-2 * maxBufferedBytes)
		time.Sleep(2 * searchPause) // fake time, for whoever looks for room to see that
	})
}

// TestBufferIsGivenBack: a message that waits for its verdict holds no large buffer,
// nor does one in its content when room is short.
func TestBufferIsGivenBack(t *testing.T) {
	inHall(t, Limits{}, func(h *hall) {
		m := h.mta("", miltertest.Sendmail817)
		m.SendUpTo(plainMessage, "body")
		m.SendRaw(bigFrame)
		synctest.Wait()
		if h.buffered.Load() != ordinaryCount || h.large.Load() != largeCount {
			t.Errorf("in the content %d and %d bytes are counted, want %d and %d", h.buffered.Load(), h.large.Load(), ordinaryCount, largeCount)
		}
		h.ordinary(maxBufferedBytes / 2)
		m.Body([]byte("x"))
		synctest.Wait()
		if got := h.buffered.Load(); got != maxBufferedBytes/2 || h.large.Load() != 0 {
			t.Errorf("in the content, with little room, %d and %d bytes are counted", got-maxBufferedBytes/2, h.large.Load())
		}
		h.ordinary(-maxBufferedBytes / 2)
		h.handler.verdict = func(ctx context.Context) Verdict {
			synctest.Wait()
			if h.buffered.Load() != 0 || h.large.Load() != 0 {
				t.Errorf("waiting for its verdict, %d and %d bytes are counted", h.buffered.Load(), h.large.Load())
			}
			return Accept()
		}
		m.SendRaw(bigFrame)
		a, err := m.EOM()
		mustAnswer(t, a, err, "accept")
		if a, err = m.SendMessage(plainMessage); err == nil {
			mustAnswer(t, a, err, "accept")
		}
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
