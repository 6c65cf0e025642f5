package filter

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/logging"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
)

// usualNames are the header fields of a mail that came a long way.
var usualNames = []string{
	"Received", "Received", "Received", "Received", "DKIM-Signature", "X-Google-DKIM-Signature", "X-Gm-Message-State",
	"X-Google-Smtp-Source", "X-Received", "MIME-Version", "References", "In-Reply-To", "From", "Date", "Message-ID",
	"Subject", "To", "Cc", "Content-Type", "List-Id", "List-Unsubscribe", "Precedence", "Reply-To", "X-Mailer", "Return-Path",
}

const usualValue = " a value of the length that most of them have, more or less"

func BenchmarkHeaderFields(b *testing.B) {
	for _, c := range []struct {
		name  string
		names []string
	}{{"usual", usualNames}, {"1000 names", manyNames(1000)}, {"10000 names", manyNames(MaxHeaderFields)}} {
		b.Run(c.name, func(b *testing.B) {
			all := &namesInAll{log: slog.New(slog.DiscardHandler)}
			b.ReportAllocs()
			for b.Loop() {
				h := headerFields{inAll: all}
				for _, name := range c.names {
					if err := h.add(name, usualValue); err != nil {
						b.Fatal(err)
					}
				}
				if h.count("X-Virus-Scanned") != 0 || h.spelling("x-spam-flag") != "x-spam-flag" {
					b.Fatal("found what is not there")
				}
				h.release()
			}
		})
	}
}

func manyNames(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("X-Field-%d", i))
	}
	return names
}

func BenchmarkReceivedField(b *testing.B) {
	env, now := testEnvelope(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		receivedField(env, "milter.example.net", now)
	}
}

func BenchmarkRequest(b *testing.B) {
	plain, authenticated := testEnvelope(), testEnvelope()
	authenticated.Auth = milter.Auth{Type: "PLAIN", Authen: "ann", SSF: "256"}
	authenticated.DaemonName = "MTA-v6"
	for name, env := range map[string]*milter.Envelope{"plain": plain, "authenticated": authenticated} {
		b.Run(name, func(b *testing.B) {
			f := New(Options{DaemonPolicyBank: true})
			defer f.Close()
			b.ReportAllocs()
			for b.Loop() {
				f.request(env, "/w/milter/x", "/w/milter/x/email.txt")
			}
		})
	}
}

func BenchmarkEdits(b *testing.B) {
	env, fields := testEnvelope(), headerOf(b, usualNames...)
	given := []ampdp.Edit{
		ampdp.AddHeader{Name: "X-Virus-Scanned", Value: "amavis at example.org"},
		ampdp.DeleteHeader{Index: 1, Name: "X-Spam-Flag"}, ampdp.AddHeader{Name: "X-Spam-Flag", Value: "NO"},
	}
	b.ReportAllocs()
	for b.Loop() {
		acceptChanges(given, env.Recipients, fields, DefaultXHeader)
	}
}

// One whole message of 4 KB, but for the MTA's side: spool, scanner and log line.
func BenchmarkMessage(b *testing.B) {
	address := b.TempDir() + "/scanner"
	listener, err := net.Listen("unix", address)
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go answerAll(listener)
	log := slog.New(logging.NewStderr(io.Discard, slog.LevelInfo))
	work := workDir(b)
	if err := os.Chmod(work, 0o750); err != nil {
		b.Fatal(err)
	}
	store, err := spool.Open(work, spool.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	f := New(Options{
		Spool: store, Scanners: []*ampdp.Client{{Network: "unix", Address: address}},
		XHeader: DefaultXHeader, Log: log,
	})
	defer f.Close()
	body := bytes.Repeat([]byte("A line of text as it stands in a mail, with some words in it.\r\n"), 48)
	b.ReportAllocs()
	for b.Loop() {
		tx := f.Begin(testEnvelope())
		for _, name := range usualNames {
			tx.Header(name, usualValue)
		}
		tx.EndHeader()
		tx.Body(body)
		v := tx.Verdict(b.Context())
		if v.Disposition() != milter.DispositionAccept {
			b.Fatal(v.Reply())
		}
		tx.End(milter.Outcome{Sent: v})
	}
}

// answerAll gives every request the same reply with two edits, with as little work
// as possible.
func answerAll(listener net.Listener) {
	reply := ampdptest.Lines("version_server=2", "log_id=01234-01", ampdptest.Line("setreply", "250", "2.6.0", "Ok, id=01234-01"),
		ampdptest.Line("addheader", "X-Virus-Scanned", "amavis at example.org"), ampdptest.Line("addheader", "X-Spam-Flag", "NO"), "return_value=continue")
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
}
