package ampdp_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

func BenchmarkReadReply(b *testing.B) {
	tagged, err := os.ReadFile("testdata/tagged.txt")
	if err != nil {
		b.Fatal(err)
	}
	long := ampdptest.Lines(ampdptest.Line("addheader", "X-Long", strings.Repeat("some words\n\t", 20_000)), "return_value=continue")
	for name, raw := range map[string][]byte{"TwoEdits": []byte(twoEdits), "Tagged": tagged, "240kB": []byte(long)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			r := bytes.NewReader(raw)
			for b.Loop() {
				r.Reset(raw)
				if _, err := ampdp.ReadReply(r, ampdp.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendTo(b *testing.B) {
	usual := &ampdp.Request{
		QueueID: "3Qx1", ProtocolName: "ESMTP", HeloName: "mail.example.com", ClientName: "mail.example.com", ClientAddress: "192.0.2.1", ClientPort: 45678,
		Sender: "<ann@example.com>", Recipients: []string{"<bob@example.net>"}, TempDir: "/var/amavis/milter/amavis-milter-3Qx1",
		PolicyBanks: []string{"SMTP_AUTH", "SMTP_AUTH_PLAIN"},
	}
	many := *usual
	many.Recipients = slices.Repeat([]string{"<someone.else@example.net>"}, 1000)
	for name, request := range map[string]*ampdp.Request{"1": usual, "1000": &many} {
		b.Run(name+"Recipients", func(b *testing.B) {
			b.ReportAllocs()
			buffer := make([]byte, 0, 1<<20)
			for b.Loop() {
				if _, err := request.AppendTo(buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDo(b *testing.B) {
	for _, network := range []string{"unix", "tcp"} {
		b.Run(network, func(b *testing.B) {
			client := &ampdp.Client{Network: network, Address: listenAndAnswer(b, network, twoEdits), Timeout: time.Minute}
			request := smallRequest()
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Do(ctx, request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// twoEdits is the reply to a clean mail that gets two header fields.
var twoEdits = ampdptest.Lines("version_server=2", "log_id=01234-01", ampdptest.Line("setreply", "250", "2.6.0", "Ok, id=01234-01, continue delivery"),
	ampdptest.Line("addheader", "X-Virus-Scanned", "amavis at example.org"), ampdptest.Line("addheader", "X-Spam-Flag", "NO"),
	"return_value=continue", "exit_code=0")

// listenAndAnswer gives each connection the same reply, with as little work as
// possible, and returns where it listens.
func listenAndAnswer(b *testing.B, network, reply string) (address string) {
	address = "127.0.0.1:0"
	if network == "unix" {
		address = b.TempDir() + "/s"
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		request := make([]byte, 64<<10)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			for n := 0; !bytes.HasSuffix(request[:n], []byte("\r\n\r\n")); {
				m, err := conn.Read(request[n:])
				if err != nil {
					break
				}
				n += m
			}
			io.WriteString(conn, reply)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}
