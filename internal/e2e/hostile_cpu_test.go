package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// mostOthers is how much of the machine's CPU time other processes may use on a quiet
// machine; 1 is all.
const mostOthers = 0.15

// cpuTime is what the machine has spent since its start, and what of it the program and
// this test have, in ticks.
type cpuTime struct{ all, busy, ours int64 }

// readCPU reads proc(5) stat, of the machine and of both processes.
func readCPU(t *testing.T, pids ...int) (c cpuTime) {
	t.Helper()
	read := func(name string) []string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		return strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	}
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i, f := range read("/proc/stat")[1:9] { // user nice system idle iowait irq softirq steal
		n := number(f)
		c.all += n
		if i != 3 && i != 4 {
			c.busy += n
		}
	}
	for _, pid := range pids {
		f := read(fmt.Sprintf("/proc/%d/stat", pid))
		c.ours += number(f[11]) + number(f[12]) // utime, stime
	}
	return c
}

// others is the share of the machine that other processes have had since an earlier
// reading.
func (c cpuTime) others(since cpuTime) float64 {
	return float64(c.busy-since.busy-(c.ours-since.ours)) / float64(max(c.all-since.all, 1))
}
