//go:build !linux

package ampdp

import (
	"context"
	"net"
)

// dialLocal connects to a local socket.
func dialLocal(ctx context.Context, path string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err // not conn: a nil *net.UnixConn is no nil net.Conn
	}
	return conn, nil
}
