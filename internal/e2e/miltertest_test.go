package e2e

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// OpenDKIM's miltertest is an MTA that shares no code with us or with the scripted
// one of milter/miltertest; Lua scripts drive it.
const (
	luaProgram = "/usr/bin/miltertest"
	luaTimeout = 2 * time.Minute // for one suite; the machine may be busy
	luaFile    = 4 << 20         // bytes of the large body, about
	luaDisk    = 1 << 20         // bytes of the file system that is full
)

// luaRun is one run of a suite, with a program of its own.
type luaRun struct {
	suite  string // file in testdata/miltertest, without .lua
	policy string // for the suite, which knows what it means
	flags  []string
	least  int // checks that are made, at least: a suite that lost some fails

	down    bool   // there is no amavisd
	trouble string // of the spool: "full", "reserve", "read-only"
}

var luaRuns = []luaRun{
	{suite: "accept", least: 400},
	{suite: "verdicts", least: 300},
	{suite: "negotiation", least: 3000},
	{suite: "order", least: 3000},
	{suite: "limits", least: 40_000},
	{suite: "sessions", least: 200, flags: []string{"--max-sessions", "3"}},
	{suite: "failures", policy: "tempfail", least: 500, flags: impatient()},
	{suite: "failures", policy: "accept", least: 500, flags: impatient("-P")},
	{suite: "failures", policy: "reject", least: 500, flags: impatient("--on-failure", "reject")},
	{suite: "failures", policy: "quarantine", least: 500, flags: impatient("--on-failure", "quarantine")},
	{suite: "down", policy: "tempfail", least: 40, down: true, flags: impatient()},
	{suite: "down", policy: "accept", least: 30, down: true, flags: impatient("--on-failure", "unavailable=accept")},
	{suite: "spool", policy: "tempfail", least: 75, trouble: "full", flags: []string{"--min-free", "0"}},
	{suite: "spool", policy: "accept", least: 65, trouble: "full", flags: []string{"--min-free", "0", "--on-failure", "spool=accept"}},
	{suite: "spool", policy: "tempfail", least: 40, trouble: "reserve", flags: []string{"-P"}},
	{suite: "spool", policy: "tempfail", least: 40, trouble: "read-only", flags: []string{"-P"}},
	{suite: "spool", policy: "accept", least: 20, trouble: "read-only", flags: []string{"--on-failure", "spool=accept"}},
}

// impatient are flags with which failures come soon; what works has to have its reply
// in that time on a busy machine, too.
func impatient(more ...string) []string {
	return append([]string{"--retry-time", "500ms", "-T", "1s"}, more...)
}

func (r *luaRun) name() string {
	return strings.Trim(strings.ReplaceAll(r.suite+"-"+r.trouble+"-"+r.policy, "--", "-"), "-")
}

// TestMiltertest runs every suite against the program with a scripted amavisd. After
// each the spool is empty and no descriptor more is open than before.
func TestMiltertest(t *testing.T) {
	needLab(t)
	for _, r := range luaRuns {
		t.Run(r.name(), func(t *testing.T) {
			t.Parallel()
			a, vars := r.start(t)
			idle := a.settle(t, 0)
			began := time.Now()
			checks := runLua(t, r.suite, vars)
			if checks < r.least {
				t.Errorf("the suite made %d checks, want at least %d", checks, r.least)
			}
			t.Logf("miltertest %s: %d checks in %v", r.name(), checks, time.Since(began).Round(time.Millisecond))
			a.settle(t, idle)
		})
	}
}

// TestMiltertestSuites: every suite is run by a test, and every suite that is run is
// there.
func TestMiltertestSuites(t *testing.T) {
	files, err := filepath.Glob("testdata/miltertest/*.lua")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, file := range files {
		got = append(got, strings.TrimSuffix(filepath.Base(file), ".lua"))
	}
	want = append(want, "amavisd", "main")
	for _, r := range luaRuns {
		want = append(want, r.suite)
	}
	slices.Sort(got)
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("the suites are %q, want %q", got, want)
	}
}

