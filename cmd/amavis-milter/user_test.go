package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

func (s *site) socketOwner() (uid, gid int) {
	s.t.Helper()
	info, err := os.Lstat(s.socket)
	if err != nil {
		s.t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("root is missing: needed to become another user")
	}
}

// commandAs is the program as a user starts it who is not root.
func (s *site) commandAs(uid, gid int, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := s.command(args...)
	// The test binary lies where only root may go.
	binary, err := os.ReadFile(cmd.Path)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.Path = filepath.Join(s.dir, "amavis-milter")
	if err := os.WriteFile(cmd.Path, binary, 0o755); err != nil {
		s.t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return cmd
}

// TestSocketBelongsToTheUser: as if that user had started us, unless something else
// is asked for.
func TestSocketBelongsToTheUser(t *testing.T) {
	needRoot(t)
	uid, gid := accountIDs(t)
	const otherUID, otherGID = 54321, 54322
	owner := func(uid, gid int) string { return strconv.Itoa(uid) + ":" + strconv.Itoa(gid) }
	tests := []struct {
		args     []string
		uid, gid int
	}{
		{nil, uid, gid},
		{[]string{"-g", strconv.Itoa(otherGID)}, uid, otherGID},
		{[]string{"--socket-owner", strconv.Itoa(otherUID)}, otherUID, gid},
		{[]string{"--socket-owner", "0"}, 0, gid},
		{[]string{"--socket-owner", owner(otherUID, otherGID)}, otherUID, otherGID},
		{[]string{"--socket-owner", ":" + strconv.Itoa(otherGID)}, uid, otherGID},
	}
	for _, tt := range tests {
		s := newSite(t, ampdptest.Continue())
		p := s.start(tt.args...)
		if gotUID, gotGID := s.socketOwner(); gotUID != tt.uid || gotGID != tt.gid {
			t.Errorf("%v: the socket belongs to %s, want %s", tt.args, owner(gotUID, gotGID), owner(tt.uid, tt.gid))
		}
		p.signal(syscall.SIGTERM)
		p.exits(0)
	}
}

// TestUserStartsAfterRoot: what an instance left that root had started with --user,
// and that was killed, does not keep one out that the user starts.
func TestUserStartsAfterRoot(t *testing.T) {
	needRoot(t)
	uid, gid := accountIDs(t)
	s := newSite(t, ampdptest.Continue())
	killed := s.start()
	killed.signal(syscall.SIGKILL)
	<-killed.ended
	if _, err := os.Lstat(s.socket); err != nil {
		t.Fatalf("nothing was left: %v", err)
	}
	again := s.commandAs(uid, gid, "-f")
	again.Args = again.Args[:len(again.Args)-2] // without --user, as after su
	p := s.run(again)
	if answer, err := s.mta().SendMessage(message()); err != nil || answer.Code != 'a' && answer.Code != 'c' {
		t.Errorf("%v, %v", answer, err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// TestUserIsOurself: --user of an ordinary user changes nothing, whatever group the
// process has.
func TestUserIsOurself(t *testing.T) {
	needRoot(t)
	uid, _ := accountIDs(t)
	const group = 54322
	s := newSite(t, ampdptest.Continue())
	cmd := s.commandAs(uid, group, "-f")
	p := s.run(cmd)
	if gotUID, gotGID := s.socketOwner(); gotUID != uid || gotGID != group {
		t.Errorf("the socket belongs to %d:%d", gotUID, gotGID)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}
