package spool

import (
	"bytes"
	"testing"
)

// convertPieces converts a stream that was cut after the given numbers of bytes,
// into a buffer of the given size that is emptied when it is full.
func convertPieces(whole []byte, cuts []byte, size int) []byte {
	var n newlines
	var out []byte
	space := make([]byte, size)
	filled := 0
	feed := func(piece []byte) {
		for len(piece) > 0 {
			nDst, nSrc := n.convert(space[filled:], piece)
			filled += nDst
			piece = piece[nSrc:]
			if len(piece) > 0 && filled < size {
				panic("convert stopped though there was room")
			}
			if filled == size {
				out = append(out, space...)
				filled = 0
			}
		}
	}
	for _, cut := range cuts {
		at := min(int(cut), len(whole))
		feed(whole[:at])
		whole = whole[at:]
	}
	feed(whole)
	out = append(out, space[:filled]...)
	if n.finish() {
		out = append(out, '\r')
	}
	return out
}

func TestNewlines(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"plain", "a\r\nb\r\n", "a\nb\n"},
		{"LF stays", "a\nb\n", "a\nb\n"},
		{"lone CR stays", "a\rb", "a\rb"},
		{"last CR stays", "a\r", "a\r"},
		{"only a CR", "\r", "\r"},
		{"only CRs", "\r\r\r", "\r\r\r"},
		{"CR before CR LF stays", "a\r\r\n", "a\r\n"},
		{"LF CR stays", "\n\r", "\n\r"},
		{"CR LF CR", "\r\n\r", "\n\r"},
		{"NUL stays", "a\x00\r\n\x00", "a\x00\n\x00"},
		{"bytes over 127 stay", "\xff\r\n\x85", "\xff\n\x85"},
		{"empty lines", "\r\n\r\n\r\n", "\n\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for size := 1; size <= 5; size++ {
				for cut := range len(tt.in) + 1 {
					for second := range len(tt.in) - cut + 1 {
						got := convertPieces([]byte(tt.in), []byte{byte(cut), byte(second)}, size)
						if string(got) != tt.want {
							t.Fatalf("cut after %d and %d, buffer of %d: %q, want %q", cut, second, size, got, tt.want)
						}
					}
				}
			}
		})
	}
}

func FuzzNewlines(f *testing.F) {
	f.Add([]byte("a\r\nb\r\r\nc\r"), []byte{2, 1, 3}, uint8(3))
	f.Add([]byte("\r\n"), []byte{1}, uint8(1))
	f.Add([]byte("\r\r\n\n\x00\r"), []byte{1, 0, 1, 1}, uint8(2))
	f.Fuzz(func(t *testing.T, whole, cuts []byte, size uint8) {
		got := convertPieces(whole, cuts, int(size)+1)
		want := bytes.ReplaceAll(whole, []byte("\r\n"), []byte("\n"))
		if !bytes.Equal(got, want) {
			t.Fatalf("%q cut by %v: %q, want %q", whole, cuts, got, want)
		}
	})
}
