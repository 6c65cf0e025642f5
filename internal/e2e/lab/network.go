package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The names and addresses of the lab (RFC 2606, RFC 5737). All of them are
// addresses of its loopback interface, and /etc/hosts is its only name service.
const (
	Domain         = "lab.test"           // local domain: the recipients
	Host           = "mx.lab.test"        // the host that runs everything
	HostAddress    = "192.0.2.1"          // its address, where sendmail listens
	PostfixAddress = "192.0.2.2"          // its address where Postfix listens
	ClientName     = "client.remote.test" // an SMTP client outside, with FCrDNS
	ClientAddress  = "192.0.2.10"         //
	UnknownAddress = "192.0.2.66"         // an SMTP client without a name
	ForgedAddress  = "192.0.2.67"         // one whose name has another address
	ForgedName     = "forged.remote.test" //
	MappedAddress  = "192.0.2.11"         // one with FCrDNS also on an IPv6 socket
	MappedName     = "mapped.remote.test" //
	ProxyAddress   = "192.0.2.20"         // an SMTP proxy that Postfix believes (XCLIENT)

	// The same with IPv6 (RFC 3849).
	HostAddress6    = "2001:db8::1"
	PostfixAddress6 = "2001:db8::2"
	ClientAddress6  = "2001:db8::10"
	UnknownAddress6 = "2001:db8::66"
)

// prepareNetwork brings up the loopback interface of a fresh network namespace
// with the lab's addresses, and sets the host's name.
func prepareNetwork() error {
	if err := unix.Sethostname([]byte(Host)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}
	defer unix.Close(fd)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("bringing up the loopback interface: %w", err)
	}
	for i, address := range []string{HostAddress, PostfixAddress, ClientAddress, UnknownAddress, ForgedAddress, MappedAddress, ProxyAddress} {
		ifreq, err := unix.NewIfreq(fmt.Sprintf("lo:%d", i+1))
		if err != nil {
			return err
		}
		ip := netip.MustParseAddr(address).As4()
		if err := ifreq.SetInet4Addr(ip[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifreq); err != nil {
			return fmt.Errorf("adding the address %s: %w", address, err)
		}
	}
	for _, address := range []string{HostAddress6, PostfixAddress6, ClientAddress6, UnknownAddress6} {
		if err := addAddress6(address); err != nil {
			return fmt.Errorf("adding the address %s: %w", address, err)
		}
	}
	return writeFiles(map[string]string{
		"/etc/hostname":    Host + "\n",
		"/etc/mailname":    Domain + "\n",
		"/etc/resolv.conf": "",
		"/etc/host.conf":   "multi off\n",
		"/etc/nsswitch.conf": strings.Join([]string{
			"passwd: files", "group: files", "hosts: files", "services: files", "protocols: files", ""}, "\n"),
		"/etc/hosts": strings.Join([]string{
			"127.0.0.1 localhost",
			HostAddress + " " + Host + " mx",
			PostfixAddress + " " + Host + " mx",
			HostAddress6 + " " + Host,
			PostfixAddress6 + " " + Host,
			// The first line of a name counts when its address is asked for.
			"192.0.2.99 " + ForgedName,
			ForgedAddress + " " + ForgedName,
			ClientAddress + " " + ClientName,
			ClientAddress6 + " " + ClientName,
			// On an IPv6 socket the resolver is asked for the mapped address.
			"::ffff:" + MappedAddress + " " + MappedName,
			MappedAddress + " " + MappedName, ""}, "\n"),
	})
}

// addAddress6 gives an IPv6 address to the loopback interface.
func addAddress6(address string) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	loopback, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	request := struct { // struct in6_ifreq of linux/ipv6.h
		address [16]byte
		bits    uint32
		index   int32
	}{netip.MustParseAddr(address).As16(), 128, int32(loopback.Index)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}

// writeFiles writes files of mode 0644; it follows no link that a package left.
func writeFiles(files map[string]string) error {
	for path, text := range files {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
