package spool

import (
	"bytes"
	"fmt"
	"testing"
)

// One message from its making to its removal, in chunks as an MTA sends them.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKB", size>>10), func(b *testing.B) {
			s := open(b, workDir(b))
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
		})
	}
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
