package spool

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Root may read and write everything, and so learns nothing about permissions.
// This runs the tests of this package once more as somebody who may not.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Getenv("SPOOL_TEST_ORDINARY") != "" || os.Geteuid() != 0 {
		return // we are ordinary already
	}
	top, err := os.MkdirTemp("", "spooltest")
	must(t, err)
	defer os.RemoveAll(top)
	must(t, os.Chmod(top, 0o755))
	binary, temp := filepath.Join(top, "spool.test"), filepath.Join(top, "tmp")
	copyFile(t, os.Args[0], binary)
	must(t, os.Mkdir(temp, 0o755))
	must(t, os.Chown(temp, strangerUID, strangerGID))

	child := exec.Command(binary, "-test.v", "-test.run=^Test")
	child.Dir = temp
	child.Env = append(os.Environ(), "SPOOL_TEST_ORDINARY=1", "TMPDIR="+temp)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangerUID, Gid: strangerGID}}
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("as uid %d: %v\n%s", strangerUID, err, out)
	}
	for _, name := range []string{"TestOpenWithoutPermission", "TestRemoveStrangersDirectory", "TestRemoveLeftovers/no_permissions"} {
		if !strings.Contains(string(out), "--- PASS: "+name) {
			t.Errorf("%s did not run as uid %d:\n%s", name, strangerUID, out)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
}
