package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a Spool. The zero value is usable.
type Options struct {
	// Log takes what concerns the whole spool: warnings about the work directory,
	// the sweep. Nil discards it. What concerns one message is returned, not logged.
	Log *slog.Logger

	// Context ends Open early when it is done, while it waits for the lock or
	// sweeps; it is nothing to the spool once that is open. Nil is never done.
	Context context.Context

	// MinFree is how many bytes of the work directory's file system are left free, for
	// amavisd to unpack mail and for others. 0: it is filled as far as it goes. A
	// message that does not fit fails with ErrLimit; how exactly is told at freeSpace.
	MinFree int64

	// MaxBytes is how many bytes the mail files of this spool may hold in all, those
	// included that could not be removed. A message beyond fails with ErrLimit. 0: no
	// limit.
	MaxBytes int64
}

// Spool is the place of the mail files, open from start to end of the program. Its
// methods may be called from any goroutine.
type Spool struct {
	workDir string
	uid     int // the owner of all that is ours
	log     *slog.Logger
	access  Access
	disk    disk
	limits  *limits

	renewing sync.Mutex // held while milter/ is made anew

	mu        sync.Mutex // of all below
	home      *home
	homeSeen  time.Time // when milter/ was last found in its place
	live      map[*entry]struct{}
	left      map[*entry]struct{} // those that could not be removed
	leftTried time.Time           // the last attempt at one of these
	closed    bool
}

// disk is how mail files are written: the system's calls, but for tests of full
// and failing disks.
type disk struct {
	write func(fd int, p []byte) (int, error)
	close func(fd int) error
}

// Access says who can reach the mail files. amavisd must run as the user UID, and
// a virus scanner with an account of its own must be a member of the group GID.
type Access struct {
	Dir      string // milter/, with its path
	UID, GID int    // of what is made there
	Mode     uint32 // of a message's directory, permission bits
	FileMode uint32 // of a mail file, permission bits
}

// String returns the facts as one line of text.
func (a Access) String() string {
	return fmt.Sprintf("%s: directories %04o, files %04o, uid %d, gid %d: amavisd must run as that uid, a virus scanner with its own account must be in that group",
		a.Dir, a.Mode, a.FileMode, a.UID, a.GID)
}

