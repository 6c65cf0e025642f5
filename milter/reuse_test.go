package milter

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestBuffersAreNobodyElses: frames of all sizes come on several connections at once, whose
// buffers go from hand to hand, and each message has its own bytes.
func TestBuffersAreNobodyElses(t *testing.T) {
	const conns, rounds = 4, 12
	sizes := []int{100, 5_000, 60_000, 100_000, 200_000, 400_000, 700_000, MaxFrameBytes - 1}
	b := startServer(t, &testHandler{}, quickTimes())
	var wg sync.WaitGroup
	for c := range conns {
		m := greeted(t, b.dial(t), miltertest.Postfix37)
		wg.Go(func() {
			for round := range rounds {
				msg := plainMessage
				msg.QueueID = fmt.Sprintf("%d-%d", c, round)
				body := bytes.Repeat([]byte{byte(c*rounds + round)}, sizes[(c+round)%len(sizes)])
				err := m.SendUpTo(msg, "body")
				if err == nil {
					err = m.Send('B', body)
				}
				if err == nil {
					_, err = m.EOM()
				}
				if err != nil {
					t.Errorf("%s: %v", msg.QueueID, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i := range b.handler.count() {
		tx := b.handler.transaction(t, i)
		outcome(t, tx)
		var c, round int
		fmt.Sscanf(tx.env.QueueID, "%d-%d", &c, &round)
		want := bytes.Repeat([]byte{byte(c*rounds + round)}, sizes[(c+round)%len(sizes)])
		if !bytes.Equal(tx.body.Bytes(), want) {
			t.Errorf("%s: a body of %d bytes, want %d times %d", tx.env.QueueID, tx.body.Len(), len(want), want[0])
		}
	}
	if n := b.handler.count(); n != conns*rounds {
		t.Errorf("%d messages, want %d", n, conns*rounds)
	}
}

// TestLargerBuffersHavePools: a frame of the largest size grows through them.
func TestLargerBuffersHavePools(t *testing.T) {
	g := &guard{greeted: true}
	seen := 0
	for size := 0; size < maxBufferBytes; {
		g.in = make([]byte, size)
		size = g.nextSize()
		if largerBuffers[size] != nil {
			seen++
		}
	}
	if seen != len(largerBuffers) {
		t.Errorf("%d of %d sizes are grown through", seen, len(largerBuffers))
	}
}
