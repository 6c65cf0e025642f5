package spool

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// memoryDir is where Linux systems have a tmpfs that everybody may write to.
const memoryDir = "/dev/shm"

// One message from its making to its removal, in memory and on the disk, without
// limits and with both.
func BenchmarkMessage(b *testing.B) {
	small := textLines(4 << 10)
	for _, place := range []struct{ name, dir string }{{"tmpfs", memoryDir}, {"disk", os.TempDir()}} {
		b.Run(place.name+"/4KB", func(b *testing.B) { benchmarkMessage(b, place.dir, small, Options{}) })
		b.Run(place.name+"/4KB/limits", func(b *testing.B) {
			benchmarkMessage(b, place.dir, small, Options{MinFree: 8 << 20, MaxBytes: 1 << 40})
		})
	}
	b.Run("tmpfs/1MB", func(b *testing.B) { benchmarkMessage(b, memoryDir, textLines(1<<20), Options{}) })
	b.Run("tmpfs/10MB", func(b *testing.B) { benchmarkMessage(b, memoryDir, base64Lines(10<<20), Options{}) })
	b.Run("disk/10MB", func(b *testing.B) { benchmarkMessage(b, os.TempDir(), base64Lines(10<<20), Options{}) })
}

func benchmarkMessage(b *testing.B, place string, body []byte, opt Options) {
	s, err := Open(workDirIn(b, place), opt)
	must(b, err)
	defer s.Close()
	looks := 0
	s.limits.space.statfs = func(fd int, st *unix.Statfs_t) error {
		looks++
		return unix.Fstatfs(fd, st)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		d, err := s.Create("4F1D2C3B5A")
		if err != nil {
			b.Fatal(err)
		}
		for range 25 {
			d.Header("X-Some-Field", " with a value of usual length")
		}
		for rest := body; len(rest) > 0; {
			n := min(milterPiece, len(rest))
			d.Body(rest[:n])
			rest = rest[n:]
		}
		m, err := d.Seal()
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Remove(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(looks)/float64(b.N), "statfs/op")
}

// textLines returns text as it stands in a mail.
func textLines(size int) []byte {
	return bytes.Repeat([]byte("A line of text as it stands in a mail, with some words in it.\r\n"), size/63)
}

// base64Lines returns what an attachment looks like: lines of 76 characters.
func base64Lines(size int) []byte {
	raw := make([]byte, 57)
	source := rand.NewChaCha8([32]byte{})
	var text []byte
	for len(text) < size {
		source.Read(raw)
		text = append(base64.StdEncoding.AppendEncode(text, raw), "\r\n"...)
	}
	return text[:size]
}

func BenchmarkNewlines(b *testing.B) {
	for _, kind := range []struct {
		name string
		body []byte
	}{
		{"text", textLines(64 << 10)},
		{"base64", base64Lines(64 << 10)},
		{"long", bytes.Repeat(append(bytes.Repeat([]byte("x"), 998), "\r\n"...), 65)},
		{"empty", bytes.Repeat([]byte("\r\n"), 32<<10)},
		{"CR", bytes.Repeat([]byte("\r"), 64<<10)},
	} {
		b.Run(kind.name, func(b *testing.B) {
			space := make([]byte, len(kind.body))
			b.SetBytes(int64(len(kind.body)))
			b.ReportAllocs()
			for b.Loop() {
				var n newlines
				n.convert(space, kind.body)
			}
		})
	}
}

// What the limits cost each write, when several write at once.
func BenchmarkLimits(b *testing.B) {
	s, err := Open(workDir(b), Options{MinFree: 8 << 20, MaxBytes: 1 << 40})
	must(b, err)
	defer s.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			taken, err := s.limits.takeFile(s.home, 0, 5000)
			if err != nil {
				b.Error(err)
			}
			s.limits.space.done(taken)
			s.limits.bytes.give(5000)
		}
	})
}
