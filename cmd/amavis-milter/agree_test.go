package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/internal/daemon"
	"github.com/amavis-milter/amavis-milter/internal/filter"
)

// What the command line allows and what is done with it are written in packages
// that may not know each other. Here they are held against each other.

// TestSocketPathsAgree: the longest socket path of the command line is the longest
// that can be listened on.
func TestSocketPathsAgree(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "am")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for n, want := range map[int]bool{106: true, 107: true, 108: false} {
		path := filepath.Join(dir, strings.Repeat("x", n-len(dir)-1))
		_, parsed := config.Parse([]string{"amavis-milter", "-w", "/", "-p", path}, plainEnv())
		listener, listened := daemon.Listen(daemon.ListenConfig{Network: "unix", Address: path, OwnerUID: -1, GroupGID: -1})
		if listened == nil {
			listener.Close()
		}
		if (parsed == nil) != want || (listened == nil) != want {
			t.Errorf("%d bytes: the command line says %v, Listen %v", n, parsed, listened)
		}
	}
}

// TestIDsAgree: the same numbers are users and groups for both.
func TestIDsAgree(t *testing.T) {
	for id, want := range map[uint64]bool{1<<32 - 3: true, 1<<32 - 2: true, 1<<32 - 1: false, 1 << 32: false} {
		text := strconv.FormatUint(id, 10)
		_, parsed := config.Parse([]string{"amavis-milter", "-w", "/", "--socket-owner", text + ":" + text}, plainEnv())
		uid, userErr := daemon.LookupUID(text)
		gid, groupErr := daemon.LookupGID(text)
		if (parsed == nil) != want || (userErr == nil) != want || (groupErr == nil) != want || want && (uint64(uid) != id || uint64(gid) != id) {
			t.Errorf("%s: the command line says %v, LookupUID %d, %v, LookupGID %d, %v", text, parsed, uid, userErr, gid, groupErr)
		}
	}
}

// TestDefaultsAgree: the deadline that nobody wrote is the same everywhere.
func TestDefaultsAgree(t *testing.T) {
	cfg, err := config.Parse([]string{"amavis-milter", "-w", "/"}, plainEnv())
	if err != nil || cfg.Deadline != filter.DefaultDeadline {
		t.Errorf("%v, %v; the filter says %v", cfg.Deadline, err, filter.DefaultDeadline)
	}
}
