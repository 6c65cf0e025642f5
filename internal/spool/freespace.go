package spool

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lookAge is how long one look at the file system is good for. Within it others,
// amavisd above all, may write without our notice.
const lookAge = 100 * time.Millisecond

// freeSpace keeps us from writing into the last Options.MinFree bytes of the file
// system. All messages share one look at it, which is statfs(2), made at most once
// each lookAge and before any refusal. What we write ourselves since then is taken
// off: so however many write at once, mail files never pass the limit, and a
// message is refused only if the file system itself says that it does not fit. Two
// things are seen by the next look alone: what others write, and what a file
// system needs beyond whole blocks of data. What is under way while somebody looks
// may count twice then, to the safe side: up to largeBuffer bytes for each writer.
type freeSpace struct {
	min    int64 // bytes to leave free; 0 to write as long as it goes
	statfs func(fd int, st *unix.Statfs_t) error

	mu     sync.Mutex // of all below
	looked time.Time  // the last look; zero for none
	left   int64      // bytes that may be written now, or less than 0; near MaxInt64 if nobody can tell
	block  int64      // bytes that files grow by
	going  int64      // bytes that may be written but are not yet, as far as we know
}

// look is what a file system says of itself.
type look struct {
	free  int64 // bytes that are free for us, reserves of root not included
	total int64 // bytes in all; 0 if it does not say
	block int64 // bytes that files grow by
}

// lookAt asks the file system of an open directory.
func (f *freeSpace) lookAt(dir int) (look, error) {
	var st unix.Statfs_t
	if err := retry(func() error { return f.statfs(dir, &st) }); err != nil {
		return look{}, err
	}
	block := st.Frsize
	if block <= 0 {
		block = st.Bsize
	}
	if block <= 0 || st.Blocks == 0 {
		return look{block: 1}, nil // FUSE, or a tmpfs without limits
	}
	available := st.Bavail
	if int64(available) < 0 {
		available = 0 // the reserve of root has been used: some servers count below zero
	}
	return look{blocks(available, block), blocks(st.Blocks, block), block}, nil
}

// blocks returns n blocks in bytes, as far as an int64 goes.
func blocks(n uint64, block int64) int64 {
	if n > uint64(math.MaxInt64/block) {
		return math.MaxInt64
	}
	return int64(n) * block
}

// take asks for the room that a file of size bytes needs to grow by n, and returns
// it in bytes, for done. Its error wraps ErrLimit. That the file system cannot be
// asked is told in doubt; it is no reason to refuse mail.
func (f *freeSpace) take(dir int, size, n int64) (taken int64, err, doubt error) {
	if f.min <= 0 {
		return 0, nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh := false
	if f.looked.IsZero() || time.Since(f.looked) >= lookAge {
		doubt = f.renew(dir)
		fresh = true
	}
	if taken = f.grows(size, n); taken > max(f.left, 0) && !fresh {
		doubt = f.renew(dir)
		taken = f.grows(size, n)
	}
	if taken > max(f.left, 0) {
		return 0, fmt.Errorf("%w: %d bytes more would leave less than %d free", ErrLimit, n, f.min), doubt
	}
	f.left -= taken
	f.going += taken
	return taken, nil, doubt
}

// grows returns by how much a file of size bytes grows on the disk when n come.
func (f *freeSpace) grows(size, n int64) int64 {
	up := func(n int64) int64 { return (n + f.block - 1) / f.block * f.block }
	return up(size+n) - up(size)
}

// renew looks at the file system.
func (f *freeSpace) renew(dir int) error {
	l, err := f.lookAt(dir)
	f.looked = time.Now()
	if err != nil || l.total == 0 {
		f.left, f.block = math.MaxInt64, 1
		return err
	}
	f.left, f.block = l.free-f.min-f.going, l.block
	return nil
}

// done says that what was taken has been written, or will not be: the next look
// finds it on the disk or free.
func (f *freeSpace) done(taken int64) {
	if taken == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.going -= taken
}
