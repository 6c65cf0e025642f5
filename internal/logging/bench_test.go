package logging

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// The line of one message, as the daemon writes it.
func BenchmarkLine(b *testing.B) {
	b.Run("stderr", func(b *testing.B) { benchmarkLine(b, NewStderr(io.Discard, slog.LevelInfo)) })
	b.Run("file", func(b *testing.B) {
		file, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { file.Close() })
		benchmarkLine(b, NewStderr(file, slog.LevelInfo))
	})
	b.Run("pipe", func(b *testing.B) {
		r, w := blockingPipe(b)
		go io.Copy(io.Discard, r)
		benchmarkLine(b, NewStderr(w, slog.LevelInfo))
	})
	b.Run("syslog", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "log")
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			space := make([]byte, 64<<10)
			for {
				if _, err := conn.Read(space); err != nil {
					return
				}
			}
		}()
		b.Cleanup(func() { conn.Close() })
		s := newSyslog("amavis-milter", 4711, slog.LevelInfo, []string{path})
		b.Cleanup(func() { s.Close() })
		benchmarkLine(b, s)
	})
}

func benchmarkLine(b *testing.B, h slog.Handler) {
	log := slog.New(h)
	b.ReportAllocs()
	for b.Loop() {
		log.With(QueueIDKey, "415G78Xq012345").LogAttrs(context.Background(), slog.LevelInfo, "",
			slog.String("verdict", "accept"), slog.String("log_id", "01234-01"), slog.String("from", "<ann@example.org>"),
			slog.Int("nrcpt", 1), slog.Int64("size", 4123), slog.String("wait", "0.000"), slog.String("scan", "0.812"),
			slog.String("client", "192.0.2.1"))
	}
}
