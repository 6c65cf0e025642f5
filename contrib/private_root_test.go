package contrib_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Tests that run scripts do so as root, with a root file system and a process
// namespace of their own: see testdata/private-root. Each runs twice, outside and
// then inside.

// insideVariable tells a test that it is inside.
const insideVariable = "CONTRIB_TEST_INSIDE"

// inside reports whether the test runs in the private root. If not, it runs the
// test there: files maps paths there to what they hold.
func inside(t *testing.T, files map[string]string) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return true
	}
	t.Parallel()
	program := buildProgram(t)
	dir := t.TempDir()
	root, overlay := filepath.Join(dir, "root"), filepath.Join(dir, "files")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for to, from := range map[string]string{"/usr/sbin/amavis-milter": program, "/usr/sbin/amavisd": "testdata/amavisd", "/contrib.test": self} {
		install(t, filepath.Join(overlay, to), read(t, from))
	}
	for to, text := range files {
		install(t, filepath.Join(overlay, to), text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"testdata/private-root", root, overlay, "/contrib.test", "-test.run", "^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), insideVariable+"=1", "GORACE=atexit_sleep_ms=0", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("inside the private root: %v\n%s", err, out)
	}
	return false
}

func install(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// needPrivateRoot skips the test where the host does not let us have one.
func needPrivateRoot(t *testing.T) {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, for accounts and namespaces")
	}
	for program, packageName := range map[string]string{"unshare": "util-linux", "su": "util-linux", "setpriv": "util-linux", "pkill": "procps"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s (Debian package %s)", program, packageName)
		}
	}
	probe := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"sh", "-c", "mount -t tmpfs probe /mnt && mount -t proc proc /proc")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("needs mount and process namespaces: %v: %s", err, out)
	}
}

var build struct {
	once sync.Once
	path string
	err  error
}

// buildProgram builds amavis-milter once.
func buildProgram(t *testing.T) string {
	t.Helper()
	build.once.Do(func() {
		dir, err := os.MkdirTemp("", "contrib")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "amavis-milter")
		cmd := exec.Command("go", "build", "-o", build.path, "../cmd/amavis-milter")
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if build.path != "" {
		os.RemoveAll(filepath.Dir(build.path))
	}
	os.Exit(code)
}