// start runs the program as the run needs it, and lets one message through it, so
// that it has all that it keeps open. It returns the variables of the suite.
func (r *luaRun) start(t *testing.T) (*alone, []string) {
	t.Helper()
	dir := luaDirectory(t)
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o750); err != nil {
		t.Fatal(err)
	}
	if r.trouble == "full" || r.trouble == "reserve" {
		mountDisk(t, work, luaDisk)
	}
	if err := lab.GiveToAmavis(work); err != nil {
		t.Fatal(err)
	}
	scannerSocket := filepath.Join(dir, "amavisd.sock")
	if !r.down {
		scanner, err := ampdptest.Listen("unix", scannerSocket, scriptedAmavisd())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(scanner.Close)
		if err := os.Chmod(scannerSocket, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	a := &alone{socket: filepath.Join(dir, "milter.sock"), spool: filepath.Join(work, "milter")}
	flags := append([]string{"-p", "local:" + a.socket, "-S", "local:" + scannerSocket, "-w", work, "--log-target", "stderr"}, r.flags...)
	var err error
	if a.Milter, err = lab.StartForeground(binary, "unix", a.socket, flags...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("amavis-milter said:\n%s", a.Output())
		}
	})
	mta, err := a.dial()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mta.SendMessage(message(0)); err != nil {
		t.Fatal(err)
	}
	mta.Conn.Close()
	if r.trouble == "read-only" {
		if err := os.Chmod(a.spool, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	file, size, crc := luaBody(t, dir)
	return a, []string{"socket=local:" + a.socket, "spool=" + a.spool, "policy=" + r.policy, "trouble=" + r.trouble,
		"file=" + file, "filesize=" + strconv.Itoa(size), "filecrc=" + crc}
}

// luaDirectory makes a directory that account amavis may use, with a path short enough
// for sockets.
func luaDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "miltertest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := lab.GiveToAmavis(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mountDisk mounts a file system of that size in bytes on dir until the test ends.
func mountDisk(t *testing.T, dir string, size int) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0750", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// luaBody writes a large body into dir: every byte value, and lines. It returns the
// size and the CRC of what that is in the spool, where lines end in LF.
func luaBody(t *testing.T, dir string) (path string, size int, crc string) {
	t.Helper()
	var pattern []byte
	for b := range 256 {
		pattern = append(pattern, byte(b), '\r', byte(b), '\n', '\r', '\n')
	}
	body := bytes.Repeat(pattern, luaFile/len(pattern))
	path = filepath.Join(dir, "body")
	if err := os.WriteFile(path, body, 0o644); err != nil {
		t.Fatal(err)
	}
	stored := bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	return path, len(stored), fmt.Sprintf("%08x", crc32.ChecksumIEEE(stored))
}

// luaChecks is what a suite prints at its end.
var luaChecks = regexp.MustCompile(`(?m)^checks: (\d+)$`)

// runLua runs a suite with these variables; it returns the number of its checks. A
// suite that does not come to its end fails.
func runLua(t *testing.T, suite string, vars []string) int {
	t.Helper()
	suites := filepath.Join(module, "internal/e2e/testdata/miltertest")
	ctx, cancel := context.WithTimeout(context.Background(), luaTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, luaProgram, "-s", filepath.Join(suites, "main.lua"), "-D", "suite="+filepath.Join(suites, suite+".lua"))
	for _, v := range vars {
		cmd.Args = append(cmd.Args, "-D", v)
	}
	out, err := cmd.CombinedOutput()
	count := luaChecks.FindSubmatch(out)
	if err != nil || count == nil {
		t.Fatalf("%s.lua: %v:\n%s", suite, err, out)
	}
	checks, err := strconv.Atoi(string(count[1]))
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

// TestMiltertestAmavisd runs a suite with the lab's amavisd, SpamAssassin and clamd.
func TestMiltertestAmavisd(t *testing.T) {
	needLab(t)
	mta := startingWith(shared.mta)[0]
	p := withPipeline(t, mta, lab.TagAndDiscard)
	idle, err := p.Milter.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	crlf := func(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }
	checks := runLua(t, "amavisd", []string{"socket=local:" + mta.MilterSocket, "date=" + time.Now().Format(time.RFC1123Z),
		"cleanbody=" + crlf(lab.CleanBody), "spambody=" + crlf(lab.GTUBEBody()), "virusbody=" + crlf(lab.EICARBody())})
	t.Logf("miltertest amavisd: %d checks", checks)
	mustSpoolEmpty(t, p)
	err = lab.Poll(noticeTimeout, "as few descriptors as before", func() error {
		n, err := p.Milter.Descriptors()
		if err == nil && n > idle {
			err = fmt.Errorf("%d descriptors are open, want at most %d", n, idle)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
