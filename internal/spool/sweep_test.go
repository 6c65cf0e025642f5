package spool

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestSweepRemovesTheDead(t *testing.T) {
	for _, tt := range leftovers {
		t.Run(tt.name, func(t *testing.T) {
			work := workDir(t)
			keep := precious(t, work)
			for i := range 3 {
				dead := fmt.Sprintf("%s/milter/amavis-milter-Q%d", work, i)
				must(t, os.MkdirAll(dead, 0o750))
				must(t, os.WriteFile(dead+"/email.txt", []byte("x"), 0o640))
				tt.make(t, dead, keep)
			}
			log, text := logged()
			s, err := Open(work, Options{Log: log})
			must(t, err)
			defer s.Close()
			wantNames(t, work)
			if !strings.Contains(text.String(), "dead spool directories removed") || !strings.Contains(text.String(), "count=3") {
				t.Errorf("logged: %s", text)
			}
		})
	}
}

func TestSweepLeavesOthersAlone(t *testing.T) {
	work := workDir(t)
	milter := work + "/milter"
	must(t, os.Mkdir(milter, 0o750))
	want := []string{"README", "amavis-20260101T000000-00001-abc", "amavis-milter-", "amavis-milter-file", "amavis-milter-link", "amavis-milter-odd name", "other"}
	must(t, os.WriteFile(milter+"/README", []byte("x"), 0o644))
	must(t, os.MkdirAll(milter+"/amavis-20260101T000000-00001-abc/parts", 0o750))
	must(t, os.Mkdir(milter+"/amavis-milter-", 0o750))
	must(t, os.WriteFile(milter+"/amavis-milter-file", nil, 0o600))
	must(t, os.Symlink(precious(t, work), milter+"/amavis-milter-link"))
	must(t, os.MkdirAll(milter+"/amavis-milter-odd name/parts", 0o750))
	must(t, os.MkdirAll(milter+"/other/parts", 0o750))
	must(t, os.MkdirAll(milter+"/amavis-milter-dead/parts", 0o750))
	if os.Geteuid() == 0 {
		must(t, os.MkdirAll(milter+"/amavis-milter-stranger", 0o750))
		must(t, os.Chown(milter+"/amavis-milter-stranger", strangerUID, strangerGID))
		want = []string{want[0], want[1], want[2], want[3], want[4], want[5], "amavis-milter-stranger", want[6]}
	}
	must(t, os.MkdirAll(work+"/amavis-milter-above", 0o750))

	log, text := logged()
	s, err := Open(work, Options{Log: log})
	must(t, err)
	defer s.Close()
	wantNames(t, work, want...)
	wantMode(t, work+"/amavis-milter-above", os.ModeDir|0o750)
	for _, name := range want {
		if !strings.Contains(text.String(), name) {
			t.Errorf("%q is left without a word: %s", name, text)
		}
	}
	if strings.Contains(text.String(), "amavis-milter-dead") {
		t.Errorf("logged: %s", text)
	}
}

func TestSweepLogIsBounded(t *testing.T) {
	work := workDir(t)
	for i := range 100 {
		must(t, os.MkdirAll(fmt.Sprintf("%s/milter/x%d", work, i), 0o750))
	}
	log, text := logged()
	s, err := Open(work, Options{Log: log})
	must(t, err)
	defer s.Close()
	if lines := strings.Count(text.String(), "\n"); lines != maxSweepLines+1 || !strings.Contains(text.String(), "count=90") {
		t.Errorf("%d lines: %s", lines, text)
	}
}

func TestNoSweepWhileAnotherLives(t *testing.T) {
	work := workDir(t)
	first := open(t, work)
	m := seal(t, create(t, first, "Q1"))
	second := open(t, work)
	wantFile(t, m.File(), "\n")
	n := seal(t, create(t, second, "Q2"))

	// The first one goes; what it forgot is swept only when the second has gone too.
	must(t, first.Close())
	wantNames(t, work, "amavis-milter-Q2")
	must(t, os.MkdirAll(filepath.Join(work, "milter", "amavis-milter-dead"), 0o750))
	third := open(t, work)
	wantFile(t, n.File(), "\n")
	wantNames(t, work, "amavis-milter-Q2", "amavis-milter-dead")
	must(t, second.Close())
	must(t, third.Close())
	open(t, work)
	wantNames(t, work)
}

// The same with a second process, which is killed: its lock ends with it.
func TestSweepAfterKill(t *testing.T) {
	if dir := os.Getenv("SPOOL_TEST_HOLD"); dir != "" {
		s, err := Open(dir, Options{})
		must(t, err)
		d := create(t, s, "DEAD")
		must(t, d.Body(make([]byte, 3*largeBuffer)))
		fmt.Println("HOLDING")
		select {}
	}
	work := workDir(t)
	child := exec.Command(os.Args[0], "-test.run=^TestSweepAfterKill$", "-test.v")
	child.Env = append(os.Environ(), "SPOOL_TEST_HOLD="+work)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	defer child.Process.Kill()
	var said strings.Builder
	for buf := make([]byte, 512); !strings.Contains(said.String(), "HOLDING"); {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("the child ended: %s", said.String())
		}
	}
	must(t, open(t, work).Close())
	wantNames(t, work, "amavis-milter-DEAD")

	must(t, child.Process.Kill())
	_ = child.Wait()
	open(t, work)
	wantNames(t, work)
}
