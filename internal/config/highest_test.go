package config

import (
	"slices"
	"testing"
	"time"
)

// TestHighest: a number above the highest starts the program all the same, with the
// highest and a warning; the highest itself is nothing special.
func TestHighest(t *testing.T) {
	for _, tt := range []struct {
		program, option, value, warning string
		got                             func(c *Config) any
		want                            any
	}{
		{"amavis-milter", "-m", "100000", "", func(c *Config) any { return c.MaxConns }, 100_000},
		{"amavis-milter", "-m", "100001", "-m/--max-conns: 100001 is taken for 100000, the highest", func(c *Config) any { return c.MaxConns }, 100_000},
		{"amavisd-milter", "-m", "99999999999999999999", "-m/--max-conns: 99999999999999999999 is taken for 100000, the highest", func(c *Config) any { return c.MaxConns }, 100_000},
		{"amavis-milter", "-q", "65535", "", func(c *Config) any { return c.Backlog }, 65_535},
		{"amavisd-milter", "-q", "65536", "-q/--backlog: 65536 is taken for 65535, the highest", func(c *Config) any { return c.Backlog }, 65_535},
		{"amavis-milter", "--max-sessions", "1000000", "", func(c *Config) any { return c.MaxSessions }, 1_000_000},
		{"amavis-milter", "--max-sessions", "1000001", "--max-sessions: 1000001 is taken for 1000000, the highest", func(c *Config) any { return c.MaxSessions }, 1_000_000},
		{"amavis-milter", "--max-sessions-per-address", "1000001", "--max-sessions-per-address: 1000001 is taken for 1000000, the highest", func(c *Config) any { return c.MaxSessionsPerAddress }, 1_000_000},
		{"amavis-milter", "--max-spool", "1024T", "", func(c *Config) any { return c.MaxSpool }, int64(1 << 50)},
		{"amavis-milter", "--max-spool", "1025T", "--max-spool: 1025T is taken for 1024T, the highest", func(c *Config) any { return c.MaxSpool }, int64(1 << 50)},
		{"amavis-milter", "--min-free", "99999999999999999999", "--min-free: 99999999999999999999 is taken for 1024T, the highest", func(c *Config) any { return c.MinFree }, int64(1 << 50)},
		{"amavis-milter", "--min-free", "9223372036854775807K", "--min-free: 9223372036854775807K is taken for 1024T, the highest", func(c *Config) any { return c.MinFree }, int64(1 << 50)},
		{"amavis-milter", "--min-free", "1k", "", func(c *Config) any { return c.MinFree }, int64(1 << 10)},
		{"amavisd-milter", "-d", "9", "", func(c *Config) any { return c.LogLevel.String() }, "DEBUG"},
		{"amavisd-milter", "-d", "10", "-d/--debug-level: 10 is taken for 9, the highest", func(c *Config) any { return c.LogLevel.String() }, "DEBUG"},
		{"amavisd-milter", "-t", "86400", "", func(c *Config) any { return c.Timeout }, 24 * time.Hour},
		{"amavisd-milter", "-t", "86401", "-t/--timeout: 86401 is taken for 24h, the longest", func(c *Config) any { return c.Timeout }, 24 * time.Hour},
		{"amavisd-milter", "-t", "604800", "-t/--timeout: 604800 is taken for 24h, the longest", func(c *Config) any { return c.Timeout }, 24 * time.Hour},
		{"amavis-milter", "-t", "24h1ns", "-t/--timeout: 24h1ns is taken for 24h, the longest", func(c *Config) any { return c.Timeout }, 24 * time.Hour},
		{"amavis-milter", "-t", "9223372036", "-t/--timeout: 9223372036 is taken for 24h, the longest", func(c *Config) any { return c.Timeout }, 24 * time.Hour},
		{"amavis-milter", "-t", "9223372037", "-t/--timeout: 9223372037 is taken for 24h, the longest", func(c *Config) any { return c.Timeout }, 24 * time.Hour},
		{"amavis-milter", "-t", "99999999999999999999", "-t/--timeout: 99999999999999999999 is taken for 24h, the longest", func(c *Config) any { return c.Timeout }, 24 * time.Hour},
	} {
		c, err := Parse([]string{tt.program, tt.option, tt.value}, fakeEnv())
		if err != nil {
			t.Errorf("%s %s: %v", tt.option, tt.value, err)
			continue
		}
		if got := tt.got(c); got != tt.want {
			t.Errorf("%s %s: got %v, want %v", tt.option, tt.value, got, tt.want)
		}
		if (tt.warning != "") != slices.Contains(c.Warnings, tt.warning) {
			t.Errorf("%s %s: warnings %q, want %q", tt.option, tt.value, c.Warnings, tt.warning)
		}
	}
}
