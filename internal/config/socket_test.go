package config

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseSocket(t *testing.T) {
	tests := []struct {
		spec    string
		network string
		address string
		again   string // what String returns; empty if it is spec
	}{
		{"local:/run/a.sock", "unix", "/run/a.sock", ""},
		{"unix:/run/a.sock", "unix", "/run/a.sock", "local:/run/a.sock"},
		{"/run/a.sock", "unix", "/run/a.sock", "local:/run/a.sock"},
		{"LOCAL:/run/a:b@c", "unix", "/run/a:b@c", "local:/run/a:b@c"},
		{"/run/inet:1@h", "unix", "/run/inet:1@h", "local:/run/inet:1@h"},
		{"inet:10024@127.0.0.1", "tcp4", "127.0.0.1:10024", ""},
		{"Inet:10024@mail-1.example_x.org", "tcp4", "mail-1.example_x.org:10024", "inet:10024@mail-1.example_x.org"},
		{"inet:milter@localhost", "tcp4", "localhost:8899", "inet:8899@localhost"},
		{"inet:8899@0.0.0.0", "tcp4", "0.0.0.0:8899", ""},
		{"inet6:10024@::1", "tcp6", "[::1]:10024", ""},
		{"inet6:10024@[::1]", "tcp6", "[::1]:10024", "inet6:10024@::1"},
		{"inet6:10024@fe80::1%eth0.5", "tcp6", "[fe80::1%eth0.5]:10024", ""},
		{"inet6:10024@localhost", "tcp6", "localhost:10024", ""},
	}
	for _, tt := range tests {
		s, warning, err := parseSocket(tt.spec, roleListen, fakeEnv().LookupPort)
		if err != nil || warning != "" || s != (Socket{tt.network, tt.address}) {
			t.Errorf("%s: got %+v, %q, %v", tt.spec, s, warning, err)
		}
		if tt.again == "" {
			tt.again = tt.spec
		}
		if s.String() != tt.again {
			t.Errorf("%s: written as %s, want %s", tt.spec, s, tt.again)
		}
	}
}

func TestParseSocketEveryAddress(t *testing.T) {
	for spec, want := range map[string]Socket{
		"inet:25":     {"tcp4", "0.0.0.0:25"},
		"inet6:25":    {"tcp", "[::]:25"},
		"inet6:25@::": {"tcp", "[::]:25"},
	} {
		s, warning, err := parseSocket(spec, roleListen, fakeEnv().LookupPort)
		if s != want || err != nil || (warning == "") != strings.Contains(spec, "@") {
			t.Errorf("%s: got %+v, %q, %v", spec, s, warning, err)
		}
	}
}

func TestParseSocketMistakes(t *testing.T) {
	tests := []struct{ spec, want string }{
		{"", `"" is no socket: write local:/PATH, inet:PORT@HOST or inet6:PORT@HOST`},
		{"local:", `the path is missing: write local:/PATH`},
		{"local:run/a.sock", `"run/a.sock" is not an absolute path: write local:/PATH`},
		{"amavisd.sock", `"amavisd.sock" is no socket: write local:/PATH`},
		{"unix:@abstract", `is not an absolute path`},
		{"local:/run/", `"/run/" is a directory`},
		{"local:/run/a\nb", `"/run/a\nb" has characters that cannot be printed`},
		{"local:/run/a\xff", `cannot be printed`},
		{"local:/" + strings.Repeat("x", maxSocketPath), `has 108 bytes, a local socket at most 107: write a shorter path`},
		{"tcp:127.0.0.1:25", `unknown kind of socket: write local:/PATH, inet:PORT@HOST or inet6:PORT@HOST`},
		{"25@host", `"25@host" is no socket: write local:/PATH, inet:PORT@HOST`},
		{"inet:127.0.0.1:10024", `"inet:127.0.0.1:10024" is Postfix's order: write "inet:10024@127.0.0.1"`},
		{"inet:[::1]:10024", `write "inet:10024@[::1]"`},
		{"inet::10024", `write "inet:10024@127.0.0.1"`},
		{"inet:10024", `"inet:10024" names no host: write "inet:10024@127.0.0.1"`},
		{"inet6:10024", `names no host: write "inet6:10024@::1"`},
		{"inet:@h", `the port is missing`},
		{"inet:", `the port is missing`},
		{"inet:0@h", `port "0": write a port from 1 to 65535`},
		{"inet:65536@h", `port "65536"`},
		{"inet:99999999999999999999@h", `write a port from 1 to 65535`},
		{"inet:nosuch@h", `port "nosuch" is not in /etc/services: write a number`},
		{"inet:25@", `host "": write a host name or an IP address, as in inet:PORT@localhost`},
		{"inet:25@a b", `host "a b"`},
		{"inet:25@a\nb", `host "a\nb"`},
		{"inet:25@-h", `host "-h"`},
		{"inet:25@[h]", `host "[h]"`},
		{"inet:25@h@h", `host "h@h"`},
		{"inet:25@" + strings.Repeat("h", maxHostName+1), `host "h`},
		{"inet6:25@fe80::1%\n", `host "fe80::1%\n"`},
		{"inet:25@::1", `"::1" is an IPv6 address: write "inet6:25@::1"`},
		{"inet:25@[::1]", `write "inet6:25@::1"`},
		{"inet6:25@127.0.0.1", `"127.0.0.1" is an IPv4 address: write "inet:25@127.0.0.1"`},
	}
	for _, tt := range tests {
		s, _, err := parseSocket(tt.spec, roleConnect, fakeEnv().LookupPort)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %+v, %v, want …%s…", tt.spec, s, err, tt.want)
		}
	}
}

func TestSocketsThatDiffer(t *testing.T) {
	tests := []struct{ listen, connect string }{
		{"/a.sock", "/b.sock"},
		{"/a.sock", "inet:1@h"},
		{"inet:1@127.0.0.1", "inet:2@127.0.0.1"},
		{"inet:1@127.0.0.1", "inet:1@127.0.0.2"},
		{"inet:1@0.0.0.0", "inet:1@192.0.2.1"}, // another host, as far as we know
		{"inet:1@localhost", "inet6:1@localhost"},
	}
	for _, tt := range tests {
		parse(t, "-p", tt.listen, "-S", tt.connect)
	}
}

// TestSamePathOnDisk has two names for one socket in a real file system.
func TestSamePathOnDisk(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	real := filepath.Join(dir, "real")
	must(os.Mkdir(real, 0o700))
	must(os.Symlink(real, filepath.Join(dir, "alias")))
	l, err := net.Listen("unix", filepath.Join(real, "sock"))
	must(err)
	defer l.Close()
	must(os.Symlink(filepath.Join(real, "sock"), filepath.Join(dir, "link")))
	must(os.Link(filepath.Join(real, "sock"), filepath.Join(dir, "hard")))

	tests := []struct {
		a, b string
		want bool
	}{
		{"real/sock", "alias/sock", true},
		{"real/sock", "link", true},
		{"real/sock", "hard", true},
		{"real/not-there", "alias/not-there", true},
		{"real/sock", "real/not-there", false},
		{"real/sock", "gone/sock", false},
	}
	for _, tt := range tests {
		if got := SystemEnv().samePath(filepath.Join(dir, tt.a), filepath.Join(dir, tt.b)); got != tt.want {
			t.Errorf("%s, %s: got %v", tt.a, tt.b, got)
		}
	}
}
