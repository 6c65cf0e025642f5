package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// What a soak must have done to prove anything: what its script does, and from what
// comes by chance so much as even a slow machine reaches.
const (
	leastMails   = 10               // accepted by each MTA, and
	mailEvery    = 4 * time.Second  // one more for each of these
	mailPatience = 2 * time.Minute  // for these mails, once nothing breaks any more
	longestRest  = 3                // times the mean
	longestEnd   = 30 * time.Second // of a milter, from a signal until the next serves
	longestAway  = time.Minute      // of an amavisd, from its trouble until it serves
	endEvery     = 20 * daemonRest  // a milter ends by chance at least once in such a time
	killEvery    = 60 * daemonRest  // likewise, by KILL
	downEvery    = 20 * scannerRest // likewise, some amavisd ends
	harmEvery    = 5 * networkRest  // likewise, some connection is harmed
)

// floor is the least that there must have been of something.
type floor struct {
	what       string
	got, least int
}

// times is how often something must have happened in a time, at one such interval.
func times(duration, every time.Duration) int { return int(duration / every) }

// surely is how many troubles there are in a time at least, however chance has it, if
// each comes after a rest of this mean and lasts no longer than longest.
func surely(duration, mean, longest time.Duration) int {
	return times(duration+longest, longestRest*mean+longest)
}

// leastAccepted is how many mails each MTA must have accepted.
func leastAccepted(duration time.Duration) int { return leastMails + times(duration, mailEvery) }

// sendOn waits until each MTA has accepted its mails. Those that it lacks when the
// patience ends are told by mustHaveBeenHard.
func sendOn(l *ledger, duration time.Duration) {
	lab.Poll(mailPatience, "mails", func() error {
		for _, mta := range lab.MTAs() {
			if l.accepted(mta) < leastAccepted(duration) {
				return errors.New("too few were accepted")
			}
		}
		return nil
	})
}

// mustHaveBeenHard fails the test for all that there was too little of in a soak whose
// random part took so long.
func (k *soak) mustHaveBeenHard(t *testing.T, b *breakage, l *ledger, duration time.Duration) {
	t.Helper()
	for _, f := range k.floors(b, l, duration) {
		if f.got < f.least {
			t.Errorf("the soak proves too little: %d %s, want at least %d", f.got, f.what, f.least)
		}
	}
}

// floors are all of a soak.
func (k *soak) floors(b *breakage, l *ledger, duration time.Duration) []floor {
	var all []floor
	add := func(what string, got, least int) { all = append(all, floor{what, got, least}) }
	inAll := 0
	network := func(path string, n *lab.Breaker) {
		harmed := int(n.Harmed())
		inAll += harmed
		add("troubles of the network "+path, b.count(path, "network "), 1+surely(duration, networkRest, networkBad))
		add("connections harmed "+path, harmed, 1)
	}
	ending := duration * endingsShare / 10
	for _, u := range k.units {
		_, starts := u.Current()
		add("signals to the milter for "+u.mta.Name, b.count(u.mta.Name, "milter "), 1+surely(duration, daemonRest, longestEnd))
		add("restarts of the milter for "+u.mta.Name, starts-1, 1+times(ending, endEvery))
		add("ends by KILL of the milter for "+u.mta.Name, u.kills(), 1+times(ending, killEvery))
		add("mails accepted by "+u.mta.Name, l.accepted(u.mta), leastAccepted(duration))
		network(u.path(), u.network)
	}
	killed, ended := 0, 0
	for _, s := range k.scanners {
		killed += b.count(s.name, "amavisd KILL")
		ended += b.count(s.name, "amavisd KILL") + b.count(s.name, "amavisd TERM")
		add("troubles of the "+s.name, b.count(s.name, ""), surely(duration, scannerRest, longestAway))
		network(s.path(), s.network)
	}
	add("ends by KILL of an amavisd", killed, 1)
	add("ends of an amavisd", ended, 1+times(duration, downEvery))
	add("connections harmed in all", inAll, len(k.units)+len(k.scanners)+times(duration, harmEvery))
	return all
}

// TestSoakFloors: the least there must be is what is certain, and grows with the time.
func TestSoakFloors(t *testing.T) {
	for _, test := range []struct {
		duration, mean, longest time.Duration
		want                    int
	}{
		{12*time.Second - 1, networkRest, networkBad, 0}, // the first may come as late as that
		{12 * time.Second, networkRest, networkBad, 1},
		{shortSoak, networkRest, networkBad, 1},
		{26*time.Second - 1, networkRest, networkBad, 1},
		{26 * time.Second, networkRest, networkBad, 2},
		{shortSoak, daemonRest, longestEnd, 1},
		{shortSoak, scannerRest, longestAway, 0},
		{10 * time.Minute, networkRest, networkBad, 43},
		{10 * time.Minute, daemonRest, longestEnd, 17},
		{10 * time.Minute, scannerRest, longestAway, 7},
	} {
		if got := surely(test.duration, test.mean, test.longest); got != test.want {
			t.Errorf("surely(%v, %v, %v) = %d, want %d", test.duration, test.mean, test.longest, got, test.want)
		}
	}
	if short, long := leastAccepted(shortSoak), leastAccepted(10*time.Minute); short <= leastMails || long != 160 {
		t.Errorf("the least mails are %d in a short soak, %d in ten minutes; want more than %d, and 160", short, long, leastMails)
	}
}
