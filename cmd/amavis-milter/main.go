// Command amavis-milter lets amavisd scan the mail of sendmail or Postfix: it
// speaks the milter protocol with the MTA and AM.PDP with amavisd. See
// amavis-milter(8). Called by the name amavisd-milter it has that program's letters
// and defaults.
//
// This package only joins the others; what they do is theirs.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/config"
	"github.com/amavis-milter/amavis-milter/internal/daemon"
	"github.com/amavis-milter/amavis-milter/internal/spool"
)

func main() { os.Exit(run(os.Args, os.Stdout, os.Stderr)) }

// run is the whole program but for its exit. It runs twice when we detach: in the
// process that was called, and in the daemon, which reports to that one.
func run(argv []string, stdout, stderr io.Writer) int {
	parent := daemon.FromParent()
	cfg, err := config.Parse(argv, config.SystemEnv())
	switch {
	case err != nil:
	case cfg.Help:
		_, err = io.WriteString(stdout, cfg.UsageText())
	case cfg.Version:
		_, err = io.WriteString(stdout, cfg.VersionText())
	case !cfg.Foreground && parent == nil:
		err = daemon.Detach()
	default:
		err = serve(cfg, parent, stderr)
	}
	if err == nil || parent == nil && errors.Is(err, daemon.ErrStopped) {
		return daemon.ExitOK
	}
	err = withExitCode(err)
	if parent != nil {
		parent.Fail(err)
	} else {
		explain(stderr, config.Program(argv), err)
	}
	return daemon.ExitCode(err)
}

// explain prints an error, each of its lines as one of the program.
func explain(stderr io.Writer, program string, err error) {
	for line := range strings.Lines(err.Error() + "\n") {
		fmt.Fprint(stderr, program, ": ", line)
	}
	if daemon.ExitCode(err) == daemon.ExitUsage {
		fmt.Fprintf(stderr, "Try '%s --help'.\n", program)
	}
}

// withExitCode gives an error the exit code that it deserves by sysexits(3).
func withExitCode(err error) error {
	var misuse *config.Error
	var setup *spool.SetupError
	switch {
	case errors.As(err, &misuse):
		return &daemon.Error{Code: misuse.ExitCode(), Err: err}
	case errors.As(err, &setup):
		return &daemon.Error{Code: spoolExitCode(setup.Kind), Err: err}
	}
	return err
}

func spoolExitCode(kind spool.Kind) int {
	switch kind {
	case spool.KindConfig:
		return daemon.ExitConfiguration
	case spool.KindPermission:
		return daemon.ExitNoPermission
	case spool.KindCannotCreate:
		return daemon.ExitCannotCreate
	}
	return daemon.ExitOS
}
