package daemon

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	thirdUID = 54321 // neither root nor the account
	thirdGID = 54322
)

// Modes of the little daemon in which it dies with the locks of both names, or as many as
// it can get: as root at the start, or as the account at the end.
const (
	dieStarting = "die-starting"
	dieEnding   = "die-ending"
)

func dieLocked(listener *Listener, pidFile *PIDFile) {
	for _, p := range []*placed{listener.place, pidFile.place} {
		_, _ = p.lock(0)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// ending is a life of the little daemon in a directory: in which mode it starts, and what
// is done to it once it serves.
type ending struct {
	name, mode string
	signal     syscall.Signal
	beside     bool // another start is at work then
}

// startsAndStops is for each directory what comes after another there: each start must succeed,
// whatever the end before it has left.
var startsAndStops = []ending{
	{"TERM", "serve", syscall.SIGTERM, false},
	{"TERM again", "serve", syscall.SIGTERM, false},
	{"KILL", "serve", syscall.SIGKILL, false},
	{"KILL in the start", dieStarting, 0, false},
	{"KILL in the end", dieEnding, 0, false},
	{"TERM after them", "serve", syscall.SIGTERM, false},
	{"TERM beside another start", "serve", syscall.SIGTERM, true},
	{"TERM at last", "serve", syscall.SIGTERM, false},
}

// TestStartAndStop: in a directory of anybody's an end of any kind leaves nothing that
// keeps the next start from succeeding; and an orderly one no lock.
func TestStartAndStop(t *testing.T) {
	needRoot(t)
	const own, inGroup = "", accountGID
	tests := []struct {
		name     string
		uid, gid int
		mode     uint32
		ownsWay  bool   // the account owns the directory above
		left     string // by an orderly end, of what the account may not remove
		groups   []int
	}{
		{"root's", 0, 0, 0o755, false, "pid s", nil},
		{"root's, group of number 0", 0, 0, 0o775, false, "pid s", nil},
		{"root's, group of number 0 with the account", 0, 0, 0o775, false, own, []int{0}},
		{"root's, group of the account", 0, inGroup, 0o775, false, own, nil},
		{"root's, second group of the account", 0, thirdGID, 0o2770, false, own, []int{thirdGID}},
		{"root's, another group", 0, thirdGID, 0o775, false, "pid s", nil},
		{"root's, sticky", 0, 0, 0o1777, false, own, nil},
		{"the account's", accountUID, accountGID, 0o755, false, own, nil},
		{"the account's, by a way of his", accountUID, accountGID, 0o700, true, own, nil},
		{"a third one's", thirdUID, thirdGID, 0o755, false, "pid s", nil},
		{"a third one's, group of the account", thirdUID, inGroup, 0o770, false, own, nil},
		{"a third one's, group of the account, setgid", thirdUID, inGroup, 0o2775, false, own, nil},
		{"a third one's, second group of the account", thirdUID, thirdGID, 0o2775, false, own, []int{thirdGID}},
		{"a third one's, sticky", thirdUID, inGroup, 0o1775, false, "pid", nil}, // which is the third one's
		{"a third one's, by a way of the account's", thirdUID, inGroup, 0o775, true, own, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			top := shortTempDir(t)
			way, dir := filepath.Join(top, "way"), filepath.Join(top, "way", "d")
			err := errors.Join(os.Chmod(top, 0o755), os.Mkdir(way, 0o755), os.Mkdir(dir, 0o700),
				os.Chmod(way, 0o755), os.Chown(dir, test.uid, test.gid), syscall.Chmod(dir, test.mode))
			if test.ownsWay {
				err = errors.Join(err, os.Chown(way, accountUID, accountGID))
			}
			if err != nil {
				t.Fatal(err)
			}
			account := testUser()
			account.Groups = append(account.Groups, test.groups...)
			program := install(t, "amavis-milter")
			for _, end := range startsAndStops {
				if !end.run(t, program, dir, account) {
					return
				}
				if left := list(t, dir); end.signal == syscall.SIGTERM && left != test.left {
					t.Errorf("%s leaves %q, want %q", end.name, left, test.left)
				}
			}
		})
	}
}

// run starts the little daemon in a directory and ends it, and reports whether it has served.
func (e ending) run(t *testing.T, program, dir string, account *Account) (served bool) {
	t.Helper()
	text, err := json.Marshal(account)
	if err != nil {
		t.Fatal(err)
	}
	out := shortTempDir(t)
	if err := os.Chmod(out, 0o777); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	status := filepath.Join(out, "status")
	cmd := command(t, program, "-foreground", "-mode", e.mode, "-account", string(text),
		"-socket", filepath.Join(dir, "s"), "-pid-file", filepath.Join(dir, "pid"), "-status", status)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if e.signal != 0 {
		eventually(t, "the daemon serves or ends", func() bool {
			_, err := os.Stat(status)
			return err == nil || len(ended) > 0
		})
		if e.beside {
			defer besideStart(t, dir, account)()
		}
		_ = cmd.Process.Signal(e.signal)
	}
	err = <-ended
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if wantKilled := e.signal != syscall.SIGTERM; wantKilled != killed || !wantKilled && err != nil {
		t.Errorf("%s: %v: %s\nthe directory holds %s", e.name, err, said.String(), list(t, dir))
		return false
	}
	return true
}

// besideStart holds the locks of both names as root does who starts.
func besideStart(t *testing.T, dir string, account *Account) (unlock func()) {
	t.Helper()
	var unlocks []func()
	for _, name := range []string{"s", "pid"} {
		p, err := place(filepath.Join(dir, name), socketOption, account)
		if err != nil {
			t.Fatal(err)
		}
		unlock, err := p.lock(0)
		if err != nil {
			t.Fatal(err)
		}
		unlocks = append(unlocks, unlock)
	}
	return func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}
}
