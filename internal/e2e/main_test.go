// Package e2e holds the tests that run the built program among real mail
// servers: sendmail and Postfix, amavisd with SpamAssassin, and clamd, in a private lab.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// modeVar says whether these tests run: "run" runs those that the machine allows,
// "require" fails if it does not allow all. With "off", or without it, they are
// skipped, for they fetch packages and take a while; but CI=true means "require"
// where it says nothing.
const modeVar = "AMAVIS_MILTER_E2E"

// openFiles is the limit of descriptors that the tests with thousands of
// connections need.
const openFiles = 65536

var (
	module  string // the source tree
	binary  string // the program under test
	contrib string // what an administrator would install
	noLab   string // why there is no lab; empty if there is one
	noRun   string // why nothing runs; empty if it does
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if order := os.Getenv(attackVar); order != "" {
		if err := beAttackers(order); err != nil {
			fmt.Fprintln(os.Stderr, "attackers:", err)
			return 1
		}
		return 0
	}
	mode := os.Getenv(modeVar)
	if mode == "" && os.Getenv("CI") == "true" {
		mode = "require"
	}
	if mode == "" || mode == "off" {
		noRun = modeVar + " does not say \"run\"; \"make e2e\" does"
		return m.Run()
	}
	var err error
	if module, err = filepath.Abs("../.."); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	contrib = filepath.Join(module, "contrib")
	binary = filepath.Join(module, "build/lab/bin/amavis-milter")
	if !lab.Inside() {
		if err := build(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
	}
	raiseOpenFiles()
	config := lab.Config{Module: module, Cache: filepath.Join(module, "build/lab"), Progress: os.Stderr}
	code, err := lab.Run(context.Background(), config, func() int {
		code := m.Run()
		if err := closePipeline(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: closing the lab:", err)
			code = max(code, 1)
		}
		return code
	})
	var missing *lab.MissingError
	switch {
	case err == nil:
		return code
	case errors.As(err, &missing) && mode != "require":
		noLab = "no lab on this machine, it lacks: " + missing.What
		fmt.Fprintln(os.Stderr, "e2e:", noLab)
		return m.Run()
	default:
		fmt.Fprintln(os.Stderr, "e2e: no lab on this machine, and these tests are required:", err)
		return 1
	}
}

// build compiles the program under test as the Makefile does.
func build() error {
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return fmt.Errorf("building the program: %w", err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "./cmd/amavis-milter")
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the program: %w: %s", err, out)
	}
	return nil
}

// raiseOpenFiles raises the limit of descriptors, also for the program under
// test, as far as we may.
func raiseOpenFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Max >= openFiles && limit.Cur >= openFiles {
		return
	}
	wanted := syscall.Rlimit{Cur: openFiles, Max: max(openFiles, limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &wanted) != nil {
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit.Max, Max: limit.Max})
	}
}

// needProgram skips a test where nothing is to run.
func needProgram(t *testing.T) {
	t.Helper()
	if noRun != "" {
		t.Skip(noRun)
	}
}

// needLab skips a test where there is no lab, naming what is missing.
func needLab(t *testing.T) {
	t.Helper()
	needProgram(t)
	if noLab != "" {
		t.Skip(noLab)
	}
}

// The pipeline that the tests share; amavisd is restarted for another profile, the
// milter for another MTA.
var shared struct {
	sync.Mutex
	pipeline *lab.Pipeline
	profile  string
	mta      *lab.MTA
	err      error // why there is none
}

// withPipeline returns the pipeline, started if need be, of an MTA and with amavisd
// in a profile.
func withPipeline(t *testing.T, mta *lab.MTA, profile lab.Profile) *lab.Pipeline {
	t.Helper()
	needLab(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.err != nil {
		t.Fatal("the pipeline failed before: ", shared.err)
	}
	if shared.mta == mta && shared.profile == profile.Name {
		return shared.pipeline
	}
	began := time.Now()
	if err := turn(mta, profile); err != nil {
		shared.err = err
		t.Fatal(err)
	}
	t.Logf("%s, amavisd in profile %q after %v", mta.Name, profile.Name, time.Since(began).Round(time.Millisecond))
	return shared.pipeline
}

// turn makes the shared pipeline what a test needs. The caller holds its lock.
func turn(mta *lab.MTA, profile lab.Profile) (err error) {
	if shared.pipeline == nil {
		shared.pipeline, err = lab.StartPipeline(contrib, binary, mta, profile)
	} else {
		if shared.profile != profile.Name {
			err = shared.pipeline.UseProfile(profile)
		}
		if err == nil && shared.mta != mta {
			err = shared.pipeline.UseMTA(mta)
		}
	}
	shared.profile, shared.mta = profile.Name, mta
	return err
}

func closePipeline() error {
	if shared.pipeline == nil {
		return nil
	}
	return shared.pipeline.Close()
}
