package spool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limited opens a spool with limits, and returns its log.
func limited(t *testing.T, work string, opt Options) (*Spool, func() string) {
	t.Helper()
	log, text := logged()
	opt.Log = log
	s, err := Open(work, opt)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s, text.String
}

// body writes a body that makes the mail file of d, a new draft, hold size bytes.
func body(d *Draft, size int64) error {
	return d.Body(make([]byte, size-int64(len("\n"))))
}

func wantHeld(t *testing.T, s *Spool, want int64) {
	t.Helper()
	if got := s.limits.bytes.held.Load(); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
}

// The limit is met to the byte, be a message small or streamed, alone or with others.
func TestMaxBytes(t *testing.T) {
	for _, limit := range []int64{100, smallBuffer, largeBuffer, 2*largeBuffer + 1, 1 << 20} {
		for _, others := range []int64{0, 1, 50} {
			for off := int64(-1); off <= 1; off++ {
				t.Run(fmt.Sprintf("%d of %d, %d elsewhere", limit-others+off, limit, others), func(t *testing.T) {
					work := workDir(t)
					s, text := limited(t, work, Options{MaxBytes: limit})
					if others > 0 {
						o := create(t, s, "other")
						must(t, body(o, others))
						seal(t, o)
					}
					d := create(t, s, "Q")
					body(d, limit-others+off)
					m, err := d.Seal()
					if off <= 0 {
						must(t, err)
						wantHeld(t, s, limit+off)
						if text() != "" {
							t.Errorf("logged: %s", text())
						}
						must(t, m.Remove())
						must(t, m.Remove())
						wantHeld(t, s, others)
						return
					}
					if m != nil || !IsNoSpace(err) {
						t.Errorf("Seal: %v, %v", m, err)
					}
					wantDead(t, d, ErrLimit)
					wantHeld(t, s, others) // given back at once
					wantGone(t, d.entry.path)
					if !strings.Contains(text(), "messages=1") || !strings.Contains(text(), fmt.Sprintf("max_spool=%d", limit)) {
						t.Errorf("logged: %s", text())
					}
				})
			}
		}
	}
}

// Create tells when there is room for nothing, and makes nothing then.
func TestMaxBytesAtCreate(t *testing.T) {
	work := workDir(t)
	s, _ := limited(t, work, Options{MaxBytes: 10})
	for size, want := range map[int64]error{9: nil, 10: ErrLimit} {
		d := create(t, s, "full")
		must(t, body(d, size))
		m := seal(t, d)
		fds := openFiles(t)
		next, err := s.Create("next")
		if !errors.Is(err, want) || IsNoSpace(err) != (want != nil) {
			t.Errorf("Create beside %d bytes: %v", size, err)
		}
		if want != nil {
			wantNames(t, work, "amavis-milter-full")
			if now := openFiles(t); now != fds {
				t.Errorf("%d descriptors open, %d before", now, fds)
			}
		} else {
			must(t, next.Remove())
		}
		must(t, m.Remove())
		wantHeld(t, s, 0)
	}
}

// Whatever a message ends in, its bytes are given back, once.
func TestMaxBytesAreGivenBack(t *testing.T) {
	const size = 3 * largeBuffer
	ends := map[string]func(t *testing.T, s *Spool, d *Draft){
		"removed at once":       func(t *testing.T, s *Spool, d *Draft) {},
		"aborted in mid-body":   func(t *testing.T, s *Spool, d *Draft) { must(t, body(d, size)) },
		"sealed":                func(t *testing.T, s *Spool, d *Draft) { must(t, body(d, size)); seal(t, d) },
		"header after the body": func(t *testing.T, s *Spool, d *Draft) { must(t, body(d, size)); d.Header("A", " b") },
		"spool closed":          func(t *testing.T, s *Spool, d *Draft) { must(t, body(d, size)); must(t, s.Close()) },
		"beyond the limit": func(t *testing.T, s *Spool, d *Draft) {
			if err := body(d, 20*size); !errors.Is(err, ErrLimit) {
				t.Error(err)
			}
		},
		"disk full": func(t *testing.T, s *Spool, d *Draft) {
			writes := 0
			s.disk.write = func(fd int, p []byte) (int, error) {
				if writes++; writes == 2 {
					return unix.Write(fd, p[:100])
				} else if writes == 3 {
					return -1, unix.ENOSPC
				}
				return unix.Write(fd, p)
			}
			if err := body(d, size); !errors.Is(err, unix.ENOSPC) {
				t.Error(err)
			}
		},
		"error in closing": func(t *testing.T, s *Spool, d *Draft) {
			s.disk.close = func(fd int) error { unix.Close(fd); return unix.EIO }
			if _, err := d.Seal(); !errors.Is(err, unix.EIO) {
				t.Error(err)
			}
		},
		"mail file removed": func(t *testing.T, s *Spool, d *Draft) {
			must(t, body(d, size))
			must(t, os.Remove(seal(t, d).File()))
		},
		"directory removed": func(t *testing.T, s *Spool, d *Draft) {
			must(t, body(d, size))
			must(t, os.RemoveAll(d.entry.path))
		},
		"directory moved away, a file in its place": func(t *testing.T, s *Spool, d *Draft) {
			must(t, body(d, size))
			must(t, os.Rename(d.entry.path, s.workDir+"/moved"))
			must(t, os.WriteFile(d.entry.path, nil, 0o600))
			if err := d.Remove(); !errors.Is(err, ErrTampered) {
				t.Errorf("Remove: %v", err)
			}
			wantHeld(t, s, 0) // the mail file is gone, if not the directory
			must(t, os.Remove(d.entry.path))
		},
		"mail file cannot be made": func(t *testing.T, s *Spool, d *Draft) {
			must(t, os.Symlink("x", d.entry.path+"/"+mailFile))
			if err := body(d, size); !errors.Is(err, unix.EEXIST) {
				t.Error(err)
			}
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			work := workDir(t)
			s, _ := limited(t, work, Options{MaxBytes: 10 * size})
			d := create(t, s, "Q")
			end(t, s, d)
			must(t, d.Remove())
			must(t, d.Remove())
			wantHeld(t, s, 0)
			wantNames(t, work)
		})
	}
}

