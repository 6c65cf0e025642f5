package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// What has to hold while thousands attack.
const (
	goodInterval = 10 * time.Millisecond // from one good message to the next
	calmMessages = 200                   // before it, and again behind it
	keptMTAs     = 16                    // connections for every second good message; the others have their own

	mostSlowdown = 2                     // times the p99 of the latency without an attack
	floorLatency = 10 * time.Millisecond // below it a p99 is the scheduler's
	busyFloor    = 25 * time.Millisecond // the same where other processes are at work
	witnessTrips = 4                     // round trips of the witness, about as many as a message has
	mostResident = 100_000_000           // bytes, at the peak
	mostHeld     = 250_000_000           // the same where each attacker holds all that a session may
	mostOneKind  = 3                     // log lines of one kind; the attack takes less than two minutes
	mostSlow     = 3                     // times as long as they were told the attackers may take
	leastOpen    = 3750                  // descriptors that an attack holds open, of the 5000 sessions that there may be
	attempts     = 3                     // measurements: on a busy machine any one may be spoilt
)

// target is the program with a scripted scanner, its log in a file, and nothing else.
type target struct {
	*lab.Milter
	network, address string
	dir, logFile     string
	witness          *ampdptest.Server // of the same network, asked by nobody but the witness
}

// startTarget starts the program on "unix" or "tcp" with these flags.
func startTarget(t *testing.T, network string, flags ...string) *target {
	t.Helper()
	needProgram(t)
	dir, err := os.MkdirTemp("", "hostile-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &target{network: network, dir: dir, logFile: filepath.Join(dir, "log")}
	scanner, err := ampdptest.Listen("unix", filepath.Join(dir, "amavisd.sock"), ampdptest.Continue())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(scanner.Close)
	witness := filepath.Join(dir, "witness.sock")
	if network == "tcp" {
		witness = "127.0.0.1:0"
	}
	if g.witness, err = ampdptest.Listen(network, witness, ampdptest.Continue()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.witness.Close)
	var spec string
	if g.address = filepath.Join(dir, "milter.sock"); network == "unix" {
		spec = "local:" + g.address
	} else {
		g.address = freePort(t)
		_, port, _ := net.SplitHostPort(g.address)
		spec = "inet:" + port + "@127.0.0.1"
	}
	// The lab keeps the last of what a program prints, and here every line counts.
	wrapper := filepath.Join(dir, "start")
	script := fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" 2>%s\n", binary, g.logFile)
	err = errors.Join(
		os.Chmod(scanner.Address(), 0o666), os.Chmod(dir, 0o750), lab.GiveToAmavis(dir),
		os.WriteFile(wrapper, []byte(script), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-p", spec, "-S", "local:" + scanner.Address(), "-w", dir, "--log-target", "stderr"}, flags...)
	if g.Milter, err = lab.StartForeground(wrapper, network, g.address, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// freePort is an address on the loopback interface on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// dialFrom opens a connection, over TCP from the n-th loopback address.
func (g *target) dialFrom(n int) (net.Conn, error) { return dialFrom(g.network, g.address, n) }

func dialFrom(network, address string, n int) (net.Conn, error) {
	d := net.Dialer{Timeout: time.Minute}
	if network == "tcp" {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}
	}
	return d.Dial(network, address)
}

// mta opens a connection as an MTA does.
func (g *target) mta() (*miltertest.MTA, error) {
	conn, err := g.dialFrom(1)
	if err != nil {
		return nil, err
	}
	m, err := miltertest.New(conn, miltertest.Sendmail817)
	if err != nil {
		conn.Close()
		return nil, err
	}
	m.Timeout = time.Minute
	return m, m.Greet()
}

// goodMail is mail at a steady pace, half of it over connections that are kept, and how
// long each message took.
type goodMail struct {
	g    *target
	kept chan *miltertest.MTA

	mu        sync.Mutex
	latencies []time.Duration
	witness   []time.Duration
	errs      []error
}

func newGoodMail(t *testing.T, g *target) *goodMail {
	t.Helper()
	l := &goodMail{g: g, kept: make(chan *miltertest.MTA, keptMTAs)}
	for range keptMTAs {
		m, err := g.mta()
		if err != nil {
			t.Fatal(err)
		}
		l.kept <- m
	}
	return l
}

// send sends so many messages, and more until the end of an attack if there is one, and
// returns their latencies, and those of a witness. Each begins at its time, whether those
// before it are done or not.
func (l *goodMail) send(t *testing.T, count int, attacked <-chan struct{}) (mail, witness []time.Duration) {
	t.Helper()
	l.latencies, l.witness, l.errs = nil, nil, nil
	var wg sync.WaitGroup
	tick := time.NewTicker(goodInterval)
	defer tick.Stop()
	for i := 0; i < count || isOn(attacked); i++ {
		<-tick.C
		wg.Go(func() { l.one(i) })
		wg.Go(l.look)
	}
	wg.Wait()
	if len(l.errs) > 0 {
		t.Fatalf("%d of %d good messages failed, the first: %v", len(l.errs), len(l.latencies), l.errs[0])
	}
	return l.latencies, l.witness
}

// isOn reports whether an attack, if there is one, goes on.
func isOn(attack <-chan struct{}) bool {
	if attack == nil {
		return false
	}
	select {
	case <-attack:
		return false
	default:
		return true
	}
}

func p99(latencies []time.Duration) time.Duration {
	slices.Sort(latencies)
	return latencies[len(latencies)*99/100]
}

// look is the witness: it does what a message does to this machine, connections of the
// same kind and a directory with a file, without the program. What other processes and the
// kernel's part of the attack cost, it has to pay as well.
func (l *goodMail) look() {
	began := time.Now()
	dir, err := os.MkdirTemp(l.g.dir, "witness-")
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(dir, "email.txt"), make([]byte, 1<<10), 0o600), os.RemoveAll(dir))
	}
	for range witnessTrips {
		if err == nil {
			_, err = l.g.witness.Client().Do(context.Background(), &ampdp.Request{MailFile: "/x", TempDir: "/", Sender: "<>", Recipients: []string{"<user@lab.test>"}})
		}
	}
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.witness = append(l.witness, took)
	if err != nil {
		l.errs = append(l.errs, fmt.Errorf("the witness: %w", err))
	}
}

