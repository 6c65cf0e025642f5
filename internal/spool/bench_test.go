package spool

import (
	"bytes"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// One message from its making to its removal, in chunks as an MTA sends them, without
// limits and with both.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) { benchmarkMessage(b, size, Options{}) })
		b.Run(fmt.Sprintf("%dKB/limits", size>>10), func(b *testing.B) {
			benchmarkMessage(b, size, Options{MinFree: 8 << 20, MaxBytes: 1 << 40})
		})
	}
}

func benchmarkMessage(b *testing.B, size int, opt Options) {
	s, err := Open(workDir(b), opt)
	must(b, err)
	defer s.Close()
	looks := 0
	s.limits.space.statfs = func(fd int, st *unix.Statfs_t) error {
		looks++
		return unix.Fstatfs(fd, st)
	}
	body := bytes.Repeat([]byte("A line of text as it stands in a mail, with some words in it.\r\n"), size/64)
	b.SetBytes(int64(size))
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
			n := min(65535, len(rest))
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

func BenchmarkNewlines(b *testing.B) {
	body := bytes.Repeat([]byte("A line of text as it stands in a mail, with some words in it.\r\n"), 1000)
	space := make([]byte, len(body))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var n newlines
		n.convert(space, body)
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
