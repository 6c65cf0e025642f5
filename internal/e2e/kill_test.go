package e2e

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// How TestKill goes.
const (
	kills           = 200
	killSoonest     = 20 * time.Millisecond  // after an instance serves; to its first mail
	killLatest      = 800 * time.Millisecond // likewise; most mails live shorter
	killAfterMail   = 5                      // one of so many instances first ends a mail
	killPatience    = 10 * time.Second       // with that
	killClients     = 4                      // SMTP clients of each MTA
	killLargestMail = 64 << 10               // bytes, about
)

// killKinds are the kinds of mail that need no SpamAssassin, without which mail
// comes and goes ten times as fast.
var killKinds = withoutSpam(soakKinds)

var killProfile = lab.Profile{Name: "soak without spam checks", Conf: soaked.Conf + withoutSpamChecks.Conf}

// withoutSpam has plain mail instead of spam.
func withoutSpam(kinds []soakKind) []soakKind {
	var kept []soakKind
	spare := 0
	for _, kind := range kinds {
		if kind.fate == tagged {
			spare += kind.share
			continue
		}
		kept = append(kept, kind)
	}
	kept[0].share += spare
	return kept
}

// TestKill: two milters, one for each MTA, are killed at random moments under load
// and started again at once. Nothing is lost, doubled, left over or let through
// unscanned, whatever was under way.
func TestKill(t *testing.T) {
	needLab(t)
	seed := soakSeed(t)
	p := withPipeline(t, startingWith(shared.mta)[0], killProfile)
	withoutMilter(t, p)
	var units []*unit
	for i, mta := range lab.MTAs() {
		u := &unit{mta: mta, workDir: lab.WorkDirs[i], socket: mta.MilterSocket}
		startUnit(t, u, "unix", mta.MilterSocket, append(mta.SocketFlags(), "-S", "local:"+lab.AmavisdSocket)...)
		units = append(units, u)
	}
	ledger := newLedger(&soakPlan{seed: seed, began: time.Now(), largest: killLargestMail, kinds: killKinds})
	watched(t, p, ledger)
	began := time.Now()
	s := startSenders(ledger, killClients, false)
	var wg sync.WaitGroup
	for i, u := range units {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() { killAgainAndAgain(t, u, s.ended[u.mta], kills/len(units), random) })
	}
	wg.Wait()
	took := time.Since(began).Round(time.Second)
	bringToAnEnd(t, p, s)
	sums := ledger.settle(t)
	starts, swept := 0, 0
	for _, u := range units {
		u.settle(t)
		_, number := u.Current()
		starts += number
		swept += u.swept
		t.Logf("%s: %v", u.mta.Name, sums[u.mta])
	}
	if want := kills + len(units); starts != want {
		t.Errorf("%d instances have served, want %d", starts, want)
	}
	if swept < kills/10 {
		t.Errorf("only %d mails were in the spool when their milter was killed: there was no load", swept)
	}
	t.Logf("kill: seed %d, %d KILLs in %v, %d restarts, each instance served; %d mails were in the spool when their milter was killed; %v",
		seed, kills, took, starts-len(units), swept, ledger.total(sums))
}

// killAgainAndAgain kills each instance of a milter that serves after a random time.
// On a busy machine that is seldom enough for a mail; so that mail goes on, some
// instances are not killed before one more has ended.
func killAgainAndAgain(t *testing.T, u *unit, ended *atomic.Int64, times int, random *rand.Rand) {
	for number := 1; number <= times; number++ {
		if err := u.Await(number); err != nil {
			t.Error(err)
			return
		}
		if before := ended.Load(); number%killAfterMail == 0 {
			lab.Poll(killPatience, "a mail to end", func() error { // killed it is in any case
				if ended.Load() == before {
					return errors.New("none has")
				}
				return nil
			})
		}
		<-time.After(killSoonest + time.Duration(random.Int64N(int64(killLatest-killSoonest))))
		if err := u.end(syscall.SIGKILL); err != nil {
			t.Error(err)
			return
		}
	}
	if err := u.Await(times + 1); err != nil {
		t.Error(err)
	}
}