// one sends a message; dialling is part of it where there is no connection.
func (l *goodMail) one(i int) {
	began := time.Now()
	var err error
	if i%2 == 0 {
		m := <-l.kept
		err = mustAccept(m, message(i))
		l.kept <- m
	} else {
		var m *miltertest.MTA
		if m, err = l.g.mta(); err == nil {
			err = mustAccept(m, message(i))
			m.Quit()
		}
	}
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latencies = append(l.latencies, took)
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

func (l *goodMail) close() {
	for range keptMTAs {
		m := <-l.kept
		m.Quit()
	}
}

// TestHostile: thousands who scan ports, speak other protocols, send halves of frames,
// large ones too, lengths of gigabytes, a byte now and then, floods, and nothing, and who
// reset or hold their connections, from other addresses and from the MTA's own, change
// neither whether the MTA's mail passes nor how long it takes; the program stays small,
// gives everything back, and says a few lines about it.
func TestHostile(t *testing.T) {
	told := []string{"does not speak the milter protocol", "is no message"}
	for name, c := range map[string]assault{
		"inet socket":  {"tcp", allKinds, 10_000, 1000, mostResident, told},
		"local socket": {"unix", allKinds, 10_000, 1000, mostResident, told},
		"held bodies":  {"unix", onlyBodies, 4_000, 400, mostHeld, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for attempt := 1; ; attempt++ {
				slow := testHostile(t, c)
				switch {
				case slow == "" || t.Failed():
					return
				case attempt == attempts:
					t.Fatal(slow)
				}
				t.Log(slow, "- measuring again")
			}
		})
	}
}

// assault is who attacks while how much good mail comes, how many bytes may be resident then,
// and what the log has to tell of it.
type assault struct {
	network       string
	kinds         string // one of attackSets
	attacks, good int
	resident      int64
	told          []string
}