// mountTmpfs mounts a small file system on the work directory.
func mountTmpfs(t *testing.T, work, options string) {
	t.Helper()
	needRoot(t, "mount a small tmpfs")
	if err := unix.Mount("tmpfs", work, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0750,"+options); err != nil {
		t.Skipf("the right to mount a tmpfs is missing: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(work, unix.MNT_DETACH)) })
}

// What cannot be removed is still on the disk and still counts, until it can be.
func TestMaxBytesCountWhatIsLeft(t *testing.T) {
	work := workDir(t)
	mountTmpfs(t, work, "size=1m")
	s, _ := limited(t, work, Options{MaxBytes: 1000})
	d := create(t, s, "Q")
	must(t, body(d, 1000))
	m := seal(t, d)
	unix.Close(s.home.lock) // what is open for writing keeps it from being made read-only
	s.home.lock = -1
	must(t, unix.Mount("", work, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	for range 2 {
		if err := m.Remove(); !errors.Is(err, unix.EROFS) {
			t.Errorf("Remove: %v", err)
		}
		wantHeld(t, s, 1000)
	}
	if _, err := s.Create("next"); !errors.Is(err, ErrLimit) {
		t.Errorf("Create: %v", err)
	}
	must(t, unix.Mount("", work, "", unix.MS_REMOUNT, "mode=0750"))
	s.mu.Lock()
	s.leftTried = time.Time{}
	s.mu.Unlock()
	must(t, create(t, s, "next").Remove()) // whoever comes next tries again, before he is refused
	wantHeld(t, s, 0)

	// One that is given up to the next start counts for good.
	d = create(t, s, "Q")
	must(t, body(d, 500))
	seal(t, d)
	must(t, unix.Mount("", work, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	if err := d.entry.removeFinally(); !errors.Is(err, unix.EROFS) {
		t.Errorf("removeFinally: %v", err)
	}
	must(t, d.Remove())
	wantHeld(t, s, 500)
	must(t, unix.Mount("", work, "", unix.MS_REMOUNT, "mode=0750"))
}

// Many at once never hold more than the limit, and nothing in the end; what fits
// is taken.
func TestMaxBytesAtOnce(t *testing.T) {
	const limit, writers, rounds = 1 << 20, 16, 20
	s, _ := limited(t, workDir(t), Options{MaxBytes: limit})
	var most, stored, refused atomic.Int64
	removed := func(d *Draft) {
		if d == nil {
			return
		}
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			var before *Draft // each keeps one message while it writes the next
			for i := range rounds {
				d, err := s.Create("Q")
				if err == nil {
					for range 1 + (w+i)%20 {
						d.Body(make([]byte, 10_000))
						if held := s.limits.bytes.held.Load(); held > most.Load() {
							most.Store(held)
						}
					}
					_, err = d.Seal()
					removed(before)
					before = d
				}
				if err == nil {
					stored.Add(1)
				} else if refused.Add(1); !errors.Is(err, ErrLimit) {
					t.Error(err)
				}
			}
			removed(before)
		})
	}
	all.Wait()
	if most.Load() > limit || stored.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d bytes at most of %d; %d stored, %d refused", most.Load(), limit, stored.Load(), refused.Load())
	}
	wantHeld(t, s, 0)
	d := create(t, s, "Q")
	must(t, body(d, limit))
	seal(t, d)
}

// The account alone, in the hands of many: all of it is given out, and not a byte
// more.
func TestAccountAtOnce(t *testing.T) {
	const limit = 4_000_000
	a := account{limit: limit}
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for a.take(1) == nil {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	if taken.Load() != limit || a.held.Load() != limit || a.full() == nil {
		t.Errorf("%d bytes were taken and %d are counted, of %d", taken.Load(), a.held.Load(), limit)
	}
	for range 8 {
		all.Go(func() {
			for range limit / 8 {
				a.give(1)
			}
		})
	}
	all.Wait()
	if a.held.Load() != 0 || a.full() != nil {
		t.Errorf("%d bytes are counted in the end", a.held.Load())
	}
}
