package lab

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// The names and addresses of the lab (RFC 2606, RFC 5737). All of them are
// addresses of its loopback interface, and /etc/hosts is its only name service.
const (
	Domain         = "lab.test"           // local domain: the recipients
	Host           = "mx.lab.test"        // the host that runs everything
	HostAddress    = "192.0.2.1"          // its address
	ClientName     = "client.remote.test" // an SMTP client outside, with FCrDNS
	ClientAddress  = "192.0.2.10"         //
	UnknownAddress = "192.0.2.66"         // an SMTP client without a name
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
	for i, address := range []string{HostAddress, ClientAddress, UnknownAddress} {
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
	return writeFiles(map[string]string{
		"/etc/hostname":    Host + "\n",
		"/etc/mailname":    Domain + "\n",
		"/etc/resolv.conf": "",
		"/etc/nsswitch.conf": strings.Join([]string{
			"passwd: files", "group: files", "hosts: files", "services: files", "protocols: files", ""}, "\n"),
		"/etc/hosts": strings.Join([]string{
			"127.0.0.1 localhost",
			HostAddress + " " + Host + " mx",
			ClientAddress + " " + ClientName, ""}, "\n"),
	})
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