// testHostile returns what was too slow, if anything was.
func testHostile(t *testing.T, c assault) (slow string) {
	t.Helper()
	g := startTarget(t, c.network)
	good := newGoodMail(t, g)
	good.send(t, calmMessages, nil) // until pools and buffers are there
	idle, err := g.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := good.send(t, calmMessages, nil)
	a := startAttackers(t, attackOrder{g.network, g.address, c.kinds, c.attacks, time.Duration(c.good) * goodInterval * 8 / 10})
	pids := []int{g.PID(), os.Getpid(), a.pid()}
	began := readCPU(t, pids...)
	under, witness := good.send(t, c.good, a.begin(t))
	others := readCPU(t, pids...).others(began)
	seen := a.report(t)
	open, err := g.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	a.end(t)
	if err := lab.Poll(noticeTimeout, "the attackers to be forgotten", func() error { return g.isIdle(idle) }); err != nil {
		t.Error(err)
	}
	after, _ := good.send(t, calmMessages, nil)
	good.close()
	peak, err := g.PeakMemory()
	if err != nil {
		t.Fatalf("the program is gone: %v", err)
	}
	t.Logf("%d attackers in %v, %d descriptors open at their end; at most %.1f MB resident; attackers saw: %v",
		c.attacks, seen.Took.Round(100*time.Millisecond), open, float64(peak)/1e6, seen)
	if peak >= c.resident {
		t.Errorf("at the peak %d bytes were resident, want less than %d", peak, c.resident)
	}
	g.checkLog(t, c.told)
	checkAttack(t, seen, a.order, open-idle)
	return judgeLatencies(t, under, witness, append(before, after...), others)
}

// judgeLatencies holds the latencies under attack against those without. Where other
// processes take more than mostOthers of the machine it is the witness that they are held
// against.
func judgeLatencies(t *testing.T, under, witness, calm []time.Duration, others float64) (slow string) {
	t.Helper()
	attacked, beside, alone := p99(under), p99(witness), p99(calm)
	t.Logf("%d good messages: p99 %v under attack, %v without: %.2f times; of the witness %v; other processes had %.0f %% of the CPU time",
		len(under), attacked.Round(10*time.Microsecond), alone.Round(10*time.Microsecond), float64(attacked)/float64(alone), beside.Round(10*time.Microsecond), 100*others)
	most := max(mostSlowdown*alone, floorLatency)
	if others > mostOthers {
		most = max(mostSlowdown*max(alone, beside), busyFloor)
	}
	if attacked > most {
		slow = fmt.Sprintf("p99 of the good messages %v under attack, want at most %v", attacked, most)
	}
	return slow
}

// checkAttack makes sure that there was one: everybody got as far as he could, and most
// were there at the same time.
func checkAttack(t *testing.T, seen attackReport, o attackOrder, open int) {
	t.Helper()
	if len(seen.Failed) > 0 {
		t.Errorf("attackers that could not connect: %v", seen.Failed)
	}
	if most := mostSlow * o.Duration; seen.Took > most {
		t.Errorf("the attackers needed %v, which is no attack, want at most %v", seen.Took, most)
	}
	if least := o.Count * 3 / 4; seen.Held < least {
		t.Errorf("%d attackers kept their connection, want %d at least", seen.Held, least)
	}
	if least := min(o.Count/2, leastOpen); open < least {
		t.Errorf("%d descriptors more were open at the end of the attack, want %d at least", open, least)
	}
}

// isIdle wants nothing in the spool and no more descriptors than so many.
func (g *target) isIdle(most int) error {
	directories, err := filepath.Glob(filepath.Join(g.dir, "milter/amavis-milter-*"))
	if err != nil || len(directories) > 0 {
		return fmt.Errorf("%d directories in the spool, error %v", len(directories), err)
	}
	if n, err := g.Descriptors(); err != nil || n > most {
		return fmt.Errorf("%d descriptors are open, error %v, want %d", n, err, most)
	}
	return nil
}

// checkLog wants one line for each good message and few for all the rest.
func (g *target) checkLog(t *testing.T, told []string) {
	t.Helper()
	text, err := os.ReadFile(g.logFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range told {
		if !strings.Contains(string(text), what) {
			t.Errorf("the log has no line that %q", what)
		}
	}
	kinds := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "E2E") { // of no good message
			kind, _, _ := strings.Cut(line, "=")
			kinds[kind] = append(kinds[kind], line)
		}
	}
	for _, lines := range kinds {
		t.Logf("%d of: %s", len(lines), strings.TrimSpace(lines[0]))
		if len(lines) > mostOneKind {
			t.Errorf("%d log lines of one kind, want at most %d", len(lines), mostOneKind)
		}
	}
	if n := strings.Count(string(text), "panic"); n > 0 {
		t.Errorf("%d lines of panics in the log", n)
	}
}
