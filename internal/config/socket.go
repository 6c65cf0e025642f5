package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketPath is the longest path of a local socket in bytes: sun_path of
// unix(7) has 108 with its NUL.
const maxSocketPath = 107

// maxHostName is the longest host name in bytes (RFC 1035 section 2.3.4, without
// the length bytes).
const maxHostName = 253

const socketForms = "write local:/PATH, inet:PORT@HOST or inet6:PORT@HOST"

// Socket is a socket in the words of package net.
type Socket struct {
	// Network is "unix", "tcp4" or "tcp6"; "tcp" stands for every address of both
	// families and only in a socket to listen on.
	Network string
	// Address is a path or a "host:port" with a numeric port.
	Address string
}

func localSocket(path string) Socket { return Socket{"unix", path} }

// IsLocal reports whether s is a local (Unix domain) socket.
func (s Socket) IsLocal() bool { return s.Network == "unix" }

// String returns the socket in sendmail's form: local:/PATH, inet:PORT@HOST or
// inet6:PORT@HOST.
func (s Socket) String() string {
	if s.IsLocal() {
		return "local:" + s.Address
	}
	host, port, _ := net.SplitHostPort(s.Address)
	if s.Network == "tcp4" {
		return "inet:" + port + "@" + host
	}
	return "inet6:" + port + "@" + host
}

// socketRole is what a socket is for.
type socketRole int

const (
	roleListen  socketRole = iota + 1 // the MTA connects to it
	roleConnect                       // we connect to it
)

// parseSocket reads a socket in sendmail's form. warning is not empty if it is
// legal but risky.
func parseSocket(spec string, role socketRole, lookupPort func(network, service string) (int, error)) (s Socket, warning string, err error) {
	scheme, rest, found := strings.Cut(spec, ":")
	switch {
	case strings.HasPrefix(spec, "/"):
		scheme, rest = "local", spec
	case !found:
		return Socket{}, "", fmt.Errorf("%q is no socket: %s", spec, socketForms)
	}
	// libmilter does not look at the case of the scheme.
	switch scheme = strings.ToLower(scheme); scheme {
	case "local", "unix":
		s, err = parseLocal(rest)
	case "inet", "inet6":
		s, warning, err = parseInet(scheme, rest, role, lookupPort)
	default:
		err = fmt.Errorf("%q: unknown kind of socket: %s", spec, socketForms)
	}
	return s, warning, err
}

func parseLocal(path string) (Socket, error) {
	if err := checkPath(path, "local:/PATH"); err != nil {
		return Socket{}, err
	}
	if len(path) > maxSocketPath {
		return Socket{}, fmt.Errorf("%q has %d bytes, a local socket at most %d: write a shorter path", path, len(path), maxSocketPath)
	}
	if strings.HasSuffix(path, "/") {
		return Socket{}, fmt.Errorf("%q is a directory: write local:/PATH with the name of a socket in it", path)
	}
	return localSocket(path), nil
}

func parseInet(scheme, rest string, role socketRole, lookupPort func(network, service string) (int, error)) (Socket, string, error) {
	port, host, found := strings.Cut(rest, "@")
	if !found {
		return parseInetPortOnly(scheme, rest, role, lookupPort)
	}
	number, err := parsePort(port, lookupPort)
	if err != nil {
		return Socket{}, "", err
	}
	network, err := checkHost(scheme, port, &host, role)
	if err != nil {
		return Socket{}, "", err
	}
	return Socket{network, net.JoinHostPort(host, strconv.Itoa(number))}, "", nil
}

// parseInetPortOnly reads what stands behind "inet:" if it has no '@': Postfix's
// order, or a port alone, which libmilter takes for every address.
func parseInetPortOnly(scheme, rest string, role socketRole, lookupPort func(network, service string) (int, error)) (Socket, string, error) {
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		host, port := rest[:i], rest[i+1:]
		if host == "" {
			host = "127.0.0.1"
		}
		return Socket{}, "", fmt.Errorf("%q is Postfix's order: write %q", scheme+":"+rest, scheme+":"+port+"@"+host)
	}
	number, err := parsePort(rest, lookupPort)
	if err != nil {
		return Socket{}, "", err
	}
	everywhere, loopback, network := "0.0.0.0", "127.0.0.1", "tcp4"
	if scheme == "inet6" {
		everywhere, loopback, network = "::", "::1", "tcp"
	}
	if role == roleConnect {
		return Socket{}, "", fmt.Errorf("%q names no host: write %q", scheme+":"+rest, scheme+":"+rest+"@"+loopback)
	}
	warning := fmt.Sprintf("%q listens on every address of this host: write %q unless the MTA runs on another one",
		scheme+":"+rest, scheme+":"+rest+"@"+loopback)
	return Socket{network, net.JoinHostPort(everywhere, strconv.Itoa(number))}, warning, nil
}

