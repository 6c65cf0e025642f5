package spool

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

const page = 4096 // bytes of a page, by which a tmpfs grows here

// fakeDisk answers statfs in the place of the system.
type fakeDisk struct {
	mu    sync.Mutex
	st    unix.Statfs_t
	err   error
	looks int
}

// newFakeDisk has blocks of 4 KiB, of which free are free.
func newFakeDisk(free uint64) *fakeDisk {
	return &fakeDisk{st: unix.Statfs_t{Blocks: 1000, Bfree: free + 10, Bavail: free, Frsize: page, Bsize: 16 * page}}
}

func (f *fakeDisk) statfs(_ int, st *unix.Statfs_t) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	*st = f.st
	return f.err
}

// on gives a spool this disk, and makes it leave minFree bytes free.
func (f *fakeDisk) on(s *Spool, minFree int64) {
	s.limits.space.statfs = f.statfs
	s.limits.set(Options{MinFree: minFree}, s.home)
}

// To the block, on a disk that does not change: how much is free, how much is to be
// left, how long a file may be, and whether a directory may be made at all. The files
// are short enough for one write.
func TestMinFree(t *testing.T) {
	for _, tt := range []struct {
		free    uint64 // blocks
		minFree int64  // bytes
		longest int64  // bytes; 0: not even Create
	}{
		{12, 1, 11 * page}, // of one page a byte is to be free
		{12, 2*page - 1, 10 * page},
		{12, 2 * page, 10 * page},
		{12, 2*page + 1, 9 * page},
		{12, 11 * page, page},
		{12, 11*page + 1, 0},
		{12, 12 * page, 0},
		{12, 12*page + 1, 0},
		{12, math.MaxInt64, 0},
		{0, 1, 0},
		{math.MaxUint64, 1, 0}, // a reserve that has been used: below zero
	} {
		t.Run(fmt.Sprintf("%d blocks, %d bytes to be left", tt.free, tt.minFree), func(t *testing.T) {
			for _, size := range []int64{tt.longest - 1, tt.longest, tt.longest + 1} {
				if size < 1 {
					continue
				}
				work := workDir(t)
				s, text := limited(t, work, Options{})
				newFakeDisk(tt.free).on(s, tt.minFree)
				d, err := s.Create("Q")
				if tt.longest > 0 {
					must(t, err)
					body(d, size)
					_, err = d.Seal()
				}
				if size <= tt.longest {
					must(t, err)
					must(t, d.Remove())
				} else if !errors.Is(err, ErrLimit) || !IsNoSpace(err) || !strings.Contains(text(), "--min-free") {
					t.Errorf("%d bytes: %v; logged: %s", size, err, text())
				}
				wantNames(t, work)
				if s.limits.space.going != 0 {
					t.Errorf("%d bytes are still going", s.limits.space.going)
				}
			}
		})
	}
}

// Small messages share one look in lookAge, a long one needs one in that time, and
// a refusal always has one of its own.
func TestMinFreeLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := limited(t, workDir(t), Options{})
		disk := newFakeDisk(100_000)
		disk.on(s, 1)
		disk.looks = 0
		looks := func(what string, want int) {
			t.Helper()
			if disk.looks != want {
				t.Errorf("%s: %d looks, want %d", what, disk.looks, want)
			}
			disk.looks = 0
		}
		messages := func() {
			for i := range 100 {
				d := create(t, s, "Q")
				must(t, body(d, int64(1000*(i+1))))
				seal(t, d)
				must(t, d.Remove())
			}
		}
		messages()
		looks("100 messages", 1)
		time.Sleep(lookAge - 1)
		messages()
		looks("100 messages soon after", 0)
		time.Sleep(time.Nanosecond) // fake time
		messages()
		looks("100 messages when it is time", 1)
		d := create(t, s, "Q")
		must(t, body(d, 20<<20))
		must(t, d.Remove())
		looks("20 MiB", 0)
		disk.st.Bavail = 0
		for range 3 {
			d := create(t, s, "Q") // as it was at the last look
			must(t, body(d, smallBuffer))
			must(t, d.Remove())
		}
		looks("without knowing that the disk is full", 0)
		time.Sleep(lookAge)
		for range 3 {
			if _, err := s.Create("Q"); !errors.Is(err, ErrLimit) {
				t.Errorf("Create: %v", err)
			}
		}
		looks("refusals and one line in the log", 3+1)
		disk.st.Bavail = 1000
		must(t, create(t, s, "Q").Remove())
		looks("room again, which is known at once", 1)
	})
}

