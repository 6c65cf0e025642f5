// Command cmd runs the benchmark, all of it or one case; see package bench.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/bench"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/amavis-milter", "our program")
	flag.StringVar(&o.module, "module", ".", "the tree, for what is kept below build/")
	flag.StringVar(&o.program, "program", "ours", "with -c: ours or theirs")
	flag.IntVar(&o.conns, "c", 0, "run this many connections on one program, for profiling")
	flag.IntVar(&o.size, "size", 4096, "with -c: bytes of a message")
	flag.StringVar(&o.mta, "mta", "postfix", "with -c: postfix, sendmail, or frames: sendmail with a write for each frame")
	flag.StringVar(&o.network, "network", "unix", "with -c: unix or tcp, between MTA and milter")
	flag.BoolVar(&o.disk, "disk", false, "with -c: mail files on the disk, not in memory")
	flag.DurationVar(&o.duration, "for", 10*time.Second, "with -c: how long, in steps of a second")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Geteuid() != 0 {
		return fmt.Errorf("it must be run by root, who can run the programs as another user")
	}
	root, err := lab.Install(ctx, filepath.Join(o.module, "build/lab"), os.Stderr)
	if err != nil {
		return err
	}
	return o.one(ctx, root)
}

type options struct {
	binary, module, program string
	conns, size             int
	mta, network            string
	disk                    bool
	duration                time.Duration
}

// one runs one load on one program and prints its rates each second.
func (o options) one(ctx context.Context, root string) error {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return err
	}
	program := bench.Ours(binary)
	if o.program == "theirs" {
		root, err := filepath.Abs(root)
		if err != nil {
			return err
		}
		if program, err = bench.Theirs(root); err != nil {
			return err
		}
	}
	mta := bench.Postfix
	switch o.mta {
	case "sendmail":
		mta = bench.Sendmail
	case "frames":
		mta = bench.Sendmail
		mta.EachFrame = true
	}
	dir, err := os.MkdirTemp("/dev/shm", "milter-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	work := dir
	if o.disk {
		if work, err = filepath.Abs(filepath.Join(o.module, "build/bench/work")); err != nil {
			return err
		}
		if err := os.MkdirAll(work, 0o755); err != nil {
			return err
		}
		defer os.RemoveAll(work)
	}
	loop, err := bench.NewLoop()
	if err != nil {
		return err
	}
	scanner, err := bench.NewScanner(loop, bench.Endpoint{Network: "unix", Address: filepath.Join(dir, "amavisd.sock")})
	if err != nil {
		return err
	}
	process, err := program.Start(o.network, dir, work, scanner.At)
	if err != nil {
		return err
	}
	defer process.Stop()
	load := bench.NewLoad(loop, mta, bench.NewMail(o.size), process.At)
	if err := load.Open(o.conns); err != nil {
		return err
	}
	fmt.Printf("%s has process id %d\n", program.Name, process.PID)
	load.Start()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, _ := load.Counts(process.CPU)
	lastOwn := loop.CPU()
	for began := time.Now(); time.Since(began) < o.duration && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		c, err := load.Counts(process.CPU)
		if err != nil {
			return err
		}
		own := loop.CPU()
		n := float64(c.Messages - last.Messages)
		fmt.Printf("%8.0f msg/s %8.1f µs CPU/msg %6.2f waits/msg %6d wrong; the load and the scanner: %5.1f µs CPU/msg\n",
			n/(c.At-last.At).Seconds(), float64((c.CPU-last.CPU).Microseconds())/n, float64(c.Waits-last.Waits)/n, c.Wrong-last.Wrong, float64((own-lastOwn).Microseconds())/n)
		last, lastOwn = c, own
	}
	if err := load.Stop(); err != nil {
		return err
	}
	load.Close()
	return load.Err()
}
