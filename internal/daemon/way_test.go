package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes directories and links for the tests of ways, in a directory of root's that
// all may enter.
func tree(t *testing.T) string {
	t.Helper()
	dir := shortTempDir(t)
	err := os.Chmod(dir, 0o755)
	for _, d := range []struct {
		path     string
		uid, gid int
		mode     uint32
	}{
		{"run", 0, 0, 0o755}, {"run/amavis", accountUID, accountGID, 0o755}, {"run/amavis/root", 0, 0, 0o755},
		{"run/mta", 54321, 54322, 0o2710}, {"run/group", 0, 54322, 0o775}, {"run/closed", 0, 0, 0o700}, {"run/wheel", 0, 0, 0o775},
		{"tmp", 0, 0, 0o1777}, {"tmp/root", 0, 0, 0o755}, {"tmp/other", 54321, 54322, 0o755},
	} {
		path := filepath.Join(dir, d.path)
		err = errors.Join(err, os.Mkdir(path, 0o700), os.Chown(path, d.uid, d.gid), syscall.Chmod(path, d.mode))
	}
	for link, target := range map[string]string{
		"var": "run", "run/up": "../tmp", "run/absolute": filepath.Join(dir, "run", "amavis"), "run/loop": "loop",
		"run/amavis/link": "../../run", "tmp/link": "../run", "tmp/planted": "../run",
	} {
		err = errors.Join(err, os.Symlink(target, filepath.Join(dir, link)))
	}
	if err = errors.Join(err, os.Lchown(filepath.Join(dir, "tmp/planted"), 54321, 54322)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestWhoseRights: in whose directories, and by which ways, root works as whom.
func TestWhoseRights(t *testing.T) {
	needRoot(t)
	dir := tree(t)
	user := &identity{accountUID, accountGID, []int{accountGID}}
	tests := []struct {
		path string
		want *identity
		code int // of a socket there
	}{
		{"run", nil, ExitOK},
		{"run/closed", nil, ExitOK},
		{"var", nil, ExitOK},                // as /var/run is
		{"run/../run/./up/..", nil, ExitOK}, // by two links of root's
		{"tmp/root", nil, ExitOK},
		{"tmp/link", nil, ExitOK},
		{"run/amavis", user, ExitOK},
		{"run/absolute", user, ExitOK},
		{"run/amavis/root", user, ExitNoPermission}, // the user could swap it
		{"run/amavis/link", user, ExitNoPermission},
		{"tmp/planted", user, ExitNoPermission},
		{"tmp", user, ExitOK},
		{"run/up", user, ExitOK},
		{"run/mta", &identity{uid: 54321, gid: accountGID}, ExitOK},
		{"run/wheel", nil, ExitOK},
		{"tmp/other", user, ExitNoPermission}, // anybody may have made it
		{"run/group", &identity{accountUID, accountGID, []int{54322, accountGID}}, ExitOK},
		{"run/loop", nil, ExitCannotCreate},
		{"run/missing", nil, ExitCannotCreate},
	}
	for _, test := range tests {
		path := filepath.Join(dir, "x") // joined by hand: the way is the point
		path = path[:len(path)-1] + test.path + "/s"
		p, err := place(path, socketOption, testUser())
		if test.code == ExitCannotCreate {
			wantError(t, err, test.code, filepath.Join(dir, test.path))
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		got := p.dir.actor
		if (got == nil) != (test.want == nil) || got != nil && (got.uid != test.want.uid || got.gid != test.want.gid || !slices.Equal(got.groups, test.want.groups)) {
			t.Errorf("%s: root works as %+v, want %+v", test.path, got, test.want)
		}
		p.dir.file.Close()
		checkMadeBy(t, path, test.want, test.code)
	}
	if got := identityFor(&unix.Stat_t{Uid: accountUID}, true, nil); got != nil {
		t.Errorf("without a user to become root works as %+v", got)
	}
}

// checkMadeBy makes a socket and a pid file, and looks whose they are.
func checkMadeBy(t *testing.T, path string, want *identity, code int) {
	t.Helper()
	cfg := localConfig(path)
	cfg.Account, cfg.GroupGID = testUser(), 12345
	listener, err := Listen(cfg)
	if ExitCode(err) != code {
		t.Errorf("%s: code %d (%v), want %d", path, ExitCode(err), err, code)
	}
	pidFile, err := WritePIDFile(filepath.Join(filepath.Dir(path), "pid"), testUser())
	if ExitCode(err) != code {
		t.Errorf("%s: pid file: code %d (%v), want %d", path, ExitCode(err), err, code)
	}
	if listener == nil || pidFile == nil {
		return
	}
	for _, name := range []string{listener.place.name, "pid"} {
		stat, err := listener.place.dir.stat(name)
		if err != nil || int(stat.Uid) != want.user() || name == "s" && stat.Gid != 12345 {
			t.Errorf("%s in %s: owner %d:%d, %v", name, path, stat.Uid, stat.Gid, err)
		}
	}
	if err := errors.Join(listener.Close(), pidFile.Remove()); err != nil {
		t.Error(err)
	}
	gone(t, path)
}

// TestRightsComeBack: after what root did as another, this thread is root's again, and
// meanwhile it had none of root's rights.
func TestRightsComeBack(t *testing.T) {
	needRoot(t)
	secret := filepath.Join(shortTempDir(t), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	user := &identity{accountUID, accountGID, []int{accountGID, 54322}}
	failure := errors.New("failed")
	err = user.do(func() error {
		if _, err := os.ReadFile(secret); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("another user's file can be read: %v", err)
		}
		if groups, err := unix.Getgroups(); err != nil || !slices.Equal(groups, user.groups) {
			t.Errorf("groups %v, %v", groups, err)
		}
		return failure
	})
	if err != failure {
		t.Errorf("got %v", err)
	}
	if _, err := os.ReadFile(secret); err != nil {
		t.Errorf("root cannot read it any more: %v", err)
	}
	if after, err := unix.Getgroups(); err != nil || !slices.Equal(after, before) {
		t.Errorf("groups %v, were %v, %v", after, before, err)
	}
	third := &identity{uid: thirdUID, gid: thirdGID}
	err = user.do(func() error {
		err := third.do(func() error {
			uid, gid := fileRights()
			if groups, err := unix.Getgroups(); err != nil || uid != thirdUID || gid != thirdGID || len(groups) > 0 {
				t.Errorf("as another one's other one: %d, %d, %v, %v", uid, gid, groups, err)
			}
			return failure
		})
		uid, gid := fileRights()
		if groups, err := unix.Getgroups(); err != nil || uid != user.uid || gid != user.gid || !slices.Equal(groups, user.groups) {
			t.Errorf("back as another: %d, %d, %v, %v", uid, gid, groups, err)
		}
		return err
	})
	if uid, gid := fileRights(); err != failure || uid != 0 || gid != 0 {
		t.Errorf("back as root: %d, %d, %v", uid, gid, err)
	}
	for _, uid := range []int{0, accountUID} { // a group that no setgroups(2) takes
		wrong := &identity{uid, accountGID, []int{-1}}
		if err := wrong.do(func() error { t.Error("done all the same"); return nil }); ExitCode(err) != ExitOS {
			t.Errorf("impossible rights: %v", err)
		}
	}
}
