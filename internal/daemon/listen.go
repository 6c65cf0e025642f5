package daemon

import (
	"net"
	"os"
)

// ListenConfig says where to listen and who may connect.
type ListenConfig struct {
	Network string // "unix", "tcp", "tcp4" or "tcp6"
	Address string // a path, or host:port with IPv6 hosts in brackets
	Backlog int    // connections waiting to be accepted; 0 is the system's limit (SOMAXCONN)

	// The rest is for local sockets only.
	Mode     os.FileMode // permission bits; 0 is DefaultSocketMode
	OwnerUID int         // -1: leave
	GroupGID int         // -1: leave
}

// DefaultSocketMode lets the owner and the group connect.
const DefaultSocketMode os.FileMode = 0o660

// Listener is a listening socket that knows whether the path it was bound to is
// still its own.
type Listener struct{ net.Listener }

// Listen opens a listening socket.
func Listen(cfg ListenConfig) (*Listener, error) { return nil, failf(ExitSoftware, "not built yet") }

// Unlink removes the path of a local socket if it is still ours, so that another
// instance can start while this one ends; connections are accepted no more from
// new clients, but those that wait still are. For an inet socket it does nothing.
func (l *Listener) Unlink() error { return nil }

// Close stops listening, after Unlink.
func (l *Listener) Close() error { return nil }
