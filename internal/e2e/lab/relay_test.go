package lab

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// The relay reads the mail file while it is still there: before the other side has
// all of the request, and so before it can have answered.
func TestRelayReadsSpool(t *testing.T) {
	dir := t.TempDir()
	mail, target, socket := filepath.Join(dir, "email.txt"), filepath.Join(dir, "amavisd"), filepath.Join(dir, "relay")
	if err := os.WriteFile(mail, []byte("the mail\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", target)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	request := "request=AM.PDP\r\nmail_file=" + mail + "\r\n\r\n"
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(request))); err == nil {
			os.Remove(mail)
			io.WriteString(conn, "return_value=continue\r\n\r\n")
		}
	}()
	relay, err := StartRelay(socket, target)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, piece := range []string{request[:20], request[20 : len(request)-1], request[len(request)-1:]} {
		if _, err := io.WriteString(conn, piece); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	exchanges := relay.Exchanges(0)
	if len(exchanges) != 1 || string(exchanges[0].Spooled) != "the mail\n" || string(exchanges[0].Request) != request {
		t.Errorf("exchanges %q, want one with the request and the mail", exchanges)
	}
}
