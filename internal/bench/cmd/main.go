// Command cmd runs the benchmark, all of it or a part; or, with -c, one load on one
// program, to watch or to profile it. See package bench. Where the program's time goes:
//
//	make bench CASE=self
//	build/bench/bench -c 8 -for 30s &        (prints the program's process id)
//	perf record -g -p PID -- sleep 10
//	perf report --no-children
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/bench"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

type options struct {
	binary, module, out string
	steps               string
	quick, list         bool

	program      string
	conns, size  int
	mta, network string
	disk         bool
	perConn      int
	duration     time.Duration
}

func main() {
	if code, asked := bench.MTAStage(os.Args[1:]); asked {
		os.Exit(code)
	}
	var o options
	flag.StringVar(&o.binary, "binary", "bin/amavis-milter", "our program")
	flag.StringVar(&o.module, "module", ".", "the tree; what is kept goes below its build/")
	flag.StringVar(&o.out, "out", "", "the report (default build/bench/result.md, with -quick quick.md, with -case part.md)")
	flag.StringVar(&o.steps, "case", "", "only these, separated by commas")
	flag.BoolVar(&o.list, "list", false, "list the cases")
	flag.BoolVar(&o.quick, "quick", false, "fewer and shorter rounds")
	flag.IntVar(&o.conns, "c", 0, "only run a load on so many connections on one program, and print its rates each second")
	flag.StringVar(&o.program, "program", "ours", "with -c: ours or theirs")
	flag.IntVar(&o.size, "size", 4096, "with -c: bytes of a message")
	flag.StringVar(&o.mta, "mta", "postfix", "with -c: postfix, sendmail, or gathered: sendmail's offer, its frames gathered")
	flag.StringVar(&o.network, "network", "unix", "with -c: unix or tcp, between MTA and milter")
	flag.IntVar(&o.perConn, "per", 0, "with -c: messages on a connection before it is replaced; 0: no end")
	flag.BoolVar(&o.disk, "disk", false, "with -c: mail files on the disk, not in memory")
	flag.DurationVar(&o.duration, "for", 10*time.Second, "with -c: how long")
	flag.Parse()
	if o.list {
		fmt.Println(strings.Join(bench.Steps(), "\n"))
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (o options) run(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("it must be run by root, who can run the programs as another user")
	}
	module, err := filepath.Abs(o.module)
	if err != nil {
		return err
	}
	root, err := lab.Install(ctx, filepath.Join(module, "build/lab"), os.Stderr)
	if err != nil {
		return err
	}
	if o.conns == 0 {
		needStrace(ctx)
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	theirs, err := bench.Theirs(root)
	if err != nil {
		return err
	}
	rig, err := bench.NewRig(ctx, filepath.Join(module, "build/bench"), [2]bench.Program{bench.Ours(binary), theirs}, o.quick, os.Stdout)
	if err != nil {
		return err
	}
	defer rig.Close()
	rig.Module = module
	if o.conns > 0 {
		return o.watch(rig)
	}
	return o.measure(rig, module)
}

// needStrace installs strace, which counts system calls, if it is missing. Without it that
// one row is left out, and the report says so.
func needStrace(ctx context.Context) {
	if _, err := exec.LookPath("strace"); err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bench: installing strace (apt-get, nothing is removed)")
	install := func() error {
		cmd := exec.CommandContext(ctx, "apt-get", "install", "-q", "-y", "--no-remove", "--no-install-recommends", "strace")
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		return cmd.Run()
	}
	if install() != nil && exec.CommandContext(ctx, "apt-get", "update", "-q").Run() == nil {
		install() // if it fails the report names what is missing
	}
}

// measure runs the cases and writes the report.
func (o options) measure(rig *bench.Rig, module string) error {
	var names []string
	name, how := "result.md", "make bench"
	if o.quick {
		name, how = "quick.md", "make bench QUICK=1"
	}
	if o.steps != "" {
		names = strings.Split(o.steps, ",")
		name, how = "part.md", "make bench CASE="+o.steps
	}
	if o.out == "" {
		o.out = filepath.Join(module, "build/bench", name)
	}
	facts := rig.Facts()
	report, failed := rig.Run(names)
	if report == nil {
		return failed
	}
	text := report.Markdown(how, facts)
	if err := os.WriteFile(o.out, []byte(text), 0o644); err != nil {
		return err
	}
	io.WriteString(os.Stdout, "\n"+text)
	fmt.Printf("\nwritten to %s\n", o.out)
	if unmet := report.Unmet(); len(unmet) > 0 {
		fmt.Printf("goals that are not met: %s\n", strings.Join(unmet, "; "))
	}
	return failed
}

// watch runs one load on one program.
func (o options) watch(rig *bench.Rig) error {
	c := bench.Case{MTA: bench.Postfix, Network: o.network, Disk: o.disk, Conns: o.conns, Size: o.size, PerConn: o.perConn}
	switch o.mta {
	case "postfix":
	case "sendmail":
		c.MTA = bench.SendmailAsItWrites
	case "gathered":
		c.MTA = bench.SendmailGathered
	default:
		return fmt.Errorf("there is no MTA %q", o.mta)
	}
	for _, p := range rig.Programs {
		if p.Name == o.program {
			return rig.Watch(p, c, o.duration)
		}
	}
	return fmt.Errorf("there is no program %q", o.program)
}
