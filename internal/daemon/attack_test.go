package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	attackTime   = 1500 * time.Millisecond // of each kind; DAEMON_TEST_ATTACK_TIME sets another
	attackRounds = 30                      // at least
	accountUID   = 23456
	accountGID   = 34567
	attackerUID  = 45678
	attackerGID  = 45679
)

func testUser() *Account {
	return &Account{Name: "somebody", UID: accountUID, GID: accountGID, Groups: []int{accountGID}}
}

// TestAttackers starts and stops, as root for another user, in directories in which a
// process of another user does all it can at the same moment. What belongs to others
// stays as it is, and we either serve or say why not, and never hang.
func TestAttackers(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name               string
		dirUID, dirGID     int
		mode               fs.FileMode
		attacker, itsGroup int
		ownsTheWay         bool // may rename the directory
	}{
		{"the user himself", accountUID, accountGID, 0o755, accountUID, accountGID, false},
		{"the user, who owns the way too", accountUID, accountGID, 0o755, accountUID, accountGID, true},
		{"who owns the way", accountUID, accountGID, 0o755, attackerUID, attackerGID, true},
		{"root's directory on another's way", 0, 0, 0o755, attackerUID, attackerGID, true},
		{"a member of the group", accountUID, attackerGID, 0o775, attackerUID, attackerGID, false},
		{"a member of the group of root's directory", 0, attackerGID, 0o775, attackerUID, attackerGID, false},
		{"everybody, sticky", 0, 0, 0o1777, attackerUID, attackerGID, false},
		{"the owner, neither root nor the user", attackerUID, attackerGID, 0o755, attackerUID, attackerGID, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := shortTempDir(t)
			way := filepath.Join(dir, "way")
			in := filepath.Join(way, "d")
			err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(way, 0o755), os.Mkdir(in, 0o700),
				os.Chmod(way, 0o755), // the umask is every test's while a socket is bound
				os.Chown(in, test.dirUID, test.dirGID), syscall.Chmod(in, uint32(test.mode)))
			if test.ownsTheWay {
				err = errors.Join(err, os.Chown(way, test.attacker, test.itsGroup))
			}
			if err != nil {
				t.Fatal(err)
			}
			before := makeVictims(t, filepath.Join(dir, "victims"))
			attacker := startStranger(t, attackVariable, dir, test.attacker, test.itsGroup)
			served, refused := startUnderAttack(t, in)
			moves := attacker.end(t)
			if err := os.RemoveAll(way); err != nil { // and with it all links to victims
				t.Fatal(err)
			}
			if after := snapshot(t, filepath.Join(dir, "victims")); after != before {
				t.Errorf("victims were:\n%sand are:\n%s", before, after)
			}
			t.Logf("served %d times, refused %d times: %v; moves that succeeded, by kind: %s", served, total(refused), refused, moves)
			if total(refused) == 0 {
				t.Errorf("that was no attack")
			}
		})
	}
}

