package spool

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// milterPiece is the most of a body that an MTA gives in one piece, in bytes.
const milterPiece = 65535

// Line ends that lie across the end of a buffer of ours, or of a piece of the MTA's,
// or of both.
func TestLineEndsAtSeams(t *testing.T) {
	s := open(t, workDir(t))
	const header = "\n"
	for _, seam := range []int{smallBuffer, largeBuffer, milterPiece, 2 * milterPiece, 2 * largeBuffer} {
		for _, ends := range []string{"\r\n", "\r\r\n", "\r", "\r\n\r\n", "\n\r"} {
			for at := seam - 3; at <= seam+1; at++ {
				t.Run(fmt.Sprintf("%q at %d", ends, at), func(t *testing.T) {
					body := append(bytes.Repeat([]byte("x"), at-len(header)), ends+"end"+ends...)
					for _, piece := range []int{milterPiece, seam, at, at + 1, len(body)} {
						d := create(t, s, "Q")
						for rest := body; len(rest) > 0; {
							n := min(piece, len(rest))
							must(t, d.Body(rest[:n]))
							rest = rest[n:]
						}
						m := seal(t, d)
						wantFile(t, m.File(), header+strings.ReplaceAll(string(body), "\r\n", "\n"))
						must(t, m.Remove())
					}
				})
			}
		}
	}
}
