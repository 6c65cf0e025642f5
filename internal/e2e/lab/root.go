package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// devices are the nodes that the servers use: name, major, minor.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

// prepareRoot mounts a memory file system on mount, in it the unpacked packages
// below a writable layer, with proc, dev and the source tree, and makes that the
// root of this process. It must run in a mount namespace of its own.
func prepareRoot(mount, packages, module string) error {
	// Nothing of what follows may be seen outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting a memory file system: %w", err)
	}
	root := filepath.Join(mount, "root")
	for _, dir := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(mount, dir), 0o755); err != nil {
			return fmt.Errorf("making the private root: %w", err)
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", packages, mount, mount)
	if err := syscall.Mount("overlay", root, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mounting overlayfs: %w", err)
	}
	for _, dir := range []string{"proc", "dev", "run", "tmp", module} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return fmt.Errorf("making the private root: %w", err)
		}
	}
	if err := syscall.Mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting proc: %w", err)
	}
	if err := prepareDev(filepath.Join(root, "dev")); err != nil {
		return err
	}
	tree := filepath.Join(root, module)
	if err := syscall.Mount(module, tree, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the source tree: %w", err)
	}
	if err := syscall.Mount("", tree, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mounting the source tree read-only: %w", err)
	}
	if err := syscall.Chroot(root); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	return os.Chdir("/")
}

func prepareDev(dir string) error {
	syscall.Umask(0)
	defer syscall.Umask(0o022)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mounting a private /dev: %w", err)
	}
	for _, d := range devices {
		node := filepath.Join(dir, d.name)
		if err := unix.Mknod(node, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("making %s: %w", node, err)
		}
	}
	for link, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(dir, "shm"), 0o1777)
}
