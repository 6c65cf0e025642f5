package filter

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter"
)

// Of two scanners, on real sockets and under load, each in turn is killed in
// mid-traffic and comes back: no message fails, and load returns to it. The line of a
// message says who took it.
func TestScannersAreKilledUnderLoad(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			second := ampdptest.NewServer(t, ampdptest.Continue())
			if network == "tcp" {
				second = ampdptest.NewTCPServer(t, ampdptest.Continue())
			}
			b := newBench(t, ampdptest.Continue(), func(o *Options) {
				o.Scanners = append(o.Scanners, second.Client())
			})
			servers := [2]*ampdptest.Server{b.amavisd, second}
			var failed, passed atomic.Int64
			end := make(chan struct{})
			var workers sync.WaitGroup
			for range 8 {
				workers.Go(func() {
					for {
						select {
						case <-end:
							return
						default:
						}
						tx := b.Begin(testEnvelope())
						send(tx)
						v := tx.Verdict(t.Context())
						tx.End(milter.Outcome{Sent: v})
						if v.Disposition() == milter.DispositionAccept {
							passed.Add(1)
						} else {
							failed.Add(1)
						}
					}
				})
			}
			more := func(s *ampdptest.Server) { s.AwaitRequests(t, len(s.Requests())+50) }
			warnings := func(s *ampdptest.Server) int {
				return len(b.logged.lines("level=WARN", "scanner="+s.Network()+":"+s.Address(), "mail goes to the others"))
			}
			for turn := range 2 {
				for i, s := range servers {
					more(s)
					// Somebody is in the middle of it when it dies.
					s.Handle(ampdptest.Hang())
					s.AwaitRequests(t, len(s.Requests())+1)
					s.Kill()
					s.Handle(ampdptest.Continue())
					for more(servers[1-i]); warnings(s) == turn; { // it is out of rotation
						more(servers[1-i])
					}
					if err := s.Start(); err != nil {
						t.Fatal(err)
					}
					more(s)
				}
			}
			close(end)
			workers.Wait()
			b.checkEmpty("in the end")
			if failed.Load() != 0 {
				t.Errorf("%d messages failed, %d passed", failed.Load(), passed.Load())
			}
			total := 0
			for _, sc := range b.scanners.list {
				n := len(b.logged.lines("level=INFO", "verdict=accept", "scanner="+sc.name))
				if n < 100 {
					t.Errorf("%s took %d messages by the log", sc.name, n)
				}
				total += n
			}
			for _, s := range servers {
				if n := warnings(s); n != 2 {
					t.Errorf("%d warnings about %s", n, s.Address())
				}
			}
			if int64(total) != passed.Load() {
				t.Errorf("%d lines for %d messages", total, passed.Load())
			}
		})
	}
}

// With one scanner its name is in no line.
func TestLoneScannerIsNotNamed(t *testing.T) {
	b := newBench(t, ampdptest.Continue(), nil)
	tx := b.Begin(testEnvelope())
	send(tx)
	tx.End(milter.Outcome{Sent: tx.Verdict(t.Context())})
	if len(b.logged.lines("verdict=accept")) != 1 || len(b.logged.lines("scanner=")) != 0 {
		t.Errorf("log: %s", b.logged)
	}
}

// A TCP connect that hangs: the backlog of the port is full, and the kernel drops
// what comes. The message goes to the other scanner, well within its time.
func TestHangingConnectFailsOver(t *testing.T) {
	full := ampdptest.NewTCPServer(t, ampdptest.Continue())
	if err := full.Pause(0); err != nil {
		t.Fatal(err)
	}
	hasty := full.Client()
	hasty.ConnectTimeout = 100 * time.Millisecond
	hasty.Timeout = 50 * time.Millisecond // shorter still, and no scan timeout all the same
	b := newBench(t, ampdptest.Continue(), func(o *Options) {
		o.Scanners = []*ampdp.Client{hasty, o.Scanners[0]}
	})
	for filled := false; !filled; { // connections that the kernel takes without amavisd
		filled = hasty.Probe(t.Context()) != nil
	}
	tx := b.Begin(testEnvelope())
	send(tx)
	v := tx.Verdict(t.Context())
	tx.End(milter.Outcome{Sent: v})
	if v.Disposition() != milter.DispositionAccept || len(b.logged.lines("scanner=unix:")) != 1 {
		t.Errorf("verdict %v, log: %s", v.Disposition(), b.logged)
	}
	if n := len(b.logged.lines("level=WARN", "mail goes to the others", "scanner=tcp:")); n != 1 {
		t.Errorf("%d warnings: %s", n, b.logged)
	}
}
