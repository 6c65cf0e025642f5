package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/internal/daemon"
	"github.com/amavis-milter/amavis-milter/internal/filter"
)

// What the command line allows and what is done with it are written in packages
// that may not know each other. Here they are held against each other.

// TestSocketPathsAgree: the longest socket path of the command line is the longest
// that can be listened on.
func TestSocketPathsAgree(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "am")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for n, want := range map[int]bool{106: true, 107: true, 108: false} {
		path := filepath.Join(dir, strings.Repeat("x", n-len(dir)-1))
		_, parsed := config.Parse([]string{"amavis-milter", "-w", "/", "-p", path}, plainEnv())
		listener, listened := daemon.Listen(daemon.ListenConfig{Network: "unix", Address: path, OwnerUID: -1, GroupGID: -1})
		if listened == nil {
			listener.Close()
		}
		if (parsed == nil) != want || (listened == nil) != want {
			t.Errorf("%d bytes: the command line says %v, Listen %v", n, parsed, listened)
		}
	}
}

// TestIDsAgree: the same numbers are users and groups for both.
func TestIDsAgree(t *testing.T) {
	for id, want := range map[uint64]bool{1<<32 - 3: true, 1<<32 - 2: true, 1<<32 - 1: false, 1 << 32: false} {
		text := strconv.FormatUint(id, 10)
		_, parsed := config.Parse([]string{"amavis-milter", "-w", "/", "--socket-owner", text + ":" + text}, plainEnv())
		uid, userErr := daemon.LookupUID(text)
		gid, groupErr := daemon.LookupGID(text)
		if (parsed == nil) != want || (userErr == nil) != want || (groupErr == nil) != want || want && (uint64(uid) != id || uint64(gid) != id) {
			t.Errorf("%s: the command line says %v, LookupUID %d, %v, LookupGID %d, %v", text, parsed, uid, userErr, gid, groupErr)
		}
	}
}

// TestPolicyBankNamesAgree: what the command line takes for the name of a policy bank
// can be sent, and nothing else can.
func TestPolicyBankNamesAgree(t *testing.T) {
	names := []string{"", "A", "a b", " a", "a ", " ", "\xa0", "a\u2028b", "\xff", "A=B", "a;b", "%41", `"A"`, "MYNETS\r", strings.Repeat("x", 5000)}
	for b := range 256 { // no argument of a process has a NUL, but Parse does not know
		names = append(names, string([]byte{'a', byte(b), 'b'}), string([]byte{byte(b)}), string([]byte{'a', byte(b)}))
	}
	for _, name := range names {
		cfg, err := config.Parse([]string{"amavis-milter", "-w", "/", "--policy-bank", "auth=" + name}, plainEnv())
		if (err == nil) != ampdp.ValidPolicyBank(name) {
			t.Errorf("%q: the command line says %v, ValidPolicyBank %v", name, err, ampdp.ValidPolicyBank(name))
		}
		if err == nil && (len(cfg.PolicyBanks) != 1 || cfg.PolicyBanks[0].Name != name) {
			t.Errorf("%q: got %q", name, cfg.PolicyBanks)
		}
	}
}

// TestMatchesAgree: each kind of match has the same word in both packages, and is
// shown alike.
func TestMatchesAgree(t *testing.T) {
	args := []string{"amavis-milter", "-w", "/", "--policy-bank", "ALL"}
	kinds := map[filter.MatchKind]string{
		filter.MatchNetwork: "192.0.2.0/24", filter.MatchAuth: "auth", filter.MatchTLS: "tls",
		filter.MatchDaemon: "daemon:MSA", filter.MatchLocal: "local", filter.MatchSize: "size>10",
	}
	for _, text := range kinds {
		args = append(args, "--skip", text)
	}
	cfg, err := config.Parse(args, plainEnv())
	if err != nil {
		t.Fatal(err)
	}
	opt := filterOptions(cfg, nil, slog.New(slog.DiscardHandler))
	for _, m := range opt.Skips {
		if kinds[m.Kind] != m.String() {
			t.Errorf("%q is shown as %q, and typed as %q", m.Kind, m, kinds[m.Kind])
		}
	}
	if len(opt.Skips) != len(kinds) || !reflect.DeepEqual(opt.PolicyBanks, []filter.PolicyBank{{Name: "ALL"}}) {
		t.Errorf("got %v, %v", opt.Skips, opt.PolicyBanks)
	}
	want := []filter.Match{
		{Kind: filter.MatchNetwork, Network: netip.MustParsePrefix("192.0.2.0/24")}, {Kind: filter.MatchDaemon, DaemonName: "MSA"},
		{Kind: filter.MatchSize, Bytes: 10},
	}
	for _, m := range want {
		if !slices.Contains(opt.Skips, m) {
			t.Errorf("%+v is missing in %+v", m, opt.Skips)
		}
	}
}

// TestMappedNetwork: a network that was typed as one mapped into IPv6 reaches the
// filter as the one of IPv4 that it is, for clients are never mapped there.
func TestMappedNetwork(t *testing.T) {
	cfg, err := config.Parse([]string{"amavis-milter", "-w", "/", "--skip", "::ffff:192.0.2.0/120", "--policy-bank", "::ffff:192.0.2.1=ONE"}, plainEnv())
	if err != nil {
		t.Fatal(err)
	}
	opt := filterOptions(cfg, nil, slog.New(slog.DiscardHandler))
	network := func(text string) filter.Match {
		return filter.Match{Kind: filter.MatchNetwork, Network: netip.MustParsePrefix(text)}
	}
	if want := network("192.0.2.0/24"); !slices.Equal(opt.Skips, []filter.Match{want}) {
		t.Errorf("skips %v, want %v", opt.Skips, want)
	}
	if want := (filter.PolicyBank{Match: network("192.0.2.1/32"), Name: "ONE"}); !slices.Equal(opt.PolicyBanks, []filter.PolicyBank{want}) {
		t.Errorf("policy banks %v, want %v", opt.PolicyBanks, want)
	}
}

// TestDefaultsAgree: the deadline that nobody wrote is the same everywhere.
func TestDefaultsAgree(t *testing.T) {
	cfg, err := config.Parse([]string{"amavis-milter", "-w", "/"}, plainEnv())
	if err != nil || cfg.Deadline != filter.DefaultDeadline {
		t.Errorf("%v, %v; the filter says %v", cfg.Deadline, err, filter.DefaultDeadline)
	}
}
