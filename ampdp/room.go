package ampdp

import (
	"fmt"
	"sync"
)

// editCost is what an edit takes in memory beside the bytes that stand for it, in
// bytes: its place in a slice that grows by copying, its struct, the rounding of both,
// and the same again for what its user makes of it. A reply can consist of edits that
// have hardly any bytes.
const editCost = 160

// Room bounds the memory that many replies take together: those that are being read,
// and those that are in use until their Release. Clients may share one. The nil Room
// has no bound.
type Room struct {
	all int64 // bytes for all replies together
	own int64 // bytes of each that are not counted

	mu   sync.Mutex
	held int64
}

// NewRoom returns a Room of so many bytes for all replies together. The first own bytes
// of each reply are its own and not counted, so that usual ones find room whatever the
// others take.
func NewRoom(all, own int) *Room { return &Room{all: int64(all), own: int64(own)} }

// Held returns how many bytes are taken.
func (r *Room) Held() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// take counts n bytes more if there is room for them.
func (r *Room) take(n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held+n > r.all {
		return false
	}
	r.held += n
	return true
}

func (r *Room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held -= n
}

// share is what one reply takes of a Room. The zero share has none and counts nothing.
type share struct {
	room  *Room
	used  int64 // by the reply
	taken int64 // of that from the room
}

// take counts n bytes more for the reply. Its error wraps ErrNoRoom; the reply is to be
// given up then.
func (s *share) take(n int) error {
	if s.room == nil {
		return nil
	}
	s.used += int64(n)
	beyond := s.used - s.room.own - s.taken
	if beyond <= 0 {
		return nil
	}
	if !s.room.take(beyond) {
		return fmt.Errorf("%w: all together hold %d bytes", ErrNoRoom, s.room.all)
	}
	s.taken += beyond
	return nil
}

// release gives back what was taken, once.
func (s *share) release() {
	if s.taken > 0 {
		s.room.give(s.taken)
	}
	s.taken = 0
}