// What is written between two looks is taken off in blocks, and nobody is refused
// for what was taken off too much.
func TestMinFreeBetweenLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := limited(t, workDir(t), Options{})
		disk := newFakeDisk(20)
		disk.on(s, 10*page)
		var drafts []*Draft
		for range 3 { // each one page for its directory, two for its file
			d := create(t, s, "Q")
			must(t, body(d, page+1))
			seal(t, d)
			drafts = append(drafts, d)
		}
		if left := s.limits.space.left; left != page {
			t.Errorf("%d bytes are left, want one page", left)
		}
		// That no directory takes a page is known when it matters.
		disk.st.Bavail = 14
		d := create(t, s, "Q")
		must(t, body(d, 4*page))
		seal(t, d)
		disk.st.Bavail = 10
		if _, err := s.Create("Q"); !errors.Is(err, ErrLimit) {
			t.Errorf("Create: %v", err)
		}
		for _, d := range append(drafts, d) {
			must(t, d.Remove())
		}
		disk.st.Bavail = 20
		must(t, create(t, s, "Q").Remove())
	})
}

// A page that a file has already is no reason to refuse its last bytes.
func TestMinFreeWithinABlock(t *testing.T) {
	for _, free := range []uint64{10, 9, 0} {
		withinABlock(t, &freeSpace{min: 10 * page, statfs: newFakeDisk(free).statfs})
	}
}

func withinABlock(t *testing.T, f *freeSpace) {
	t.Helper()
	for _, tt := range []struct {
		size, n int64
		want    error
	}{
		{0, 0, nil}, {100, 0, nil}, {page, 0, nil}, {1, page - 1, nil}, {1, page, ErrLimit}, {0, 1, ErrLimit}, {page, 1, ErrLimit},
	} {
		if _, err, doubt := f.take(0, tt.size, tt.n); !errors.Is(err, tt.want) || doubt != nil {
			t.Errorf("%d bytes more than %d: %v, %v; want %v", tt.n, tt.size, err, doubt, tt.want)
		}
	}
}

// What is under way while somebody looks counts, though the disk may know of it.
func TestMinFreeCountsWhatIsGoing(t *testing.T) {
	f := freeSpace{min: 10 * page, statfs: newFakeDisk(20).statfs}
	first, err, _ := f.take(0, 0, 6*page)
	must(t, err)
	f.looked = time.Time{}
	if _, err, _ := f.take(0, 0, 5*page); !errors.Is(err, ErrLimit) {
		t.Errorf("11 pages of 10: %v", err)
	}
	second, err, _ := f.take(0, 0, 4*page)
	must(t, err)
	f.done(first)
	f.done(second)
	if f.going != 0 {
		t.Errorf("%d bytes are still going", f.going)
	}
}

// A file system that cannot be asked, or has no answer, refuses nothing.
func TestMinFreeIsNotKnown(t *testing.T) {
	for name, tt := range map[string]struct {
		disk *fakeDisk
		warn string
	}{
		"statfs fails":  {&fakeDisk{err: unix.EIO}, "does not say how much is free: input/output error"},
		"no blocks":     {&fakeDisk{st: unix.Statfs_t{Frsize: page}}, "no blocks at all"},
		"no block size": {&fakeDisk{st: unix.Statfs_t{Blocks: 100}}, "no blocks at all"},
	} {
		t.Run(name, func(t *testing.T) {
			s, text := limited(t, workDir(t), Options{})
			tt.disk.on(s, 1<<40)
			if n := strings.Count(text(), "level=WARN"); n != 1 || !strings.Contains(text(), tt.warn) {
				t.Errorf("logged: %s", text())
			}
			for range 3 {
				s.limits.space.looked = time.Time{}
				d := create(t, s, "Q")
				must(t, body(d, 3*largeBuffer))
				must(t, seal(t, d).Remove())
			}
			want := 1 // at the start
			if tt.disk.err != nil {
				want = 2 // and then once a minute
			}
			if n := strings.Count(text(), "level=WARN"); n != want {
				t.Errorf("%d warnings, want %d: %s", n, want, text())
			}
		})
	}
}

