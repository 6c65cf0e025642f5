package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ListenConfig says where to listen and who may connect.
type ListenConfig struct {
	Network string // "unix", "tcp", "tcp4" or "tcp6"
	Address string // a path, or host:port with an IPv6 host in brackets
	Backlog int    // connections that may wait to be accepted; 0 is DefaultBacklog

	// The rest is for local sockets only.
	Mode     os.FileMode // permission bits; 0 is DefaultSocketMode
	OwnerUID int         // -1: the process's user
	GroupGID int         // -1: the process's group

	// Account is who the process will be by DropPrivileges, nil if it stays who it is.
	// In a directory where others than root can write root needs no more than what
	// that one may, and takes no more.
	Account *Account
}

const (
	// DefaultSocketMode lets the socket's owner and group connect.
	DefaultSocketMode os.FileMode = 0o660

	// DefaultBacklog is the most that listen(2) takes; the kernel lowers it to
	// net.core.somaxconn.
	DefaultBacklog = unix.SOMAXCONN

	// socketOption is what chooses another socket, for messages. Its letter depends on
	// the name of the program.
	socketOption = "--socket"
)

// Listener is a listening socket that knows whether the path it was bound to
// still is its own.
type Listener struct {
	net.Listener

	// Warning is for the operator: what is allowed about the socket's directory but
	// seldom meant; empty if there is nothing.
	Warning string

	place *placed // nil for an inet socket
	id    fileID

	mutex  sync.Mutex
	closed bool
}

// Listen opens a listening socket.
//
// A local socket has its owner, group and mode before the first client can
// connect. A socket on which somebody listens is refused, one that was left by a
// dead process is replaced, anything else in its place, a symbolic link included,
// is refused. Several processes that do so at once are one after the other: one
// gets the socket.
//
// Errors are of type [Error]: ExitUnavailable if somebody listens there,
// ExitNoPermission, ExitCannotCreate, or ExitConfiguration for an address that
// cannot be on this host.
func Listen(cfg ListenConfig) (*Listener, error) {
	if cfg.Backlog <= 0 {
		cfg.Backlog = DefaultBacklog
	}
	if cfg.Mode == 0 {
		cfg.Mode = DefaultSocketMode
	}
	switch cfg.Network {
	case "unix":
		return listenLocal(cfg)
	case "tcp", "tcp4", "tcp6":
		return listenInet(cfg)
	}
	return nil, failf(ExitUsage, "unknown network %q: use unix, tcp, tcp4 or tcp6", cfg.Network)
}

// Close stops listening. Before that it removes the path of a local socket if it
// still is ours, so that another instance can start while this one ends. A second
// call does nothing.
//
// After [DropPrivileges] the directory may be one that the user cannot write to.
// Close then returns an error, and the dead socket stays for the next start to
// replace.
func (l *Listener) Close() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.place == nil {
		return l.Listener.Close()
	}
	removed := l.place.removeIf(l.id) // first: an id is ours alone only while the socket is open
	return errors.Join(removed, l.Listener.Close(), l.place.dir.file.Close())
}

func listenInet(cfg ListenConfig) (*Listener, error) {
	// package net sets SO_REUSEADDR, and IPV6_V6ONLY as the network asks.
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // no MTA speaks it
	listener, err := lc.Listen(context.Background(), cfg.Network, cfg.Address)
	if err != nil {
		return nil, explainInet(cfg, err)
	}
	if err := setBacklog(listener, cfg.Backlog); err != nil {
		listener.Close()
		return nil, failf(ExitOS, "cannot set the backlog of %s: %w", cfg.Address, err)
	}
	return &Listener{Listener: listener}, nil
}

// setBacklog calls listen(2) again, for package net always asks for the most.
func setBacklog(listener net.Listener, backlog int) error {
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return errors.New("not a TCP listener")
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Listen(int(fd), backlog) })
	return errors.Join(err, failed)
}

func explainInet(cfg ListenConfig, err error) error {
	var lookup *net.DNSError
	var address *net.AddrError
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return failf(ExitUnavailable, "another process listens on %s: stop it, or choose another port with %s", cfg.Address, socketOption)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return failf(ExitNoPermission, "user %s cannot listen on %s: choose a port above 1023 with %s", userName(os.Geteuid()), cfg.Address, socketOption)
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.As(err, &lookup), errors.As(err, &address):
		return failf(ExitConfiguration, "%s is no address of this host: choose another with %s: %w", cfg.Address, socketOption, err)
	}
	return failf(ExitOS, "cannot listen on %s: %w", cfg.Address, err)
}
