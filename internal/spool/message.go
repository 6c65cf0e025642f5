package spool

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Message is a complete mail file, ready to be read by amavisd. Its methods may be
// called from any goroutine.
type Message struct {
	entry *entry
	size  int64 // of the mail file, in bytes
}

// Dir returns the absolute path of the message's directory, AM.PDP's tempdir.
func (m *Message) Dir() string { return m.entry.path }

// File returns the absolute path of the mail file, AM.PDP's mail_file.
func (m *Message) File() string { return m.entry.path + "/" + mailFile }

// Clean removes everything but the mail file. It must come before a request is
// sent again: amavisd uses the subdirectory parts/ as it finds it, and what a dead
// child left there would be scanned as part of the mail. It returns ErrTampered
// if the mail file is no longer the one that was written.
func (m *Message) Clean() error {
	e := m.entry
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone || e.dir < 0 {
		return ErrRemoved
	}
	if err := takeAccess(e.dir, e.spool.uid); err != nil {
		return fmt.Errorf("cleaning spool directory %s: %w", e.path, err)
	}
	if err := emptyDir(e.dir, e.spool.uid, mailFile); err != nil {
		return fmt.Errorf("cleaning spool directory %s: %w", e.path, err)
	}
	st, err := lstatat(e.dir, mailFile)
	if errors.Is(err, unix.ENOENT) || err == nil && (!isRegular(st) || st.Size != m.size) {
		return fmt.Errorf("cleaning spool directory %s: %w", e.path, ErrTampered)
	}
	if err != nil {
		return fmt.Errorf("cleaning spool directory %s: %w", e.path, err)
	}
	return nil
}

// Remove removes the message's directory with all that lies in it, what amavisd
// left included. It is idempotent, and may be called again after an error. That
// somebody else has removed the directory is no error.
func (m *Message) Remove() error { return m.entry.remove() }