// startUnderAttack starts and stops until the time is over.
func startUnderAttack(t *testing.T, dir string) (served int, refused map[int]int) {
	t.Helper()
	refused = map[int]int{}
	duration := attackTime
	if text := os.Getenv("DAEMON_TEST_ATTACK_TIME"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	enough := func() bool {
		return time.Since(begin) > duration && served+total(refused) >= attackRounds && total(refused) > 0
	}
	for !enough() && time.Since(begin) < duration+testPatience/2 {
		cfg := localConfig(filepath.Join(dir, "s"))
		cfg.Account, cfg.OwnerUID, cfg.GroupGID = testUser(), accountUID, 12345
		round := time.Now()
		listener, err := Listen(cfg)
		var pidFile *PIDFile
		if err == nil {
			pidFile, err = WritePIDFile(filepath.Join(dir, "pid"), testUser())
		}
		if err == nil {
			served++
		} else {
			refused[ExitCode(err)]++
			if code := ExitCode(err); code == ExitSoftware || code == ExitUsage || strings.Contains(err.Error(), "\n") {
				t.Errorf("code %d: %v", code, err)
			}
		}
		// Their errors say what the attacker has done to names that were ours.
		if listener != nil {
			_ = listener.Close()
		}
		_ = pidFile.Remove()
		if took := time.Since(round); took > 3*lockTimeout {
			t.Errorf("a round took %v", took)
		}
	}
	return served, refused
}

func total(counts map[int]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// makeVictims makes a directory of root's with files of several users under the names
// that we use, and returns how it looks.
func makeVictims(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, name := range append([]string{"shared", "passwd"}, attackedNames...) {
		path := filepath.Join(dir, name)
		if name == "s" {
			staleSocket(t, path)
		} else if err := os.WriteFile(path, []byte("17\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, []int{0, accountUID, 54321}[i%3], 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(filepath.Join(dir, "shared"), 0o666),
		os.Mkdir(filepath.Join(dir, "bare"), 0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "bare"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return snapshot(t, dir)
}

// snapshot describes all files in a directory, and itself.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		var content []byte
		if entry.Type().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&text, "%s inode %d links %d mode %o owner %d:%d changed %d %q\n",
			path, stat.Ino, stat.Nlink, stat.Mode, stat.Uid, stat.Gid, stat.Mtim.Nano(), content)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestNeverWider: a stranger looks on while we start 200 times: at no moment has
// anything wider rights than in the end, nor can he connect.
func TestNeverWider(t *testing.T) {
	needRoot(t)
	const starts = 200
	old := syscall.Umask(0) // which would hide what is too wide
	t.Cleanup(func() { syscall.Umask(old) })
	for name, account := range map[string]*Account{"root's directory": nil, "the user's directory": testUser()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := shortTempDir(t)
			err := os.Chmod(dir, 0o755)
			if account != nil {
				err = errors.Join(err, os.Chown(dir, account.UID, account.GID))
			}
			if err != nil {
				t.Fatal(err)
			}
			watcher := startStranger(t, watchVariable, dir, attackerUID, attackerGID)
			for range starts {
				cfg := localConfig(filepath.Join(dir, "s"))
				cfg.Account, cfg.OwnerUID, cfg.GroupGID = account, accountUID, 12345
				listener := mustListen(t, cfg)
				pidFile, err := WritePIDFile(filepath.Join(dir, "pid"), account)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(listener.Close(), pidFile.Remove()); err != nil {
					t.Fatal(err)
				}
			}
			said := watcher.end(t)
			if strings.Contains(said, "WIDE") || !strings.Contains(said, "s:") || !strings.Contains(said, " pid:") {
				t.Errorf("the watcher says: %.1000s", said)
			}
			t.Logf("looks: %s", said)
		})
	}
}

// TestOnlyOursIsGivenAway: what somebody has put in the place of the socket that we have
// bound gets neither an owner nor a mode.
func TestOnlyOursIsGivenAway(t *testing.T) {
	needRoot(t)
	swaps := map[string]func(path, other string) error{
		"a socket of root's":    func(path, other string) error { return os.Rename(other, path) },
		"a link to it":          func(path, other string) error { return os.Link(other, path) },
		"a symbolic link to it": func(path, other string) error { return os.Symlink(other, path) },
		"a file":                func(path, _ string) error { return os.WriteFile(path, nil, 0o600) },
		"nothing":               func(string, string) error { return nil },
	}
	for name, swap := range swaps {
		dir := shortTempDir(t)
		path, other := filepath.Join(dir, "s"), filepath.Join(dir, "other")
		staleSocket(t, other)
		p, err := place(path, socketOption, nil)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(bindWithMode(fd, path, 0o660), os.Remove(path), swap(path, other)); err != nil {
			t.Fatal(err)
		}
		node, err := p.pin(fd)
		if err == nil {
			unix.Close(node)
			t.Errorf("%s is taken for our socket", name)
		} else if ExitCode(err) != ExitOS {
			t.Errorf("%s: code %d: %v", name, ExitCode(err), err)
		}
	}
	// Without CAP_NET_ADMIN the name has to do; a second name is one too many.
	path := filepath.Join(shortTempDir(t), "s")
	staleSocket(t, path)
	p, err := place(path, socketOption, nil)
	if err != nil {
		t.Fatal(err)
	}
	for links, want := range []int{ExitOK, ExitOS} {
		if links > 0 {
			if err := os.Link(path, path+"2"); err != nil {
				t.Fatal(err)
			}
		}
		stat, err := p.dir.stat("s")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.checkMade(stat); ExitCode(err) != want {
			t.Errorf("%d links: %v", stat.Nlink, err)
		}
	}
}

// TestReadersLockNobodyOut: whoever can read the directory and the pid file may lock
// them, and that is no matter.
func TestReadersLockNobodyOut(t *testing.T) {
	dir := shortTempDir(t)
	path := filepath.Join(dir, "pid")
	if err := os.WriteFile(path, []byte("4194304999\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, path} {
		reader, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		err = unix.Flock(int(reader.Fd()), unix.LOCK_EX)
		if name == path {
			err = errors.Join(err, unix.FcntlFlock(reader.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	listener := mustListen(t, localConfig(filepath.Join(dir, "s")))
	pidFile := mustWritePID(t, path)
	wantOurPID(t, path)
	if err := errors.Join(listener.Close(), pidFile.Remove()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > lockTimeout/2 {
		t.Errorf("it took %v", took)
	}
}

// TestNotAPIDFileAnyMore: a FIFO that has come into the place of a pid file since we looked, and
// that somebody holds open and locked, keeps nobody waiting.
func TestNotAPIDFileAnyMore(t *testing.T) {
	path := filepath.Join(shortTempDir(t), "pid")
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	holder, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	p, err := place(path, pidFileOption, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, p.checkOpened(), ExitCannotCreate, "is a FIFO, not a pid file")
}
