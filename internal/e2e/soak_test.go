package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// The environment of the soak: how long, in minutes, and the seed of a run that is
// to be repeated. Without them the run is short, and its seed new.
const (
	soakMinutesVar = "AMAVIS_MILTER_SOAK"
	soakSeedVar    = "AMAVIS_MILTER_SOAK_SEED"
)

// How TestSoak goes.
const (
	shortSoak    = 13 * time.Second // of the random part
	soakClients  = 4                // SMTP clients of each MTA
	soakLargest  = 2 << 20          // bytes, about, of a mail
	soakRetry    = "3s"             // --retry-time
	soakScanTime = "20s"            // --amavisd-timeout
	endingsShare = 3                // tenths of the time in which milters are ended
	soakWarmUp   = time.Minute      // of an instance, until it is measured first
	soakPatience = 3 * time.Minute  // for all mail to end, once nothing breaks any more
	soakPort     = 10029            // where the milter for Postfix serves, see contrib/postfix
	soakForward  = int64(200 << 10) // bytes that a network may let through before it harms what goes to a milter
	soakBackward = int64(2 << 10)   // likewise, of what comes from it, and between it and amavisd
	shortSpare   = mostGrowth       // bytes; for a warm-up of less than soakWarmUp
)

// soakSeed is the seed of a run; it is told so that the run can be repeated.
func soakSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(soakSeedVar); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", soakSeedVar, err)
		}
	}
	t.Logf("seed %d; to repeat: %s=%d", seed, soakSeedVar, seed)
	return seed
}

// soakTime is how long to soak.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(soakMinutesVar)
	if text == "" {
		return shortSoak
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil || minutes <= 0 {
		t.Fatalf("%s=%q: want a number of minutes", soakMinutesVar, text)
	}
	return time.Duration(minutes * float64(time.Minute))
}

// soak is everything that takes part.
type soak struct {
	units    []*unit
	scanners []*scanner
}