func parsePort(port string, lookupPort func(network, service string) (int, error)) (int, error) {
	const maxPort = 65535
	if port == "" {
		return 0, errors.New("the port is missing: write inet:PORT@HOST with a port from 1 to 65535")
	}
	if isDigits(port) {
		n, err := strconv.Atoi(port)
		if err != nil || n < 1 || n > maxPort {
			return 0, fmt.Errorf("port %q: write a port from 1 to %d", port, maxPort)
		}
		return n, nil
	}
	n, err := lookupPort("tcp", port)
	if err != nil || n < 1 || n > maxPort {
		return 0, fmt.Errorf("port %q is not in /etc/services: write a number from 1 to %d", port, maxPort)
	}
	return n, nil
}

// checkHost checks a host and its family, removes brackets, and returns the
// network.
func checkHost(scheme, port string, host *string, role socketRole) (network string, err error) {
	bare := *host
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	addr, err := netip.ParseAddr(bare)
	switch {
	case err != nil && bare == *host && isHostName(bare):
	case err != nil, addr.Zone() != "" && !isHostName(addr.Zone()):
		return "", fmt.Errorf("host %q: write a host name or an IP address, as in %s:PORT@localhost", *host, scheme)
	case addr.Is4() && scheme == "inet6":
		return "", fmt.Errorf("%q is an IPv4 address: write %q", bare, "inet:"+port+"@"+bare)
	case !addr.Is4() && scheme == "inet":
		return "", fmt.Errorf("%q is an IPv6 address: write %q", bare, "inet6:"+port+"@"+bare)
	}
	*host = bare
	switch {
	case scheme == "inet":
		return "tcp4", nil
	case role == roleListen && addr.IsUnspecified():
		// libmilter's inet6 socket on :: takes IPv4 as well; net calls that "tcp".
		return "tcp", nil
	}
	return "tcp6", nil
}

// isHostName reports whether s may be a host name: letters, digits, '-', '_' and
// '.', as resolvers take them.
func isHostName(s string) bool {
	if s == "" || len(s) > maxHostName || s[0] == '-' || s[0] == '.' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// sameAs reports whether both sockets are one, as far as names and the file system
// tell. s is listened on and other connected to, or both are connected to.
func (s Socket) sameAs(other Socket, env Env) bool {
	if s.IsLocal() != other.IsLocal() {
		return false
	}
	if s.IsLocal() {
		return env.samePath(s.Address, other.Address)
	}
	host, port, _ := net.SplitHostPort(s.Address)
	otherHost, otherPort, _ := net.SplitHostPort(other.Address)
	if port != otherPort {
		return false
	}
	if isUnspecified(host) && (isLoopback(otherHost) || isUnspecified(otherHost)) {
		return true // we would listen on what we connect to
	}
	// localhost is 127.0.0.1 or ::1, as the network is.
	return s.Network == other.Network && numeric(s.Network, host) == numeric(s.Network, otherHost)
}

// numeric returns a host in lower case, and localhost as an address.
func numeric(network, host string) string {
	host = strings.ToLower(host)
	if host != "localhost" {
		return host
	}
	if network == "tcp4" {
		return "127.0.0.1"
	}
	return "::1"
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback() || strings.EqualFold(host, "localhost")
}

func isUnspecified(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsUnspecified()
}

// samePath reports whether two paths lead to one file. The file need not exist.
func (e Env) samePath(a, b string) bool {
	if e.resolve(a) == e.resolve(b) {
		return true
	}
	infoA, errA := e.Stat(a)
	infoB, errB := e.Stat(b)
	return errA == nil && errB == nil && sameFile(infoA, infoB)
}

// resolve follows the symbolic links of a path as far as it exists.
func (e Env) resolve(path string) string {
	if real, err := e.EvalSymlinks(path); err == nil {
		return real
	}
	if dir, err := e.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}
