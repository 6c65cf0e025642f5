package spool

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/minutely"
)

// Every message that was refused is in one line of the log, each limit has lines of
// its own, and the last one comes with the end.
func TestLimitsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, text := logged()
		s, err := Open(workDir(t), Options{Log: log, MaxBytes: 1})
		must(t, err)
		disk := newFakeDisk(20)
		disk.on(s, 10*page)
		s.limits.bytes.limit = 2
		refuse := func(n, size int) {
			t.Helper()
			for range n {
				d, err := s.Create("Q")
				if err == nil {
					err = body(d, int64(size))
					if _, serr := d.Seal(); err == nil {
						err = serr
					}
					for range 3 {
						d.Body([]byte("x")) // is not told again
					}
					d.Remove()
				}
				if !IsNoSpace(err) {
					t.Fatalf("not refused: %v", err)
				}
			}
		}
		want := func(lines ...string) {
			t.Helper()
			got := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
			text.Reset()
			if len(got) != len(lines) {
				t.Fatalf("logged %q, want %d lines", got, len(lines))
			}
			for i, line := range lines {
				for word := range strings.FieldsSeq(line) {
					if !strings.Contains(got[i], word) {
						t.Errorf("%q lacks %q", got[i], word)
					}
				}
			}
		}
		refuse(5, 3)
		want("level=WARN --max-spool max_spool=2 bytes=0 messages=1 dir=" + s.home.path)
		s.limits.bytes.limit = 0
		disk.st.Bavail = 15
		time.Sleep(lookAge)
		refuse(5, 6*page)
		want(fmt.Sprintf("level=WARN --min-free min_free=%d free=%d messages=1 dir=%s", 10*page, 15*page, s.home.path))
		time.Sleep(minutely.Pause)
		refuse(2, 6*page)
		s.limits.bytes.limit = 2
		refuse(1, 3)
		want("--min-free messages=5", "--max-spool messages=5")
		refuse(2, 3)
		must(t, s.Close())
		want("--max-spool messages=2", "--min-free messages=1")
	})
}
