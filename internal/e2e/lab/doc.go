// Package lab runs the real mail servers around amavis-milter privately on one
// Debian machine: clamd, amavisd with SpamAssassin, sendmail and Postfix, all from
// Debian's packages, between an SMTP client and an SMTP sink written here.
//
// Nothing of the machine changes. The packages are downloaded and unpacked into
// a folder of the lab's own (never installed: no maintainer script runs, no
// package is removed, no service is started). [Run] enters mount, process,
// network, host name and IPC namespaces and changes its root to that folder with
// a memory file system on top. Every process and file therefore ends with the
// lab, even if it is killed, and its ports are its own: both MTAs listen on
// port 25.
//
// The lab needs root, Linux with overlayfs, apt and a Debian archive; whatever is
// missing is named by a [MissingError].
//
// It is a tool for tests and for the demonstration, not part of the program.
package lab
