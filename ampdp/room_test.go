package ampdp_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// roomyReply is a whole reply of n bytes without edits.
func roomyReply(n int) string {
	const begin, end = "log_id=", "\r\nreturn_value=continue\r\n\r\n"
	return begin + strings.Repeat("x", n-len(begin)-len(end)) + end
}

// ask has one reply read in a Room.
func ask(t *testing.T, room *ampdp.Room, h ampdptest.Handler) (*ampdp.Reply, error) {
	t.Helper()
	client := ampdptest.NewServer(t, h).Client()
	client.Room = room
	return client.Do(t.Context(), smallRequest())
}

// What all replies hold is met to the byte, one reply's own bytes are not counted, and
// what was taken is given back once.
func TestRoomAround(t *testing.T) {
	const all, own = 20_000, 3000
	for _, beside := range []int{0, 5000} {
		for _, n := range []int{own - 1, own, own + 1, own + all - beside - 1, own + all - beside, own + all - beside + 1} {
			room := ampdp.NewRoom(all, own)
			var other *ampdp.Reply
			if beside > 0 {
				var err error
				if other, err = ask(t, room, ampdptest.Raw(roomyReply(own+beside))); err != nil {
					t.Fatal(err)
				}
			}
			reply, err := ask(t, room, ampdptest.Raw(roomyReply(n)))
			fits := n <= own+all-beside
			if (err == nil) != fits {
				t.Errorf("%d bytes beside %d: %v", n, beside, err)
			}
			want := int64(beside)
			if fits {
				want += int64(max(n-own, 0))
			}
			if got := room.Held(); got != want {
				t.Errorf("%d bytes beside %d: %d are held, want %d", n, beside, got, want)
			}
			reply.Release()
			reply.Release()
			if got := room.Held(); got != int64(beside) {
				t.Errorf("%d bytes beside %d: %d are held after the release", n, beside, got)
			}
			other.Release()
			if got := room.Held(); got != 0 {
				t.Errorf("%d bytes are held in the end", got)
			}
		}
	}
}

// Want of room is no mistake of amavisd's, and the request is known to have been sent.
func TestNoRoom(t *testing.T) {
	_, err := ask(t, ampdp.NewRoom(1000, 100), ampdptest.Raw(roomyReply(1101)))
	checkError(t, err, ampdp.Error{Cause: ampdp.CauseNoRoom, RequestSent: true}, ampdp.ErrNoRoom)
}

// However reading ends, a reply that fails holds nothing.
func TestFailedReplyHoldsNothing(t *testing.T) {
	long := "log_id=" + strings.Repeat("x", 9000) + "\r\n"
	for name, h := range map[string]ampdptest.Handler{
		"breaks off": ampdptest.RawThenHangUp(long), "malformed": ampdptest.Raw(long + "x\r\n\r\n"),
		"reset": ampdptest.RawThenReset(long), "no return_value": ampdptest.Raw(long + "\r\n"),
		"no room": ampdptest.Raw(long + long + "return_value=continue\r\n\r\n"),
	} {
		room := ampdp.NewRoom(10_000, 100)
		if reply, err := ask(t, room, h); err == nil || room.Held() != 0 {
			t.Errorf("%s: %v, %v; %d bytes are held", name, reply, err, room.Held())
		}
	}
}

// Many at once: never more than there is, and nothing in the end.
func TestRoomAtOnce(t *testing.T) {
	const all, own = 100_000, 1000
	room := ampdp.NewRoom(all, own)
	server := ampdptest.NewServer(t, ampdptest.Raw(roomyReply(40_000)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			client := server.Client()
			client.Room = room
			for range 10 {
				reply, err := client.Do(t.Context(), smallRequest())
				if err != nil && !errors.Is(err, ampdp.ErrNoRoom) {
					t.Error(err)
				}
				if held := room.Held(); held > all {
					t.Errorf("%d bytes are held", held)
				}
				reply.Release()
			}
		})
	}
	wg.Wait()
	if held := room.Held(); held != 0 {
		t.Errorf("%d bytes are held in the end", held)
	}
}

// What is counted for edits with hardly any bytes is no less than what they take.
func TestEditsAreCounted(t *testing.T) {
	const n = 50_000
	for name, line := range map[string]string{
		"addheader": "addheader=A b\n", "insheader": "insheader=0 A b\n", "delheader": "delheader=1 A\n", "addrcpt": "addrcpt=a\n", "quarantine": "quarantine=\n",
	} {
		room := ampdp.NewRoom(1<<30, 0)
		raw := slices.Repeat([]string{strings.TrimSpace(line)}, n)
		before := liveBytes()
		reply, err := ask(t, room, ampdptest.Reply(append(raw, "return_value=continue")...))
		if err != nil {
			t.Fatal(err)
		}
		took := liveBytes() - before
		if counted := room.Held(); took > counted {
			t.Errorf("%s: %d bytes are taken for an edit, %d counted", name, took/n, counted/n)
		}
		if len(reply.Edits) != n {
			t.Errorf("%s: %d edits", name, len(reply.Edits))
		}
		reply.Release()
	}
}

func liveBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
