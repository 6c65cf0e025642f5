package daemon

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenInet(t *testing.T) {
	tests := []struct{ network, address, host string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp4", "0.0.0.0:0", "0.0.0.0"},
		{"tcp", "[::1]:0", "::1"},
		{"tcp6", "[::1]:0", "::1"},
		{"tcp6", "[::]:0", "::"},
		{"tcp", "localhost:0", ""},
	}
	for _, test := range tests {
		t.Run(test.network+" "+test.address, func(t *testing.T) {
			if strings.Contains(test.address, "::") && !hasIPv6() {
				t.Skip("needs IPv6 on the loopback interface")
			}
			// Owner, group and mode are nothing to an inet socket.
			listener, err := Listen(ListenConfig{Network: test.network, Address: test.address, Mode: 0o600, OwnerUID: 1, GroupGID: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			host, _, err := net.SplitHostPort(listener.Addr().String())
			if err != nil || test.host != "" && host != test.host {
				t.Errorf("listens on %v, want host %s", listener.Addr(), test.host)
			}
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if err := errors.Join(listener.Close(), listener.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

func hasIPv6() bool {
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		listener.Close()
	}
	return err == nil
}

func TestListenInetRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		network, address string
		code             int
		part             string
	}{
		{"tcp", taken.Addr().String(), ExitUnavailable, "another process listens on " + taken.Addr().String()},
		{"tcp4", "192.0.2.1:0", ExitConfiguration, "192.0.2.1:0 is no address of this host"},
		{"tcp4", "[::1]:0", ExitConfiguration, "no address of this host"},
		{"tcp", "127.0.0.1", ExitConfiguration, "missing port"},
		{"tcp", "127.0.0.1:no-such-port", ExitConfiguration, "no-such-port"},
	}
	for _, test := range tests {
		listener, err := Listen(ListenConfig{Network: test.network, Address: test.address})
		if err == nil {
			listener.Close()
		}
		wantError(t, err, test.code, test.part, "--socket")
	}
}

// TestInetSocketOptions: a restart does not wait for connections in TIME_WAIT.
func TestInetSocketOptions(t *testing.T) {
	listener := mustListen(t, ListenConfig{Network: "tcp", Address: "127.0.0.1:0"})
	tcp, ok := listener.Listener.(*net.TCPListener)
	if !ok {
		t.Fatalf("a %T", listener.Listener)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		reuse, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR)
		if err != nil || reuse == 0 {
			t.Errorf("SO_REUSEADDR is %d, %v", reuse, err)
		}
		protocol, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil || protocol != unix.IPPROTO_TCP {
			t.Errorf("the protocol is %d, %v; want TCP, not MPTCP", protocol, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestInetBacklog: for a listening socket TCP_INFO tells the backlog in the field
// of the selective acknowledgements.
func TestInetBacklog(t *testing.T) {
	for _, backlog := range []int{1, 7, 100} {
		listener := mustListen(t, ListenConfig{Network: "tcp", Address: "127.0.0.1:0", Backlog: backlog})
		tcp, ok := listener.Listener.(*net.TCPListener)
		if !ok {
			t.Fatalf("a %T", listener.Listener)
		}
		raw, err := tcp.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil || int(info.Sacked) != backlog {
				t.Errorf("backlog %d, %v; want %d", info.Sacked, err, backlog)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
