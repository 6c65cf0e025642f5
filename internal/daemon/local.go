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
	p, err := place(cfg.Address, socketOption, cfg.Account)
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
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, failf(ExitOS, "cannot make a socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), p.path)
	defer file.Close() // net.FileListener keeps a copy
	// Until we listen connect(2) is refused, and whoever starts now would take ours for
	// a dead socket.
	unlock, err := p.lock(lockTimeout)
	if ExitCode(err) == ExitNoPermission { // what is in the way says more, if there is anything
		if _, reason := p.findDead(); reason != nil {
			return nil, reason
		}
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	node, err := p.claim(fd, cfg.Mode)
	if err != nil {
		return nil, err
	}
	defer unix.Close(node)
	id, err := p.giveAway(node, cfg)
	if err != nil {
		p.unbind(node)
		return nil, err
	}
	var listener net.Listener
	if err = unix.Listen(fd, cfg.Backlog); err == nil {
		listener, err = net.FileListener(file)
	}
	if err != nil {
		p.unbind(node)
		return nil, failf(ExitOS, "cannot listen on %s: %w", p.path, err)
	}
	return &Listener{Listener: listener, Warning: p.warning, place: p, id: id}, nil
}

// claim takes the name for the socket fd, and returns an O_PATH descriptor of what
// it is bound to.
func (p *placed) claim(fd int, mode fs.FileMode) (node int, err error) {
	old, err := p.findDead()
	if err != nil {
		return -1, err
	}
	err = p.dir.actor.do(func() error {
		if old != nil {
			if err := unix.Unlinkat(p.dir.fd(), p.name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return p.explain("remove the dead socket", p.path, err)
			}
		}
		if err := bindWithMode(fd, p.path, mode); err != nil {
			return p.explain("make socket", p.path, err)
		}
		node, err = p.pin(fd)
		return err
	})
	return node, err
}

// siocUnixFile is SIOCUNIXFILE of linux/un.h: it opens the very file that a socket is
// bound to, for who has CAP_NET_ADMIN.
const siocUnixFile = 0x89e0

// pin opens the file of the bound socket with O_PATH. All that is done to it from then
// on is done to this file, whatever the name may lead to by then.
func (p *placed) pin(fd int) (node int, err error) {
	opened, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), siocUnixFile, 0)
	if node = int(opened); errno != 0 {
		if node, err = openPath(p.dir.fd(), p.name); err != nil {
			return -1, failf(ExitOS, "socket %s has vanished: %w", p.path, err)
		}
	}
	var stat unix.Stat_t
	err = unix.Fstat(node, &stat)
	if err == nil {
		err = p.checkMade(&stat)
	}
	if err != nil {
		unix.Close(node)
		return -1, err
	}
	return node, nil
}

// checkMade refuses a file that is not the socket that we have just made, so that none
// of another's is given away.
func (p *placed) checkMade(stat *unix.Stat_t) error {
	named, err := p.dir.stat(p.name)
	ours := stat.Mode&unix.S_IFMT == unix.S_IFSOCK && int(stat.Uid) == p.dir.actor.user() && stat.Nlink == 1
	if err != nil || !ours || idOf(named) != idOf(stat) {
		return failf(ExitOS, "%s is not the socket that we have made: who else writes to %s?", p.path, p.dir.path)
	}
	return nil
}

// unbind removes what claim has made; the lock is held, and what made us give up is the
// error to report.
func (p *placed) unbind(node int) {
	_ = p.dir.actor.do(func() error { return p.dir.removeOpened(p.name, node) })
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
func (p *placed) giveAway(node int, cfg ListenConfig) (fileID, error) {
	mode := uint32(cfg.Mode & fs.ModePerm)
	if cfg.OwnerUID >= 0 || cfg.GroupGID >= 0 {
		if err := unix.Fchownat(node, "", cfg.OwnerUID, cfg.GroupGID, unix.AT_EMPTY_PATH); err != nil {
			return fileID{}, p.explainChown(cfg, err)
		}
	}
	// The umask is not enough: a default ACL of the directory takes bits away. An
	// O_PATH descriptor can be chmod-ed only through its name in /proc.
	if err := os.Chmod(fmt.Sprintf("/proc/self/fd/%d", node), fs.FileMode(mode)); err != nil {
		if err := unix.Fchmodat(node, "", mode, unix.AT_EMPTY_PATH); err != nil {
			return fileID{}, failf(ExitOS, "cannot set mode %04o of socket %s: %w", mode, p.path, err)
		}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(node, &stat); err != nil {
		return fileID{}, failf(ExitOS, "cannot look at socket %s: %w", p.path, err)
	}
	if stat.Mode&uint32(fs.ModePerm) != mode || cfg.OwnerUID >= 0 && int(stat.Uid) != cfg.OwnerUID ||
		cfg.GroupGID >= 0 && int(stat.Gid) != cfg.GroupGID {
		return fileID{}, failf(ExitCannotCreate, "socket %s has mode %04o, owner %s and group %s, not what was asked for: its file system does not keep them, choose another path with %s",
			p.path, stat.Mode&uint32(fs.ModePerm), userName(int(stat.Uid)), groupName(int(stat.Gid)), p.option)
	}
	return idOf(&stat), nil
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

// findDead returns the dead socket that has the name, or nil if nothing has; anything else
// is an error.
func (p *placed) findDead() (old *unix.Stat_t, err error) {
	err = p.dir.actor.do(func() (err error) { old, err = p.findSocket(); return err })
	if err == nil && old != nil {
		err = p.refuseLive(old) // as root, who may ask any socket, and changes nothing by that
	}
	return old, err
}

// findSocket returns what has the name, which must be a socket, or nil if nothing has.
func (p *placed) findSocket() (*unix.Stat_t, error) {
	stat, err := p.dir.stat(p.name)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, p.explain("look at", p.path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, failf(ExitCannotCreate, "%s is %s, not a socket: remove it, or choose another path with %s", p.path, kindOf(stat), p.option)
	}
	return stat, nil
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
