package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// installTimeout bounds the download and unpacking of all packages; some 75 MB
// are fetched.
const installTimeout = 10 * time.Minute

// rootPackages are what the lab's root file system is made of, with all they
// depend on: a minimal user land and the servers, then Postfix, which will not be
// installed beside another MTA. apt resolves each set against an empty machine, so
// that the result does not depend on what is installed here. What both MTAs bring,
// /usr/sbin/sendmail and the like, is Postfix's: sendmail's package leaves these
// names to Debian's alternatives.
var rootPackages = [][]string{
	{
		"base-files", "bash", "coreutils", "dash", "sed", "grep", "findutils", "gzip",
		"tar", "debianutils", "diffutils", "dpkg", "hostname", "procps", "util-linux", "login", "passwd",
		"mawk", "libc-bin", "lsb-base", "sysvinit-utils",
		"amavisd-new", "spamassassin", "clamav-daemon", "libmail-dkim-perl",
		"sendmail-bin", "sendmail-cf", "sensible-mda", "m4",
		"sasl2-bin", "libsasl2-modules",
		"amavisd-milter", // the program that ours is compared with
		"miltertest",     // OpenDKIM's MTA that a Lua script drives
	},
	{"postfix"},
}

// Install makes the lab's root file system below cache, unless it is there
// already, and returns its path. Concurrent calls wait for each other. What it
// does is told on progress; nothing when there is nothing to do.
func Install(ctx context.Context, cache string, progress io.Writer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	for _, dir := range []string{"lists/partial", "archives/partial", "none/partial", "state"} {
		if err := os.MkdirAll(filepath.Join(cache, dir), 0o755); err != nil {
			return "", fmt.Errorf("making the package cache: %w", err)
		}
	}
	unlock, err := lockFile(filepath.Join(cache, "lock"))
	if err != nil {
		return "", fmt.Errorf("locking the package cache: %w", err)
	}
	defer unlock()

	root := filepath.Join(cache, "root")
	stamp := filepath.Join(cache, "root.packages")
	want := fmt.Sprintln(rootPackages)
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return root, nil
	}
	a := &apt{cache: cache}
	fmt.Fprintf(progress, "lab: fetching Debian's packages into %s (once; some 75 MB, nothing is installed)\n", cache)
	debs, err := a.downloadSets(ctx, rootPackages)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(progress, "lab: unpacking %d packages\n", len(debs))
	// Broken off from here on, it is the root of no list, also not of the one before.
	if err := os.Remove(stamp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("forgetting what was unpacked: %w", err)
	}
	if err := os.RemoveAll(root); err != nil {
		return "", fmt.Errorf("removing the old root: %w", err)
	}
	if err := unpack(ctx, debs, root); err != nil {
		return "", err
	}
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		return "", fmt.Errorf("noting what is unpacked: %w", err)
	}
	return root, nil
}

// apt runs apt-get with its lists, archives and idea of what is installed in the
// cache, so that it neither reads nor changes the state of the machine's own.
type apt struct{ cache string }

func (a *apt) get(ctx context.Context, args ...string) ([]byte, error) {
	status := filepath.Join(a.cache, "status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, fmt.Errorf("writing an empty package status: %w", err)
	}
	options := []string{
		"-q", "-y",
		"-o", "Dir::State=" + filepath.Join(a.cache, "state"),
		"-o", "Dir::State::Lists=" + filepath.Join(a.cache, "lists"),
		"-o", "Dir::State::status=" + status,
		"-o", "Dir::Cache=" + a.cache,
		"-o", "Dir::Cache::archives=" + filepath.Join(a.cache, "archives"),
		"-o", "APT::Install-Recommends=false",
		"-o", "APT::Sandbox::User=root",
		"-o", "Debug::NoLocking=true",
		"-o", "Acquire::Retries=3",
	}
	cmd := exec.CommandContext(ctx, "apt-get", append(options, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLines(stderr.String(), 5))
	}
	return out, nil
}

// downloadSets fetches sets of packages; it returns their files, each once.
func (a *apt) downloadSets(ctx context.Context, sets [][]string) ([]string, error) {
	// A third source of the machine that does not answer must not stop us: what
	// matters is whether the packages can be found afterwards.
	_, updateErr := a.get(ctx, "update")
	var debs []string
	for _, set := range sets {
		files, err := a.download(ctx, set)
		if err != nil {
			return nil, errors.Join(err, updateErr)
		}
		for _, file := range files {
			if !slices.Contains(debs, file) {
				debs = append(debs, file)
			}
		}
	}
	return debs, nil
}

// download fetches packages and what they depend on; it returns the files.
func (a *apt) download(ctx context.Context, packages []string) ([]string, error) {
	// apt names only what it has not got yet: have it look at an empty folder.
	nothing := "Dir::Cache::archives=" + filepath.Join(a.cache, "none")
	uris, err := a.get(ctx, append([]string{"install", "--print-uris", "-o", nothing}, packages...)...)
	if err != nil {
		return nil, err
	}
	if _, err := a.get(ctx, append([]string{"install", "--download-only"}, packages...)...); err != nil {
		return nil, err
	}
	var debs []string
	for line := range strings.Lines(string(uris)) {
		// 'URI' file-name size checksum
		if fields := strings.Fields(line); strings.HasPrefix(line, "'") && len(fields) >= 2 {
			debs = append(debs, filepath.Join(a.cache, "archives", fields[1]))
		}
	}
	if len(debs) < len(packages) {
		return nil, fmt.Errorf("apt-get named %d files for %d packages", len(debs), len(packages))
	}
	return debs, nil
}

// unpack makes a root file system with merged /usr, as every Debian since 12 has,
// of package files, several at a time.
func unpack(ctx context.Context, debs []string, root string) error {
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", dir), 0o755); err != nil {
			return fmt.Errorf("making the root: %w", err)
		}
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			return fmt.Errorf("making the root: %w", err)
		}
	}
	jobs := make(chan string)
	errs := make([]error, runtime.NumCPU())
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for deb := range jobs {
				errs[i] = errors.Join(errs[i], unpackOne(ctx, deb, root))
			}
		})
	}
	for _, deb := range debs {
		jobs <- deb
	}
	close(jobs)
	wg.Wait()
	return errors.Join(errs...)
}

// unpackOne does what "dpkg-deb -x" does, but leaves the links of merged /usr
// alone.
func unpackOne(ctx context.Context, deb, root string) error {
	pack := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	tar := exec.CommandContext(ctx, "tar", "-x", "-p", "--keep-directory-symlink", "--warning=no-timestamp", "-C", root)
	var stderr bytes.Buffer
	pack.Stderr, tar.Stderr = &stderr, &stderr
	pipe, err := pack.StdoutPipe()
	if err != nil {
		return err
	}
	tar.Stdin = pipe
	if err := pack.Start(); err != nil {
		return fmt.Errorf("unpacking %s: %w", filepath.Base(deb), err)
	}
	tarErr := tar.Run()
	if err := errors.Join(tarErr, pack.Wait()); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", filepath.Base(deb), err, lastLines(stderr.String(), 3))
	}
	return nil
}

// lockFile takes an exclusive lock and waits for it; unlock gives it back.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lastLines returns the last n lines of text that are not empty, on one line.
func lastLines(text string, n int) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
