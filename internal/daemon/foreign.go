package daemon

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// unixSockets lists the local sockets of a network namespace, one a line, with
// the path that each was bound to as the last of its columns.
const unixSockets = "/proc/net/unix"

// mayBeInUse reports whether any process may hold the socket at p, of which stat is
// the file. It is asked where connect(2) is not allowed to tell: init scripts give
// the socket to another user (MILTERSOCKETOWNER of Debian's amavisd-milter), and a
// crash must not keep the next instance from starting because of that.
//
// Paths are as they were bound, through whatever links and in whatever name space,
// so that all of the same last component count unless they are seen to be another
// file. What cannot be seen is in use. A process in another network namespace that
// shares the directory is not seen: it needs a socket that we may connect to.
func (p *placed) mayBeInUse(stat *unix.Stat_t) bool {
	table, err := os.ReadFile(unixSockets)
	return err != nil || p.isAmong(string(table), stat)
}

// isAmong looks for the socket in the text of unixSockets.
func (p *placed) isAmong(table string, stat *unix.Stat_t) bool {
	heading, table, _ := strings.Cut(table, "\n")
	if title, ok := boundPath(heading); !ok || title != "Path" {
		return true // not the table that we know
	}
	for line := range strings.Lines(table) {
		path, ok := boundPath(strings.TrimSuffix(line, "\n"))
		if !ok {
			return true // what follows a line end in somebody's path
		}
		if filepath.Base(path) != p.name {
			continue
		}
		var other unix.Stat_t
		if unix.Lstat(path, &other) != nil || idOf(&other) == idOf(stat) {
			return true
		}
	}
	return false
}

// boundPath returns the path of a line of unixSockets, empty if the socket has none;
// ok is false if the line has not the columns before it.
func boundPath(line string) (path string, ok bool) {
	const columns = 7 // Num, RefCount, Protocol, Flags, Type, St, Inode
	for range columns {
		line = strings.TrimLeft(line, " ")
		if line == "" {
			return "", false
		}
		_, line, _ = strings.Cut(line, " ")
	}
	return line, true
}
