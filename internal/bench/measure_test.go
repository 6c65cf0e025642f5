package bench

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSelfCheck: the load and the scanner against peers that cost little.
func TestSelfCheck(t *testing.T) {
	t.Parallel()
	load, scan, err := SelfCheck(filepath.Join(t.TempDir(), "check.sock"), 4, smallMail, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Capacity{load, scan} {
		if c.PerSecond < 100 || c.CPU <= 0 || c.CPU > 10*time.Millisecond {
			t.Errorf("%.0f a second, %v of CPU each", c.PerSecond, c.CPU)
		}
	}
}

// TestProcessFacts: CPU time and memory of a process are those that the kernel has
// elsewhere as well.
func TestProcessFacts(t *testing.T) {
	t.Parallel()
	p := &Process{PID: os.Getpid()}
	before := usage(t)
	cpu, err := p.CPU()
	after := usage(t)
	if err != nil || cpu < before-time.Second || cpu > after+time.Second {
		t.Errorf("%v of CPU, error %v; getrusage has %v before and %v after", cpu, err, before, after)
	}
	now, peak, err := p.Memory()
	if err != nil || now < 1e6 || peak < now {
		t.Errorf("%d bytes resident, at most %d, error %v", now, peak, err)
	}
	if _, err := (&Process{PID: 1 << 22}).CPU(); err == nil {
		t.Error("a process that there is not has CPU time")
	}
}

func usage(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLeft: what a program leaves is seen, its lock and its own directory are nothing.
func TestLeft(t *testing.T) {
	t.Parallel()
	p := &Process{work: t.TempDir()}
	for _, dir := range []string{"milter"} {
		if err := os.Mkdir(filepath.Join(p.work, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.work, "milter", ".lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.clean(); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(filepath.Join(p.work, "milter", "amavis-milter-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if p.clean() == nil {
		t.Error("what is left is not seen")
	}
}

// TestParseSummary: what strace -c prints, with calls that failed and calls that did not.
func TestParseSummary(t *testing.T) {
	t.Parallel()
	const text = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           1       600       100 read
 40.00    0.000400           1       200           epoll_pwait
  0.00    0.000000           0         1           getpid
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           1       801       100 total
`
	calls, err := parseSummary(text)
	if err != nil || len(calls) != 3 || calls["read"] != 600 || calls["epoll_pwait"] != 200 || calls["getpid"] != 1 {
		t.Fatalf("%v, error %v", calls, err)
	}
	sum, list := callsPerMessage(calls, 100)
	if sum != 8.01 || list != "read 6.0, epoll_pwait 2.0" {
		t.Errorf("%v calls a message: %q", sum, list)
	}
	for _, bad := range []string{"", "  1.0 0.1 1 x read\n"} {
		if calls, err := parseSummary(bad); err == nil {
			t.Errorf("%q: %v", bad, calls)
		}
	}
}

// TestEndpoint: as both programs' command lines have it.
func TestEndpoint(t *testing.T) {
	t.Parallel()
	for e, want := range map[Endpoint]string{
		{"unix", "/run/x.sock"}:    "local:/run/x.sock",
		{"tcp", "127.0.0.1:10024"}: "inet:10024@127.0.0.1",
	} {
		if got := e.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestLoopEnds: a loop gives back what it has taken.
func TestLoopEnds(t *testing.T) {
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	during := runtime.GOMAXPROCS(0)
	ran := false
	l.Do(func() { ran = true })
	if cpu := l.CPU(); !ran || cpu < 0 {
		t.Errorf("ran %t, %v of CPU", ran, cpu)
	}
	l.Close()
	if after := runtime.GOMAXPROCS(0); after != during-1 {
		t.Errorf("GOMAXPROCS is %d after %d", after, during)
	}
}

// TestSweep: directories of runs that were killed go, those of one that lives stay, and
// what is none of ours.
func TestSweep(t *testing.T) {
	t.Parallel()
	memory, build := t.TempDir(), t.TempDir()
	dead, alive := strconv.Itoa(1<<22+1), strconv.Itoa(os.Getpid())
	var want []string
	for _, d := range []struct {
		dir   string
		stays bool
	}{
		{memory + "/milter-bench-" + dead, false}, {build + "/disk-" + dead, false}, {build + "/memory-" + dead, false},
		{memory + "/milter-bench-" + alive, true}, {build + "/disk-" + alive, true}, {build + "/disk-x", true}, {memory + "/other-" + dead, true},
	} {
		if err := os.MkdirAll(d.dir+"/below", 0o755); err != nil {
			t.Fatal(err)
		}
		if d.stays {
			want = append(want, d.dir)
		}
	}
	if err := sweep(memory, build); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, dir := range []string{memory, build} {
		left, err := filepath.Glob(dir + "/*")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, left...)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}
