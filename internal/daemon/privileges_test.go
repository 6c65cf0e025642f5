package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// account is one that every system has, and is no root.
const account = "daemon"

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("changing users needs root")
	}
}

func TestDropPrivileges(t *testing.T) {
	needRoot(t)
	want, err := LookupAccount(account)
	if err != nil {
		t.Skipf("needs the account %s: %v", account, err)
	}
	for _, owned := range []bool{true, false} {
		t.Run(fmt.Sprintf("directory owned %v", owned), func(t *testing.T) {
			dir := shortTempDir(t)
			run := filepath.Join(dir, "run")
			if err := errors.Join(os.Chmod(dir, 0o777), os.Mkdir(run, 0o755)); err != nil {
				t.Fatal(err)
			}
			if owned {
				if err := os.Chown(run, want.UID, want.GID); err != nil {
					t.Fatal(err)
				}
			}
			cmd := command(t, install(t, "amavis-milter"), "-user", account)
			s := startDaemonIn(t, cmd, run, filepath.Join(dir, "status"))
			if len(s.Tasks) < 5 {
				t.Errorf("only %d threads were looked at", len(s.Tasks))
			}
			id := fmt.Sprintf("Uid: %d %[1]d %[1]d %[1]d; Gid: %d %[2]d %[2]d %[2]d; Groups:", want.UID, want.GID)
			for _, task := range s.Tasks {
				if !strings.HasPrefix(task, id) || !strings.HasSuffix(task, "CapPrm: 0000000000000000") {
					t.Errorf("a thread has %q, want %q", task, id)
				}
			}
			if s.ReadsRoot || s.Regained {
				t.Errorf("reads root's files: %v, becomes root again: %v", s.ReadsRoot, s.Regained)
			}
			if s.CoreLimit != "0 0 bytes" {
				t.Errorf("core limit %q, want 0 0", s.CoreLimit)
			}
			// The files in /proc of a process that cannot dump belong to root.
			info, err := os.Stat(fmt.Sprintf("/proc/%d/maps", s.PID))
			if err != nil {
				t.Fatal(err)
			}
			if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != 0 {
				t.Errorf("the process can dump core: %+v", info.Sys())
			}
			endDaemon(t, s.PID, syscall.SIGTERM)
			if owned {
				gone(t, s.socket)
				gone(t, s.pidFile)
				return
			}
			// What cannot be removed names nobody, and does no harm to the next start.
			if text, err := os.ReadFile(s.pidFile); err != nil || len(text) > 0 {
				t.Errorf("the pid file holds %q, %v", text, err)
			}
			mustListen(t, localConfig(s.socket))
			if err := mustWritePID(t, s.pidFile).Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDropTakesAllGroups runs in a process of its own: there is no way back.
func TestDropTakesAllGroups(t *testing.T) {
	needRoot(t)
	const variable = "DAEMON_TEST_DROP"
	if os.Getenv(variable) != "" {
		err := DropPrivileges(&Account{Name: "somebody", UID: 23456, GID: 34567, Groups: []int{34567, 45678, 56789}})
		groups, groupsErr := os.Getgroups()
		if err := errors.Join(err, groupsErr); err != nil {
			t.Fatal(err)
		}
		slices.Sort(groups)
		if !slices.Equal(groups, []int{34567, 45678, 56789}) {
			t.Errorf("groups %v", groups)
		}
		if err := DropPrivileges(&Account{Name: "another", UID: 23457}); ExitCode(err) != ExitNoPermission {
			t.Errorf("a second drop: %v", err)
		}
		if err := DropPrivileges(&Account{Name: "somebody", UID: 23456}); err != nil {
			t.Errorf("a drop to ourselves: %v", err)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestDropTakesAllGroups$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDropToRoot(t *testing.T) {
	wantError(t, DropPrivileges(&Account{Name: "toor", UID: 0}), ExitConfiguration, "toor")
}

func TestLookup(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{self.Username, self.Uid} {
		found, err := LookupAccount(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if found.Name != self.Username || found.UID != os.Getuid() || !slices.Contains(found.Groups, found.GID) {
			t.Errorf("%s: %+v", name, found)
		}
		if uid, err := LookupUID(name); err != nil || uid != os.Getuid() {
			t.Errorf("LookupUID(%s) = %d, %v", name, uid, err)
		}
	}
	group, err := user.LookupGroupId(self.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if gid, err := LookupGID(group.Name); err != nil || fmt.Sprint(gid) != self.Gid {
		t.Errorf("LookupGID(%s) = %d, %v", group.Name, gid, err)
	}
	if gid, err := LookupGID("4294967294"); err != nil || gid != maxID {
		t.Errorf("the largest group: %d, %v", gid, err)
	}
	for _, wrong := range []string{"", "no-such-name", "-1", "4294967295", "4294967296", "1x"} {
		_, err := LookupAccount(wrong)
		wantError(t, err, ExitConfiguration, "no user", fmt.Sprintf("%q", wrong))
		_, err = LookupUID(wrong)
		wantError(t, err, ExitConfiguration, "no user", fmt.Sprintf("%q", wrong))
		_, err = LookupGID(wrong)
		wantError(t, err, ExitConfiguration, "no group", fmt.Sprintf("%q", wrong))
	}
}

// TestMissingPermission: each error names the directory and the right. It runs as
// another user, in a process of its own.
func TestMissingPermission(t *testing.T) {
	needRoot(t)
	const variable = "DAEMON_TEST_PERMISSION"
	if dir := os.Getenv(variable); dir != "" {
		if err := DropPrivileges(&Account{Name: "somebody", UID: 23456, GID: 34567, Groups: []int{34567}}); err != nil {
			t.Fatal(err)
		}
		checkMissingPermissions(t, dir)
		return
	}
	dir := shortTempDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(in("closed"), 0o700), os.Mkdir(in("closed/inner"), 0o777),
		os.Mkdir(in("unreadable"), 0o711), os.Mkdir(in("own"), 0o700), os.Chown(in("own"), 23456, 34567),
		os.Mkdir(in("sticky"), 0o700), os.Chmod(in("sticky"), 0o1777|os.ModeSticky),
		os.WriteFile(in("sticky/pid"), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := net.Listen("unix", in("own/foreign"))
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	if err := os.Chmod(in("own/foreign"), 0o600); err != nil {
		t.Fatal(err)
	}
	staleSocket(t, in("sticky/s"))
	if err := os.Chmod(in("sticky/s"), 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestMissingPermission$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"="+dir)
	cmd.Dir = "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func checkMissingPermissions(t *testing.T, dir string) {
	in := func(name string) string { return filepath.Join(dir, name) }
	const me = "user 23456 cannot "
	group := localConfig(in("own/s"))
	group.GroupGID = 45678
	owner := localConfig(in("own/s"))
	owner.OwnerUID = 45678
	both := localConfig(in("own/s"))
	both.OwnerUID, both.GroupGID = 23456, 45678
	tests := []struct {
		cfg   ListenConfig
		parts []string
	}{
		{localConfig(in("s")), []string{me + "write to directory " + dir + " (owner root:root, mode 0755)", "chown or chmod", "--socket"}},
		{localConfig(in("closed/s")), []string{me + "enter directory " + in("closed") + " (owner root:root, mode 0700)"}},
		{localConfig(in("closed/inner/s")), []string{me + "enter directory " + in("closed") + " (owner root:root, mode 0700)"}},
		{localConfig(in("unreadable/s")), []string{me + "read directory " + in("unreadable") + " (owner root:root, mode 0711)"}},
		{localConfig(in("own/foreign")), []string{me + "tell whether anybody listens on socket " + in("own/foreign") + " (owner root:root, mode 0600)"}},
		{localConfig(in("sticky/s")), []string{me + "remove the dead socket " + in("sticky/s") + " (owner root:root, mode 0666)"}},
		{group, []string{me + "give socket " + in("own/s") + " to group 45678", "usermod -aG 45678 23456"}},
		{owner, []string{me + "give socket " + in("own/s") + " to user 45678", "only root can"}},
		{both, []string{me + "give socket " + in("own/s") + " to group 45678"}},
		{ListenConfig{Network: "tcp", Address: "127.0.0.1:1"}, []string{me + "listen on 127.0.0.1:1", "above 1023"}},
	}
	for _, test := range tests {
		listener, err := Listen(test.cfg)
		if err == nil {
			listener.Close()
			if test.cfg.Network == "tcp" {
				continue // some hosts let anybody listen anywhere (ip_unprivileged_port_start)
			}
		}
		wantError(t, err, ExitNoPermission, test.parts...)
	}
	gone(t, in("own/s"))
	for path, part := range map[string]string{
		in("pid"):        me + "write to directory " + dir,
		in("closed/pid"): me + "enter directory " + in("closed"),
		in("sticky/pid"): me + "write pid file " + in("sticky/pid"),
	} {
		_, err := WritePIDFile(path, nil)
		wantError(t, err, ExitNoPermission, part, "--pid-file")
	}
	if got := list(t, in("sticky")); got != "pid s" {
		t.Errorf("the sticky directory holds %s", got)
	}
}

// TestCapabilitiesAreLeft: who starts us so that root's capabilities outlive the change
// of user is told so, and nothing serves.
func TestCapabilitiesAreLeft(t *testing.T) {
	needRoot(t)
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("setpriv is missing (Debian package util-linux)")
	}
	dir := shortTempDir(t)
	cmd := command(t, "setpriv", "--securebits", "+no_setuid_fixup", install(t, "amavis-milter"),
		"-foreground", "-user", account, "-socket", filepath.Join(dir, "s"))
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != ExitOS || !strings.Contains(string(out), "the rights of root can be regained") {
		t.Errorf("exit code %d, %s", code, out)
	}
}
