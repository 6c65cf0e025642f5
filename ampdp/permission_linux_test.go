package ampdp_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// nobody is any user id that owns nothing here.
const nobody = 65534

// asNobody runs f with the file system rights of nobody if we are root, whom no
// mode keeps out. The thread that lost its rights ends with the goroutine.
func asNobody(t *testing.T, f func()) {
	if os.Geteuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0)
		if now, _, _ := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); now != nobody {
			t.Errorf("still user %d", now)
			return
		}
		f()
	}()
	<-done
}

func TestMissingPermission(t *testing.T) {
	tests := []struct {
		name            string
		outer, sub, own os.FileMode
		want            string // PATH stands for the directory of the server
	}{
		{"the socket", 0o755, 0o755, 0o500, "write permission (w) on the socket PATH/sub/amavisd.sock, whose mode is Sr-x------"},
		{"its directory", 0o755, 0o600, 0o777, "search permission (x) on the directory PATH/sub, whose mode is drw-------"},
		{"a directory above", 0o600, 0o755, 0o777, "search permission (x) on the directory PATH, whose mode is drw-------"},
		{"none", 0o711, 0o711, 0o777, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			outer, err := os.MkdirTemp("", "ampdp-permission-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				os.Chmod(outer, 0o700)
				os.Chmod(outer+"/sub", 0o700)
				os.RemoveAll(outer)
			})
			socket := filepath.Join(outer, "sub", "amavisd.sock")
			if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
				t.Fatal(err)
			}
			server, err := ampdptest.Listen("unix", socket, ampdptest.Continue())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Close)
			err = errors.Join(os.Chmod(socket, tt.own), os.Chmod(outer+"/sub", tt.sub), os.Chmod(outer, tt.outer))
			if err != nil {
				t.Fatal(err)
			}
			asNobody(t, func() { _, err = server.Client().Do(t.Context(), smallRequest()) })
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseUnavailable, Refused: true}, syscall.EACCES)
			if want := strings.ReplaceAll(tt.want, "PATH", outer); !strings.Contains(err.Error(), want) {
				t.Errorf("no %q in %v", want, err)
			}
		})
	}
}
