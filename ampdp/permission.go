package ampdp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// missingPermission says which permission keeps this process from a local socket:
// search permission on a directory above it, or write permission on the socket
// itself (unix(7), "Pathname socket ownership and permissions").
func missingPermission(socket string) string {
	path := []string{socket}
	for dir := filepath.Dir(socket); dir != path[len(path)-1]; dir = filepath.Dir(dir) {
		path = append(path, dir)
	}
	slices.Reverse(path) // from the root down
	for i, dir := range path[:len(path)-1] {
		if _, err := os.Stat(path[i+1]); errors.Is(err, fs.ErrPermission) {
			return lacks("search permission (x) on the directory", dir)
		}
	}
	return lacks("write permission (w) on the socket", socket)
}

func lacks(permission, path string) string {
	mode := "unknown"
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().String()
	}
	return fmt.Sprintf("user %d lacks %s %s, whose mode is %s; give it a group that has it, or change the mode",
		os.Geteuid(), permission, path, mode)
}
