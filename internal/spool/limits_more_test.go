package spool

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSweepLinesAround: what the sweep leaves alone is told up to a number of lines,
// and one more line has the number of the others.
func TestSweepLinesAround(t *testing.T) {
	for _, n := range []int{maxSweepLines - 1, maxSweepLines, maxSweepLines + 1} {
		work := workDir(t)
		for i := range n {
			must(t, os.MkdirAll(fmt.Sprintf("%s/milter/x%d", work, i), 0o750))
		}
		log, text := logged()
		s, err := Open(work, Options{Log: log})
		must(t, err)
		if got := strings.Count(text.String(), "\n"); got != min(n, maxSweepLines+1) {
			t.Errorf("%d strangers: %d lines: %s", n, got, text)
		}
		if told := strings.Contains(text.String(), "count=1"); told != (n > maxSweepLines) {
			t.Errorf("%d strangers: the others are told: %v", n, told)
		}
		must(t, s.Close())
	}
}

// TestTreeDepthAround: directories are removed however deep they are, with as many
// descriptors as there are levels that are walked down.
func TestTreeDepthAround(t *testing.T) {
	for _, depth := range []int{maxTreeDepth - 1, maxTreeDepth, maxTreeDepth + 1, 3*maxTreeDepth + 1} {
		work := workDir(t)
		s := open(t, work)
		m := seal(t, create(t, s, "Q"))
		deepest := filepath.Join(m.Dir(), strings.Repeat("d/", depth))
		must(t, os.MkdirAll(deepest, 0o750))
		must(t, os.WriteFile(filepath.Join(deepest, "file"), []byte("x"), 0o640))
		// Just what that many levels take: the message's own is open already.
		restore := leaveFree(t, maxTreeDepth)
		err := m.Remove()
		restore()
		if err != nil {
			t.Errorf("%d levels: %v", depth, err)
		}
		wantGone(t, m.Dir())
		must(t, s.Close())
	}
}

// TestRandomNames: the random part is as long as isDirName thinks, and differs.
func TestRandomNames(t *testing.T) {
	seen := map[string]bool{}
	for range maxNameTries {
		name := random()
		if len(name) != randomLen || seen[name] || !isDirName(dirPrefix+name) {
			t.Errorf("%q", name)
		}
		seen[name] = true
	}
}
