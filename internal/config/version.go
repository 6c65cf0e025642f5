package config

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set at link time by packagers, with -ldflags
// "-X github.com/amavis-milter/amavis-milter/internal/config.version=VERSION".
var version string

// Version returns the version of this binary: what the linker was told, or else
// what the go command recorded.
func Version() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

// VersionText returns what --version prints, with its line end.
func (c *Config) VersionText() string {
	return fmt.Sprintf("%s %s (%s)\n", c.dialect.program, Version(), runtime.Version())
}
