package contrib_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// makeInstall runs "make install" into a directory, with a program that is there
// already, so that nothing is built.
func makeInstall(t *testing.T, dir string, variables ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("make"); err != nil {
		t.Skip("needs make (Debian package make)")
	}
	tree := t.TempDir() // make writes to bin/
	for _, name := range []string{"Makefile", "docs/amavis-milter.8", "contrib/" + script, "contrib/sysconfig/amavis"} {
		install(t, filepath.Join(tree, name), read(t, filepath.Join("..", name)))
	}
	install(t, filepath.Join(tree, "bin", "amavis-milter"), "#!/bin/sh\necho \"$0\"\n")
	cmd := exec.Command("make", append([]string{"-C", tree, "install", "GO=true", "VERSION=test", "DESTDIR=" + dir}, variables...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// installed lists what lies below a directory, but for directories; links with
// where they lead.
func installed(t *testing.T, dir string) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if target, err := os.Readlink(path); err == nil {
			name += "->" + target
		}
		found = append(found, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, " ")
}

func TestInstall(t *testing.T) {
	const plain = "usr/sbin/amavis-milter usr/share/man/man8/amavis-milter.8"
	const both = "usr/sbin/amavis-milter usr/sbin/amavisd-milter->amavis-milter " +
		"usr/share/man/man8/amavis-milter.8 usr/share/man/man8/amavisd-milter.8->amavis-milter.8"
	dir := t.TempDir()
	for _, test := range []struct {
		variables []string
		want      string
	}{
		{nil, plain},
		{[]string{"AMAVISD_MILTER=no"}, plain},
		{[]string{"AMAVISD_MILTER=yes"}, both},
		{[]string{"AMAVISD_MILTER=yes"}, both}, // once more
		{nil, both},                            // not taken back
	} {
		if out, err := makeInstall(t, dir, test.variables...); err != nil {
			t.Fatalf("%v: %v\n%s", test.variables, err, out)
		}
		if got := installed(t, dir); got != test.want {
			t.Errorf("%v: got %s\nwant %s", test.variables, got, test.want)
		}
	}
	// The link and its page lead to ours, wherever the root comes to lie.
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(moved, "usr/sbin/amavisd-milter")).Output(); err != nil || !strings.HasSuffix(string(out), "/amavisd-milter\n") {
		t.Errorf("%q, %v", out, err)
	}
	if !strings.Contains(read(t, filepath.Join(moved, "usr/share/man/man8/amavisd-milter.8")), ".Nm amavisd-milter\n") {
		t.Error("the manual page does not know the name")
	}
}

// TestInstallKeepsOthers: an amavisd-milter that is not ours is not touched, and
// nothing is half installed.
func TestInstallKeepsOthers(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"a program":      func(path string) error { return os.WriteFile(path, []byte("the real one"), 0o755) },
		"another's link": func(path string) error { return os.Symlink("/opt/amavisd-milter", path) },
		"a directory":    func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o755) },
	} {
		dir := t.TempDir()
		sbin := filepath.Join(dir, "opt", "sbin")
		if err := os.MkdirAll(sbin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := put(filepath.Join(sbin, "amavisd-milter")); err != nil {
			t.Fatal(err)
		}
		before := installed(t, dir)
		out, err := makeInstall(t, dir, "AMAVISD_MILTER=yes", "SBINDIR=/opt/sbin")
		if err == nil || !strings.Contains(out, sbin+"/amavisd-milter is another program: rename it first") ||
			!strings.Contains(out, "\n    dpkg-divert --local --rename --add /opt/sbin/amavisd-milter\n") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if after := installed(t, dir); after != before {
			t.Errorf("%s: there was %q, and is %q", name, before, after)
		}
		// Without the wish for that name it is nobody's business.
		if out, err := makeInstall(t, dir, "SBINDIR=/opt/sbin"); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestInstallKeepsOthersPage: the same for the manual page of another program.
func TestInstallKeepsOthersPage(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "usr/share/man/man8/amavisd-milter.8")
	if err := os.MkdirAll(filepath.Dir(page), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(page, []byte("the real one"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := installed(t, dir)
	out, err := makeInstall(t, dir, "AMAVISD_MILTER=yes")
	if err == nil || !strings.Contains(out, page+" is the page of another program: rename it first. Nothing was installed.") {
		t.Errorf("%v\n%s", err, out)
	}
	if after := installed(t, dir); after != before {
		t.Errorf("there was %q, and is %q", before, after)
	}
}

// TestInstallOverOwnLinks: links of ours are made anew, absolute ones included.
func TestInstallOverOwnLinks(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "usr/sbin/amavisd-milter")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/sbin/amavis-milter", link); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, err := makeInstall(t, dir, "AMAVISD_MILTER=yes"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if target, err := os.Readlink(link); err != nil || target != "amavis-milter" {
			t.Errorf("the link leads to %q, %v", target, err)
		}
	}
}
