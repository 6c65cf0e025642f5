package daemon

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNobodyConnectsTooEarly hammers the path from before it exists: whoever gets
// through sees the socket as it is meant to be.
func TestNobodyConnectsTooEarly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a socket to a group needs root")
	}
	const rounds, hammers, group = 60, 2, 12345
	path := filepath.Join(shortTempDir(t), "s")
	for range rounds {
		var ready, done sync.WaitGroup
		for range hammers {
			ready.Add(1)
			done.Go(func() {
				ready.Done()
				for t.Context().Err() == nil {
					conn, err := net.Dial("unix", path)
					if err != nil {
						continue // not there, or nobody listens yet
					}
					var stat unix.Stat_t
					if err := unix.Lstat(path, &stat); err != nil || stat.Mode&0o777 != 0o660 || stat.Gid != group {
						t.Errorf("connected to a socket of mode %04o and group %d: %v", stat.Mode&0o777, stat.Gid, err)
					}
					conn.Close()
					return
				}
			})
		}
		ready.Wait()
		cfg := localConfig(path)
		cfg.GroupGID = group
		listener := mustListen(t, cfg)
		done.Wait()
		listener.Close()
	}
}

// TestListenRace: of many who start at once upon a stale socket, one gets it, and
// its socket stays.
func TestListenRace(t *testing.T) {
	const rounds, rivals = 50, 8
	path := filepath.Join(shortTempDir(t), "s")
	for range rounds {
		staleSocket(t, path)
		results := make(chan *Listener, rivals)
		var start sync.WaitGroup
		start.Add(1)
		for range rivals {
			go func() {
				start.Wait()
				listener, err := Listen(localConfig(path))
				if err != nil && ExitCode(err) != ExitUnavailable {
					t.Error(err)
				}
				results <- listener
			}()
		}
		start.Done()
		var winners []*Listener
		for range rivals {
			if listener := <-results; listener != nil {
				winners = append(winners, listener)
			}
		}
		if len(winners) != 1 {
			t.Fatalf("%d of %d got the socket", len(winners), rivals)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("the winner's socket is gone: %v", err)
		}
		conn.Close()
		winners[0].Close()
		gone(t, path)
	}
}

// TestUnlinkOnlyOurs: a path that is another's by now is left alone, one that is
// gone is no error.
func TestUnlinkOnlyOurs(t *testing.T) {
	path := filepath.Join(shortTempDir(t), "s")
	first := mustListen(t, localConfig(path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := mustListen(t, localConfig(path))
	for range 2 {
		if err := first.Close(); err != nil {
			t.Error(err)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("the second one's socket is gone: %v", err)
		}
		conn.Close()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	third := mustListen(t, localConfig(path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := third.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("a stranger's file is gone: %v", err)
	}
}