// statfs is interrupted by a signal, as it can be on FUSE and NFS.
func TestMinFreeInterrupted(t *testing.T) {
	disk, calls := newFakeDisk(5), 0
	f := freeSpace{min: 1, statfs: func(fd int, st *unix.Statfs_t) error {
		if calls++; calls < 3 {
			return unix.EINTR
		}
		return disk.statfs(fd, st)
	}}
	if l, err := f.lookAt(0); err != nil || l.free != 5*page {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestBlocks(t *testing.T) {
	for _, tt := range []struct {
		n           uint64
		block, want int64
	}{
		{0, page, 0}, {3, page, 3 * page}, {math.MaxInt64, 1, math.MaxInt64}, {math.MaxUint64, 1, math.MaxInt64},
		{math.MaxInt64 / page, page, math.MaxInt64 / page * page}, {math.MaxInt64/page + 1, page, math.MaxInt64},
	} {
		if got := blocks(tt.n, tt.block); got != tt.want {
			t.Errorf("%d blocks of %d: %d bytes, want %d", tt.n, tt.block, got, tt.want)
		}
	}
}

// A disk that is too full already is told at the start, which it does not keep from.
func TestMinFreeAtStart(t *testing.T) {
	for free, want := range map[uint64]int{99: 1, 100: 1, 101: 0} {
		s, text := limited(t, workDir(t), Options{})
		newFakeDisk(free).on(s, 100*page)
		if n := strings.Count(text(), "are to be left free: mail gets 452"); n != want || strings.Count(text(), "\n") != want {
			t.Errorf("%d pages free: logged %q", free, text())
		}
		_, err := s.Create("Q")
		if IsNoSpace(err) != (want == 1) {
			t.Errorf("%d pages free: Create: %v", free, err)
		}
	}
	s, text := limited(t, workDir(t), Options{MinFree: math.MaxInt64, MaxBytes: 1}) // the test file is over both
	if !strings.Contains(text(), "--min-free") || s.Access().FileMode != fileMode {
		t.Errorf("logged %q, access %v", text(), s.Access())
	}
	if _, err := s.Create("Q"); !errors.Is(err, ErrLimit) {
		t.Errorf("Create: %v", err)
	}
}

// A real file system, to the page: files as long as what is not to be left free, a
// page less, a page more; the same with a byte.
func TestMinFreeOnTmpfs(t *testing.T) {
	work := workDir(t)
	mountTmpfs(t, work, "size=256k")
	free := func() int64 {
		var st unix.Statfs_t
		must(t, unix.Statfs(work, &st))
		return int64(st.Bavail) * st.Frsize
	}
	const pages = 40
	s, text := limited(t, work, Options{MinFree: free() - pages*page})
	for size, ok := range map[int64]bool{
		(pages - 1) * page: true, pages*page - 1: true, pages * page: true, pages*page + 1: false, (pages + 1) * page: false, 64 * page: false, 100 * page: false,
	} {
		d := create(t, s, "Q")
		body(d, size)
		_, err := d.Seal()
		if ok && err != nil || !ok && !errors.Is(err, ErrLimit) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if now := free(); now < s.limits.space.min {
			t.Errorf("%d bytes are free, %d were to be left", now, s.limits.space.min)
		}
		must(t, d.Remove())
		wantNames(t, work)
	}
	if strings.Count(text(), "\n") != 1 || !strings.Contains(text(), "--min-free") {
		t.Errorf("logged: %s", text())
	}

	// Many at once, with a witness.
	stop, stopped := make(chan struct{}), make(chan struct{})
	least := int64(math.MaxInt64)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				var st unix.Statfs_t
				if unix.Statfs(work, &st) == nil {
					least = min(least, int64(st.Bavail)*st.Frsize)
				}
			}
		}
	}()
	var stored, refused atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := range 60 {
				d, err := s.Create("Q")
				if err == nil {
					body(d, int64(1+i%20)*page)
					if _, err = d.Seal(); err == nil {
						stored.Add(1)
					}
					if err := d.Remove(); err != nil {
						t.Error(err)
					}
				}
				if err != nil {
					if refused.Add(1); !errors.Is(err, ErrLimit) {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	close(stop)
	<-stopped
	if least < s.limits.space.min || stored.Load() == 0 {
		t.Errorf("%d bytes were free at least, %d were to be left; %d stored, %d refused", least, s.limits.space.min, stored.Load(), refused.Load())
	}
}

// A tmpfs without a limit says that it has no blocks.
func TestMinFreeOnTmpfsWithoutEnd(t *testing.T) {
	work := workDir(t)
	mountTmpfs(t, work, "size=0")
	s, text := limited(t, work, Options{MinFree: 1 << 40})
	if strings.Count(text(), "\n") != 1 || !strings.Contains(text(), "no blocks at all") {
		t.Errorf("logged: %s", text())
	}
	d := create(t, s, "Q")
	must(t, body(d, 10*page))
	must(t, seal(t, d).Remove())
}