// startSoak starts two amavisd, each behind a network that breaks, and a milter for
// each MTA, behind another; one of each by a local socket, one by TCP.
func startSoak(t *testing.T, p *lab.Pipeline) *soak {
	t.Helper()
	withoutMilter(t, p)
	second, err := p.Amavisd.Second()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	})
	network := func(listen, address, to, target string) *lab.Breaker {
		b, err := lab.StartBreaker(listen, address, to, target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	const near, far, own = lab.AmavisHome + "/near.sock", "127.0.0.1:10028", lab.AmavisHome + "/own.sock"
	k := &soak{scanners: []*scanner{
		{p.Amavisd, "first amavisd", network("unix", near, "unix", lab.AmavisdSocket)},
		{second, "second amavisd", network("tcp", far, "unix", lab.SecondSocket)},
	}}
	flags := []string{"-S", "local:" + near, "-S", "inet:10028@127.0.0.1", "--retry-time", soakRetry, "-T", soakScanTime}
	port := fmt.Sprintf("127.0.0.1:%d", soakPort)
	for i, u := range []*unit{{mta: lab.Sendmail, socket: own}, {mta: lab.Postfix}} {
		u.workDir = lab.WorkDirs[i]
		if u.socket != "" {
			startUnit(t, u, "unix", own, append(flags, "-p", "local:"+own)...)
			u.network = network("unix", u.mta.MilterSocket, "unix", own)
		} else {
			startUnit(t, u, "tcp", port, append(flags, "-p", fmt.Sprintf("inet:%d@127.0.0.1", soakPort))...)
			u.network = network("unix", u.mta.MilterSocket, "tcp", port)
		}
		k.units = append(k.units, u)
	}
	return k
}

// breakAll begins to break everything at random, each thing by itself.
func (k *soak) breakAll(b *breakage, seed uint64) {
	stream := uint64(0)
	begin := func(life func(random *rand.Rand)) {
		stream++
		random := rand.New(rand.NewPCG(seed, stream))
		b.wg.Go(func() { life(random) })
	}
	for _, s := range k.scanners {
		begin(func(random *rand.Rand) { b.breakScanner(s, random) })
		begin(func(random *rand.Rand) {
			b.breakNetwork(s.path(), s.network, soakBackward, soakBackward, random)
		})
	}
	for _, u := range k.units {
		begin(func(random *rand.Rand) { b.breakDaemon(u, random) })
		begin(func(random *rand.Rand) {
			b.breakNetwork(u.path(), u.network, soakForward, soakBackward, random)
		})
	}
}

// measureAll measures all milters.
func (k *soak) measureAll(t *testing.T) []use {
	t.Helper()
	var uses []use
	for _, u := range k.units {
		uses = append(uses, measure(t, u))
	}
	return uses
}

// TestSoak sends a known set of mails through both MTAs at once while amavisd, the
// milters and the networks between them break at random, and holds what the SMTP
// clients were told against what was delivered. It begins with a script of troubles,
// and fails if these and the random ones after it were too few to prove anything. In
// the first part of the random time the milters are ended, too; afterwards everything else breaks on, and what the last
// instances have at the end is held against what they had after a minute.
func TestSoak(t *testing.T) {
	needLab(t)
	seed, duration := soakSeed(t), soakTime(t)
	p := withPipeline(t, startingWith(shared.mta)[0], soaked)
	k := startSoak(t, p)
	ledger := newLedger(&soakPlan{seed: seed, began: time.Now(), largest: soakLargest, kinds: soakKinds})
	watched(t, p, ledger)
	s := startSenders(ledger, soakClients, true)
	b := newBreakage(duration)
	t.Cleanup(func() {
		if t.Failed() || os.Getenv(soakMinutesVar) != "" {
			t.Logf("what was broken:\n%s", strings.Join(b.record, "\n"))
		}
	})

	b.fail(k.script(b))
	began := time.Now()
	at := func(moment time.Duration) { <-time.After(time.Until(began.Add(moment))) }
	k.breakAll(b, seed)
	at(duration * endingsShare / 10)
	close(b.ending)
	warmUp, spare := soakWarmUp, int64(0)
	if warmUp > duration/4 {
		warmUp, spare = duration/4, shortSpare
	}
	at(duration*endingsShare/10 + warmUp)
	var first []use
	s.silence(func() { first = k.measureAll(t) })
	at(duration)
	broken := b.finish(t)
	sendOn(ledger, duration)
	bringToAnEnd(t, p, s)
	took := time.Since(b.began).Round(time.Second)
	last := k.measureAll(t)

	k.mustHaveBeenHard(t, b, ledger, duration)
	sums := ledger.settle(t)
	starts, swept, harmed := 0, 0, int64(0)
	for i, u := range k.units {
		u.settle(t)
		mustNotHaveGrown(t, u, first[i], last[i], spare)
		_, number := u.Current()
		starts += number
		swept += u.swept
		harmed += u.network.Harmed() + k.scanners[i].network.Harmed()
		t.Logf("%s: %v; after %v of the last instance: %v, at the end: %v", u.mta.Name, sums[u.mta], warmUp, first[i], last[i])
	}
	t.Logf("soak: seed %d, %v; broken: %s; %d connections harmed, %d clients left in their mail, %d after its end; %d restarts of the milters, %d dead mails swept; %v, %s",
		seed, took, broken, harmed, s.strain.inMail.Load(), s.strain.atEnd.Load(), starts-len(k.units), swept, ledger.total(sums), megabytes(ledger.bytes))
}

// bringToAnEnd lets all mail come to its end, now that nothing breaks any more.
func bringToAnEnd(t *testing.T, p *lab.Pipeline, s *senders) {
	t.Helper()
	if !s.finish(soakPatience) {
		t.Errorf("not all mail has come to its end %v after the last trouble", soakPatience)
	}
	if err := p.Flush(); err != nil {
		t.Error(err)
	}
}
