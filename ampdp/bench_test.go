package ampdp_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

func BenchmarkReadReply(b *testing.B) {
	tagged, err := os.ReadFile("testdata/tagged.txt")
	if err != nil {
		b.Fatal(err)
	}
	long := ampdptest.Lines(ampdptest.Line("addheader", "X-Long", strings.Repeat("some words\n\t", 20_000)), "return_value=continue")
	for name, raw := range map[string][]byte{"Tagged": tagged, "240kB": []byte(long)} {
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
	server := ampdptest.NewServer(b, ampdptest.Continue("addheader=X-A b", "addheader=X-B b"))
	client := server.Client()
	request := smallRequest()
	b.ReportAllocs() // those of the server included
	for b.Loop() {
		if _, err := client.Do(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}
