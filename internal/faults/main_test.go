// Package faults holds the tests that break everything around the program at every
// point: it runs the built program between a scripted MTA and a scripted amavisd, has
// one of them, or the program or its machine, fail at a chosen point of each
// message, and looks after each case whether what was promised has come and nothing
// was left. [TestFaults] prints all cases as tables.
package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program is the program under test.
var program string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faults-bin-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Chmod(dir, 0o755) // another account runs it
	}
	if err == nil {
		program = filepath.Join(dir, "amavis-milter")
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	return m.Run()
}

// build compiles the program, with the race detector if the tests have it.
func build() error {
	args, cgo := []string{"build", "-buildvcs=false"}, "0"
	if withRaceDetector {
		args, cgo = append(args, "-race"), "1"
	}
	cmd := exec.Command("go", append(args, "-o", program, "../../cmd/amavis-milter")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w: %s", err, out)
	}
	return nil
}
