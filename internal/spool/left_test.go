package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (s *Spool) counts() (live, left, refs int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live), len(s.left), s.home.refs
}

// A directory that could not be removed is tried again when messages come, but not
// with each of them.
func TestLeftIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := workDir(t)
		log, text := logged()
		s, err := Open(work, Options{Log: log})
		must(t, err)
		const n = 3
		for i := range n {
			m := seal(t, create(t, s, fmt.Sprintf("Q%d", i)))
			must(t, os.Rename(m.Dir(), fmt.Sprintf("%s/moved%d", work, i)))
			must(t, os.WriteFile(m.Dir(), nil, 0o600))
			if err := m.Remove(); !errors.Is(err, ErrTampered) {
				t.Fatalf("Remove: %v", err)
			}
		}
		for want := n - 1; want >= -1; want-- {
			time.Sleep(leftPause)
			for range 2 { // the second comes too early
				must(t, create(t, s, "next").Remove())
				if _, left, refs := s.counts(); left != max(want, 0) || refs != 1+left {
					t.Errorf("%d are left and milter/ is held %d times, want %d", left, refs, want)
				}
			}
		}
		if got := strings.Count(text.String(), "is gone"); got != n {
			t.Errorf("%d told, want %d: %s", got, n, text)
		}
		must(t, s.Close())
	})
}

// However many cannot be removed, maxLeft are remembered; the others are given up
// with a word, and nothing is held for them.
func TestLeftIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := logged()
		s, err := Open(workDir(t), Options{Log: log})
		must(t, err)
		const extra = 3
		for range maxLeft + extra {
			h, err := s.hold()
			must(t, err)
			// No file system has names as long as this one: the error does not go away.
			e := &entry{spool: s, home: h, name: strings.Repeat("n", 300), path: h.path + "/n", dir: -1, file: -1}
			if !s.register(e) || e.remove() == nil {
				t.Fatal("the entry was removed")
			}
		}
		for i := range extra + 2 {
			must(t, create(t, s, "Q").Remove())
			want := max(maxLeft+extra-1-i, maxLeft)
			if live, left, refs := s.counts(); live != 0 || left != want || refs != 1+left {
				t.Errorf("%d live, %d left, milter/ held %d times; want %d left", live, left, refs, want)
			}
		}
		if got := strings.Count(text.String(), "left to the next start"); got != extra {
			t.Errorf("%d told, want %d", got, extra)
		}
		if err := s.Close(); err == nil {
			t.Error("Close does not tell what is left")
		}
		if _, left, refs := s.counts(); left != 0 || refs != 0 {
			t.Errorf("after Close %d are left, milter/ is held %d times", left, refs)
		}
	})
}