// Open opens the spool in a work directory, which must exist: it makes and locks
// milter/, sweeps it if no other instance lives there, and tests whether a mail
// file can be made. It must be called as the user that the process goes on to run
// as. An error is a *SetupError, or wraps the cause of the context's end. What is
// allowed but doubtful is logged as a warning.
func Open(workDir string, opt Options) (*Spool, error) {
	path, err := checkPath(workDir)
	if err != nil {
		return nil, err
	}
	s := &Spool{
		workDir: path,
		uid:     os.Geteuid(),
		log:     opt.Log,
		disk:    disk{write: unix.Write, close: unix.Close},
		live:    make(map[*entry]struct{}),
		left:    make(map[*entry]struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.limits = newLimits(s.log)
	ctx := opt.Context
	if ctx == nil {
		ctx = context.Background()
	}
	work, st, err := openWorkDir(path, s.uid)
	if err != nil {
		return nil, err
	}
	defer unix.Close(work)
	for _, warning := range workDirWarnings(path, st, s.uid) {
		s.log.Warn(warning)
	}
	if s.home, err = openHome(ctx, work, path, s.uid, true, LockWait); err != nil {
		return nil, err
	}
	s.home.refs = 1
	if err := s.settle(ctx, st); err != nil {
		s.Close()
		return nil, err
	}
	s.limits.set(opt, s.home)
	return s, nil
}

// settle sweeps milter/, shares it with others and tests it.
func (s *Spool) settle(ctx context.Context, work unix.Stat_t) error {
	if s.home.alone {
		err := sweep(ctx, s.home, s.uid, s.log)
		if err != nil && ctx.Err() != nil {
			return err
		}
		if err != nil {
			s.log.Warn(fmt.Sprintf("work directory: %s cannot be swept of dead spool directories: %v", s.home.path, err))
		}
		if err := s.home.share(ctx, lockWaitSwept); err != nil {
			return err
		}
	}
	if s.home.lock < 0 {
		s.log.Warn(fmt.Sprintf("work directory: %s is on a file system without locks: dead spool directories are never swept", s.home.path))
	}
	if err := s.probe(); err != nil {
		return err
	}
	if s.access.GID != int(work.Gid) && work.Gid != 0 {
		s.log.Warn(fmt.Sprintf("work directory: mail files in %s belong to the group with gid %d, the work directory to gid %d: a virus scanner in the latter cannot read them, and then mail passes unscanned; run with the work directory's group, or chgrp and chmod g+s %s",
			s.home.path, s.access.GID, work.Gid, s.home.path))
	}
	return nil
}

// probe writes a mail file like any other and looks at what came of it.
func (s *Spool) probe() error {
	failed := func(err error) error {
		return &SetupError{setupKind(err), s.home.path, "does not take a test file",
			"see that the file system has space and is not mounted read-only, and that no security policy is in the way", err}
	}
	d, err := s.Create("")
	if err != nil {
		return failed(err)
	}
	defer d.Remove()
	_ = d.WriteRaw([]byte("test\n"))
	m, err := d.Seal()
	if err != nil {
		return failed(err)
	}
	dir, err := fstat(d.entry.dir)
	if err != nil {
		return failed(err)
	}
	file, err := lstatat(d.entry.dir, mailFile)
	if err != nil {
		return failed(err)
	}
	s.access = Access{s.home.path, int(file.Uid), int(file.Gid), dir.Mode & permBits, file.Mode & permBits}
	if dir.Mode&0o777 != dirMode || file.Mode&0o777 != fileMode {
		s.log.Warn(fmt.Sprintf("work directory: the file system of %s does not keep permissions: directories get %04o, files %04o; use one that does", s.home.path, s.access.Mode, s.access.FileMode))
	}
	if err := m.Remove(); err != nil {
		return failed(err)
	}
	return nil
}

// Access returns who can reach the mail files.
func (s *Spool) Access() Access { return s.access }

// Create makes a directory for a message and returns a draft of its mail file. The
// queue id may hold any bytes; where it is unusable as a name or taken, the
// directory gets a random name or part of one. After Close it fails with ErrClosed.
func (s *Spool) Create(queueID string) (*Draft, error) {
	s.tryLeft()
	h, err := s.hold()
	if err != nil {
		return nil, err
	}
	if !s.isInPlace(h) {
		s.letGo(h)
		if h, err = s.renew(h); err != nil {
			return nil, err
		}
	}
	taken, err := s.limits.takeDir(h)
	if err != nil {
		s.letGo(h)
		return nil, fmt.Errorf("making spool directory in %s: %w", h.path, err)
	}
	defer s.limits.space.done(taken)
	e, err := s.makeEntry(h, queueID)
	if err == unix.ENOENT {
		s.letGo(h)
		if h, err = s.renew(h); err != nil {
			return nil, err
		}
		e, err = s.makeEntry(h, queueID)
	}
	if err != nil {
		s.letGo(h)
		return nil, err
	}
	if !s.register(e) {
		return nil, errors.Join(ErrClosed, e.removeFinally())
	}
	return &Draft{entry: e}, nil
}

// Close removes all directories that are still in use, tries those again that
// could not be removed, and gives up the lock. Drafts in use fail from then on. It
// returns what could not be removed; it is idempotent.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	entries := make([]*entry, 0, len(s.live)+len(s.left))
	for e := range s.live {
		entries = append(entries, e)
	}
	for e := range s.left {
		entries = append(entries, e)
	}
	s.mu.Unlock()

	var errs []error
	for _, e := range entries {
		if err := e.removeFinally(); err != nil {
			errs = append(errs, err)
		}
	}
	s.limits.close(s.home)
	s.letGo(s.home)
	return errors.Join(errs...)
}
