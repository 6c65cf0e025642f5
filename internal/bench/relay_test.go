package bench

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// echo answers each byte at once.
func echo(t *testing.T) Endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return Endpoint{"tcp", l.Addr().String()}
}

// TestRelay: all arrives, in its order, no earlier than after a round trip; what is sent
// in a row does not wait for each other.
func TestRelay(t *testing.T) {
	t.Parallel()
	const delay, packets = 50 * time.Millisecond, 20
	r, err := NewRelay(newTestLoop(t), echo(t), delay)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := net.Dial("tcp", r.At.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(waitLimit))
	began := time.Now()
	// Each byte goes on its way by itself, when the one before may not have come back.
	for i := range packets {
		if _, err := conn.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, packets)
	for i := range got {
		if _, err := io.ReadFull(conn, got[i:i+1]); err != nil || got[i] != byte(i) {
			t.Fatalf("byte %d is %d, error %v", i, got[i], err)
		}
		if spent := time.Since(began); spent < 2*delay {
			t.Errorf("byte %d came back after %v", i, spent)
		}
	}
	if spent := time.Since(began); spent > packets*delay {
		t.Errorf("%d bytes came back after %v: they waited for each other", packets, spent)
	}
}

// TestRelayMuch: more than sockets hold goes through.
func TestRelayMuch(t *testing.T) {
	t.Parallel()
	r, err := NewRelay(newTestLoop(t), echo(t), time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := net.Dial("tcp", r.At.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(waitLimit))
	const size = 8 << 20
	sent := make(chan error, 1)
	go func() {
		p := make([]byte, size)
		for i := range p {
			p[i] = byte(i % 251)
		}
		_, err := conn.Write(p)
		sent <- err
	}()
	got := make([]byte, size)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	for i, b := range got {
		if b != byte(i%251) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// TestRelayHangsUp: the end of a connection passes, each way, and nothing is left.
func TestRelayHangsUp(t *testing.T) {
	t.Parallel()
	milter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer milter.Close()
	r, err := NewRelay(newTestLoop(t), Endpoint{"tcp", milter.Addr().String()}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, first := range []string{"MTA", "milter"} {
		near, err := net.Dial("tcp", r.At.Address)
		if err != nil {
			t.Fatal(err)
		}
		far, err := milter.Accept()
		if err != nil {
			t.Fatal(err)
		}
		hangsUp, other := near, far
		if first == "milter" {
			hangsUp, other = far, near
		}
		hangsUp.Write([]byte("last words"))
		hangsUp.Close()
		other.SetDeadline(time.Now().Add(waitLimit))
		if words, err := io.ReadAll(other); err != nil || string(words) != "last words" {
			t.Errorf("the %s hung up: the other end read %q, error %v", first, words, err)
		}
		other.Close()
	}
	if err := poll(waitLimit, func() error {
		n := 0
		r.loop.Do(func() { n = len(r.ends) })
		if n > 0 {
			return fmt.Errorf("%d ends are left", n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
