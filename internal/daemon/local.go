package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a local socket in bytes: sun_path of
// unix(7) has 108 with the NUL.
const maxSocketPath = 107

// umaskMutex is held while the umask, which all threads share, is not the
// process's own.
var umaskMutex sync.Mutex

func listenLocal(cfg ListenConfig) (*Listener, error) {
	p, err := place(cfg.Address, socketOption)
	if err != nil {
		return nil, err
	}
	listener, err := p.listen(cfg)
	if err != nil {
		p.dir.file.Close()
		return nil, err
	}
	return listener, nil
}

func (p *placed) listen(cfg ListenConfig) (*Listener, error) {
	if len(p.path) > maxSocketPath {
		return nil, failf(ExitConfiguration, "socket path %s has %d bytes, the system allows %d: choose a shorter one with %s", p.path, len(p.path), maxSocketPath, p.option)
	}
	if err := p.dir.lock(lockTimeout); err != nil {
		return nil, err
	}
	defer p.dir.unlock()
	if err := p.clearSocket(); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, failf(ExitOS, "cannot make a socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), p.path)
	defer file.Close() // net.FileListener keeps a copy
	id, err := p.bind(fd, cfg)
	if err != nil {
		return nil, err
	}
	var listener net.Listener
	if err = unix.Listen(fd, cfg.Backlog); err == nil {
		listener, err = net.FileListener(file)
	}
	if err != nil {
		p.unbind(id)
		return nil, failf(ExitOS, "cannot listen on %s: %w", p.path, err)
	}
	return &Listener{Listener: listener, place: p, id: id}, nil
}

// bind gives the socket its path, then the path its owner, group and mode. All
// the while connect(2) is refused, for nobody listens yet.
func (p *placed) bind(fd int, cfg ListenConfig) (fileID, error) {
	if err := bindWithMode(fd, p.path, cfg.Mode); err != nil {
		return fileID{}, p.explain("make socket", p.path, err)
	}
	node, err := unix.Openat(p.dir.fd(), p.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fileID{}, failf(ExitOS, "socket %s has vanished: %w", p.path, err)
	}
	defer unix.Close(node)
	var stat unix.Stat_t
	if err := unix.Fstat(node, &stat); err != nil {
		return fileID{}, failf(ExitOS, "cannot look at socket %s: %w", p.path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK || int(stat.Uid) != os.Geteuid() {
		return fileID{}, failf(ExitOS, "%s is not the socket that we have made: who else writes to %s?", p.path, p.dir.path)
	}
	if err := p.giveAway(node, cfg); err != nil {
		p.unbind(idOf(&stat))
		return fileID{}, err
	}
	return idOf(&stat), nil
}

// unbind removes what bind has made; the directory is locked.
func (p *placed) unbind(id fileID) {
	if stat, err := p.dir.stat(p.name); err == nil && idOf(stat) == id {
		_ = unix.Unlinkat(p.dir.fd(), p.name, 0) // what made us give up is the error to report
	}
}

// bindWithMode makes the socket with at most the bits of mode.
func bindWithMode(fd int, path string, mode fs.FileMode) error {
	umaskMutex.Lock()
	defer umaskMutex.Unlock()
	old := syscall.Umask(int(fs.ModePerm &^ mode))
	defer syscall.Umask(old)
	return unix.Bind(fd, &unix.SockaddrUnix{Name: path})
}

// giveAway sets owner, group and mode of the bound socket, and looks whether they
// are what was asked for: file systems have ideas of their own.
func (p *placed) giveAway(node int, cfg ListenConfig) error {
	mode := uint32(cfg.Mode & fs.ModePerm)
	if cfg.OwnerUID >= 0 || cfg.GroupGID >= 0 {
		if err := unix.Fchownat(node, "", cfg.OwnerUID, cfg.GroupGID, unix.AT_EMPTY_PATH); err != nil {
			return p.explainChown(cfg, err)
		}
	}
	// The umask is not enough: a default ACL of the directory takes bits away. An
	// O_PATH descriptor can be chmod-ed only through its name in /proc.
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", node), fs.FileMode(mode)); err != nil {
		if err := unix.Fchmodat(p.dir.fd(), p.name, mode, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return failf(ExitOS, "cannot set mode %04o of socket %s: %w", mode, p.path, err)
		}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(node, &stat); err != nil {
		return failf(ExitOS, "cannot look at socket %s: %w", p.path, err)
	}
	if stat.Mode&uint32(fs.ModePerm) != mode || cfg.OwnerUID >= 0 && int(stat.Uid) != cfg.OwnerUID ||
		cfg.GroupGID >= 0 && int(stat.Gid) != cfg.GroupGID {
		return failf(ExitCannotCreate, "socket %s has mode %04o, owner %s and group %s, not what was asked for: its file system does not keep them, choose another path with %s",
			p.path, stat.Mode&uint32(fs.ModePerm), userName(int(stat.Uid)), groupName(int(stat.Gid)), p.option)
	}
	return nil
}

func (p *placed) explainChown(cfg ListenConfig, err error) error {
	me := userName(os.Geteuid())
	if !errors.Is(err, unix.EPERM) {
		return failf(ExitOS, "cannot set owner and group of socket %s: %w", p.path, err)
	}
	if cfg.OwnerUID >= 0 && cfg.OwnerUID != os.Geteuid() {
		return failf(ExitNoPermission, "user %s cannot give socket %s to user %s: only root can, start as root with --user %[1]s", me, p.path, userName(cfg.OwnerUID))
	}
	return failf(ExitNoPermission, "user %s cannot give socket %s to group %s: make %[1]s a member (usermod -aG %[3]s %[1]s), or start as root with --user %[1]s", me, p.path, groupName(cfg.GroupGID))
}

// clearSocket makes room for our socket: a stale one is removed, anything else is
// an error. The directory is locked.
func (p *placed) clearSocket() error {
	stat, err := p.dir.stat(p.name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return p.explain("look at", p.path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return failf(ExitCannotCreate, "%s is %s, not a socket: remove it, or choose another path with %s", p.path, kindOf(stat), p.option)
	}
	if err := p.refuseLive(stat); err != nil {
		return err
	}
	if err := unix.Unlinkat(p.dir.fd(), p.name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return p.explain("remove the dead socket", p.path, err)
	}
	return nil
}

// refuseLive returns nil if connect(2) says that nobody listens on the socket; where
// it does not say anything, if nobody holds it.
func (p *placed) refuseLive(stat *unix.Stat_t) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return failf(ExitOS, "cannot make a socket: %w", err)
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: p.path})
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EACCES) && !p.mayBeInUse(stat):
		return nil
	case errors.Is(err, unix.EACCES):
		return failf(ExitNoPermission, "user %s cannot tell whether anybody listens on socket %s: remove it if not, or choose another path with %s", userName(os.Geteuid()), describe(p.path), p.option)
	case err == nil:
		return failf(ExitUnavailable, "another process%s listens on socket %s: stop it, or choose another path with %s", listenerOf(fd), p.path, p.option)
	}
	// EAGAIN is a full backlog, EPROTOTYPE a socket of another type: both alive.
	return failf(ExitUnavailable, "another process uses socket %s: stop it, or choose another path with %s: %w", p.path, p.option, err)
}

// listenerOf names the process that listens at the other end of a connected
// socket.
func listenerOf(fd int) string {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Pid <= 0 {
		return ""
	}
	return fmt.Sprintf(" (%d)", cred.Pid)
}

func kindOf(stat *unix.Stat_t) string {
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}
