package config

import (
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
)

// Env is what Parse asks the machine.
type Env struct {
	Euid         int
	LookupUser   func(name string) (*user.User, error)
	LookupGroup  func(name string) (*user.Group, error)
	LookupPort   func(network, service string) (int, error)
	Stat         func(path string) (fs.FileInfo, error)
	EvalSymlinks func(path string) (string, error)
}

// SystemEnv is the Env of this process.
func SystemEnv() Env {
	return Env{
		Euid:         os.Geteuid(),
		LookupUser:   user.Lookup,
		LookupGroup:  user.LookupGroup,
		LookupPort:   net.LookupPort,
		Stat:         os.Stat,
		EvalSymlinks: filepath.EvalSymlinks,
	}
}

func sameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) }
