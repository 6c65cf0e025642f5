package daemon

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// attackVariable turns the test binary into an attacker, or a watcher; its value is
// the directory that it works in.
const (
	attackVariable = "DAEMON_TEST_ATTACK"
	watchVariable  = "DAEMON_TEST_WATCH"
)

// attackedNames are all names that a start uses in a directory.
var attackedNames = []string{"s", "pid", ".s.lock", ".pid.lock", ".pid.new"}

// stranger is a process of another user.
type stranger struct {
	cmd    *exec.Cmd
	input  io.Closer // whose end ends it
	output strings.Builder
}

// startStranger runs the test binary as another user. He may not be able to enter the
// directory that it was built in, so that he gets it as an open file.
func startStranger(t *testing.T, variable, value string, uid, gid int) *stranger {
	t.Helper()
	binary, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	s := &stranger{cmd: command(t, fmt.Sprintf("/proc/self/fd/%d", firstExtraFD))}
	s.cmd.ExtraFiles = []*os.File{binary}
	s.cmd.Env = append(s.cmd.Env, variable+"="+value)
	s.cmd.Dir = "/"
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if s.input, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	return s
}

// end ends the stranger and returns what it has said.
func (s *stranger) end(t *testing.T) string {
	t.Helper()
	s.input.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("a stranger ended with %v: %s", err, s.output.String())
	}
	return s.output.String()
}

// untilInputEnds closes the channel when the test has had enough.
func untilInputEnds() <-chan struct{} {
	done := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(done) }()
	return done
}

// attack puts things into the place of our names until its input ends. In dir/victims
// lie files of others, dir/way/d is where we start.
func attack(dir string) int {
	done := untilInputEnds()
	victims, way := filepath.Join(dir, "victims"), filepath.Join(dir, "way")
	if err := os.Chdir(way); err != nil { // names shall be short
		fmt.Println(err)
		return 1
	}
	var worked [12]int
	for {
		select {
		case <-done:
			fmt.Println(worked)
			return 0
		default:
		}
		move := rand.IntN(len(worked))
		if attackOnce(move, victims, filepath.Join("d", attackedNames[rand.IntN(len(attackedNames))])) == nil {
			worked[move]++
		}
		if rand.IntN(2) == 0 { // or all is blocked for good
			for _, name := range attackedNames {
				_ = unix.Unlink(filepath.Join("d", name))
				_ = unix.Rmdir(filepath.Join("d", name))
			}
		}
	}
}

func attackOnce(move int, victims, name string) error {
	victim := filepath.Join(victims, filepath.Base(name))
	if move >= 3 && move <= 9 && rand.IntN(2) == 0 {
		_ = unix.Unlink(name)
		_ = unix.Rmdir(name)
	}
	switch move {
	case 0:
		return unix.Unlink(name)
	case 1:
		return unix.Rename(name, filepath.Join("d", attackedNames[rand.IntN(len(attackedNames))]))
	case 2:
		return unix.Rmdir(name)
	case 3:
		return unix.Symlink(victim, name)
	case 4:
		return unix.Symlink(filepath.Join(victims, "new"), name)
	case 5: // the kernel lets us link what we may write
		return unix.Link(filepath.Join(victims, "shared"), name)
	case 6:
		return unix.Mkfifo(name, 0o666)
	case 7:
		return unix.Mkdir(name, 0o777)
	case 8:
		return writeNew(name, "1\n")
	case 9:
		return bindStranger(name)
	case 10: // the directory itself is swapped for the victims', and back
		if err := unix.Rename("d", "d.old"); err != nil {
			return err
		}
		target := victims
		if rand.IntN(2) == 0 {
			target = filepath.Join(victims, "bare") // what is made there shows in its time
		}
		err := unix.Symlink(target, "d")
		for range rand.IntN(2000) {
			_ = unix.Access("d", unix.F_OK)
		}
		_ = unix.Unlink("d")
		_ = unix.Rename("d.old", "d")
		return err
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
}

// writeNew writes a file of the stranger's own, through no link.
func writeNew(name, text string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(text))
	return err
}

// bindStranger leaves a socket on which nobody listens.
func bindStranger(name string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrUnix{Name: name})
}

// watch looks at our names until its input ends, and says what is open wider than it is
// meant to be in the end.
func watch(dir string) int {
	done := untilInputEnds()
	widest := map[string]uint32{"s": 0o660, "pid": 0o644, ".pid.new": 0o644, ".s.lock": 0o600, ".pid.lock": 0o600}
	seen := map[string]int{}
	for {
		select {
		case <-done:
			fmt.Println(seen)
			return 0
		default:
		}
		for name, mode := range widest {
			var stat unix.Stat_t
			if unix.Lstat(filepath.Join(dir, name), &stat) != nil {
				continue
			}
			seen[name]++
			if extra := stat.Mode & permissionBits &^ mode; extra != 0 {
				fmt.Printf("WIDE: %s has mode %04o\n", name, stat.Mode&permissionBits)
			}
		}
		if conn, err := net.Dial("unix", filepath.Join(dir, "s")); err == nil {
			conn.Close()
			fmt.Println("WIDE: a stranger could connect")
		}
		if file, err := os.OpenFile(filepath.Join(dir, "pid"), os.O_WRONLY, 0); err == nil {
			file.Close()
			fmt.Println("WIDE: a stranger could write the pid file")
		}
	}
}
