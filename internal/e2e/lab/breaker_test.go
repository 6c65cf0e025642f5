package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// echo is a server that sends back what it gets, and ends when it does.
func echo(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return listener
}

// breaker is one in front of echo.
func breaker(t *testing.T, network string) (*Breaker, string) {
	t.Helper()
	dir := t.TempDir()
	address := filepath.Join(dir, "target")
	if network == "tcp" {
		address = "127.0.0.1:0"
	}
	socket := filepath.Join(dir, "breaker")
	b, err := StartBreaker("unix", socket, network, echo(t, network, address).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b, socket
}

// exchange sends bytes through a socket and returns what comes back until the end.
func exchange(t *testing.T, socket string, sent []byte) []byte {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		conn.Write(sent)
		conn.(*net.UnixConn).CloseWrite()
	}()
	got, _ := io.ReadAll(conn)
	return got
}

func TestBreakerHarms(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789abcdef"), breakerPiece/4) // four pieces
	const after = breakerPiece + 7
	for _, network := range []string{"unix", "tcp"} {
		for _, backward := range []bool{false, true} {
			for kind, want := range map[FaultKind]int{
				FaultNone: len(sent), FaultCut: after, FaultReset: after, FaultStall: len(sent), FaultSlow: len(sent),
			} {
				t.Run(fmt.Sprint(network, backward, kind), func(t *testing.T) {
					b, socket := breaker(t, network)
					const delay = 50 * time.Millisecond
					b.Break(func() Fault { return Fault{Kind: kind, Backward: backward, After: after, Time: delay} })
					began := time.Now()
					got := exchange(t, socket, sent)
					took := time.Since(began)
					if !bytes.HasPrefix(sent, got) || len(got) > want {
						t.Errorf("%d bytes came back, want the first %d", len(got), want)
					}
					// An end that is cut off forwards loses what is on its way back.
					if len(got) < want && (backward || want == len(sent)) {
						t.Errorf("%d bytes came back, want %d", len(got), want)
					}
					least := map[FaultKind]time.Duration{FaultStall: delay, FaultSlow: 2 * delay}[kind]
					if took < least {
						t.Errorf("it took %v, want at least %v", took, least)
					}
					if harmed := b.Harmed() > 0; harmed != (kind != FaultNone) {
						t.Errorf("harmed %d times by %v", b.Harmed(), kind)
					}
					b.Break(nil)
					if got := exchange(t, socket, sent); !bytes.Equal(got, sent) {
						t.Errorf("mended, it passes %d of %d bytes", len(got), len(sent))
					}
				})
			}
		}
	}
}

func TestBreakerCutsAll(t *testing.T) {
	b, socket := breaker(t, "tcp")
	b.Break(func() Fault { return Fault{Kind: FaultStall, Time: time.Hour} })
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("never to arrive"))
	err = Poll(time.Second, "the connection to stall", func() error {
		if b.Harmed() == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := b.CutAll(true); n != 1 {
		t.Errorf("%d connections were cut, want 1", n)
	}
	if n, _ := conn.Read(make([]byte, 100)); n != 0 {
		t.Errorf("%d bytes came back", n)
	}
}
