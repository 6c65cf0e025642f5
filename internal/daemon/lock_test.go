package daemon

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// sharedDir makes a directory of a user's, not the account's, in which the account may
// write by group: root starts there as that user, and the account ends as itself.
func sharedDir(t *testing.T, uid, gid int) string {
	t.Helper()
	top := shortTempDir(t) // by a way of root's
	dir := filepath.Join(top, "d")
	if err := errors.Join(os.Chmod(top, 0o755), os.Mkdir(dir, 0o700), os.Chown(dir, uid, gid), syscall.Chmod(dir, 0o770)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestStartWaitsForEnd: root's start neither passes by the lock of an account that
// ends nor gives up because of it; once that is gone or dead, it has the name.
func TestStartWaitsForEnd(t *testing.T) {
	needRoot(t)
	dir := sharedDir(t, thirdUID, accountGID)
	p, err := place(filepath.Join(dir, "s"), socketOption, testUser())
	if err != nil {
		t.Fatal(err)
	}
	defer p.dir.file.Close()
	if p.dir.starter != thirdUID {
		t.Fatalf("root starts as user %d", p.dir.starter)
	}
	fd := -1
	if err := p.dir.account.do(func() (err error) { fd, err = p.openLock(unix.O_CREAT | unix.O_EXCL); return err }); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	try := func() (file *os.File, err error) {
		err = p.dir.actor.do(func() (err error) { file, err = p.tryLock(); return err })
		return file, err
	}
	if _, err := try(); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("while the end holds the lock: %v", err)
	}
	unix.Close(fd)
	file, err := try()
	if err != nil || file == nil {
		t.Fatalf("the lock of an end that died: %v, %v", file, err)
	}
	file.Close()
	unlock, err := p.lock(0)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if got := list(t, dir); got != "" {
		t.Errorf("the directory holds %s", got)
	}
	// Another's is none, whoever he is.
	for _, uid := range []int{0, attackerUID} {
		path := filepath.Join(dir, p.lockName())
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, uid, 0)); err != nil {
			t.Fatal(err)
		}
		if _, err := try(); !errors.Is(err, errNotLock) {
			t.Errorf("a file of user %d: %v", uid, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEndWaitsForStart: the account that ends waits for root's start, whose lock it may
// not even open. That runs in a process of its own, which becomes the account.
func TestEndWaitsForStart(t *testing.T) {
	needRoot(t)
	const variable = "DAEMON_TEST_END_WAITS"
	if dir := os.Getenv(variable); dir != "" {
		endBesideStart(t, filepath.Join(dir, "s"))
		return
	}
	for _, owner := range []struct{ uid, gid int }{{thirdUID, accountGID}, {0, 0}} {
		dir := sharedDir(t, owner.uid, owner.gid)
		cmd := exec.Command(os.Args[0], "-test.run", "^TestEndWaitsForStart$", "-test.count=1")
		cmd.Env, cmd.Dir = append(os.Environ(), variable+"="+dir), "/"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("directory of user %d: %v\n%s", owner.uid, err, out)
		}
		if got := list(t, dir); got != "" {
			t.Errorf("directory of user %d: it holds %s", owner.uid, got)
		}
	}
}

func endBesideStart(t *testing.T, path string) {
	account := testUser()
	account.Groups = append(account.Groups, 0) // of root's directory
	p, err := place(path, socketOption, account)
	if err != nil {
		t.Fatal(err)
	}
	if p.dir.starter == accountUID {
		t.Fatal("root starts as the account")
	}
	if _, err = p.lock(0); err != nil {
		t.Fatal(err)
	}
	if err := DropPrivileges(account); err != nil {
		t.Fatal(err)
	}
	if _, err := p.tryLock(); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("while the start holds the lock: %v", err)
	}
	if err := unix.Unlinkat(p.dir.fd(), p.lockName(), 0); err != nil { // by group
		t.Fatal(err)
	}
	unlock, err := p.lock(0)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
