package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// mostTold is how many faults of a kind are told one by one.
const mostTold = 10

// account is what became of one mail: on one side what its SMTP client was told,
// on the other what the sink got.
type account struct {
	mta        *lab.MTA
	number     int
	kind       *soakKind
	recipients []string // without brackets

	// What the client was told, by the attempts.
	accepted int // 250, after which it makes no more
	rejected int // 5xx, likewise
	retried  int // 4xx, or a connection lost before the final dot was sent
	unknown  int // the connection was lost after the final dot

	delivered map[string]int // by recipient, with brackets
}

// ledger is the account of all mails of a run.
type ledger struct {
	plan *soakPlan

	mu       sync.Mutex
	accounts map[string]*account
	faults   map[string][]string // what was found wrong, by kind
	bytes    int64               // delivered
}

func newLedger(plan *soakPlan) *ledger {
	return &ledger{plan: plan, accounts: map[string]*account{}, faults: map[string][]string{}}
}

// open begins the account of a mail.
func (l *ledger) open(mta *lab.MTA, number int, mail *soakMail) *account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &account{mta: mta, number: number, kind: mail.kind, recipients: mail.recipients, delivered: map[string]int{}}
	l.accounts[mail.id] = a
	return a
}

// note changes an account.
func (l *ledger) note(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// fault takes down what is wrong. The caller holds the lock.
func (l *ledger) fault(kind, text string, args ...any) {
	l.faults[kind] = append(l.faults[kind], fmt.Sprintf(text, args...))
}

// deliver takes note of what the sink got, and judges it.
func (l *ledger) deliver(d *lab.Delivery) {
	id := strings.Join(d.Values(soakID), ",")
	l.mu.Lock()
	a := l.accounts[id]
	l.mu.Unlock()
	if a == nil {
		l.note(func() {
			l.fault("strange", "a mail that nobody sent, from %s to %s: %.300q", d.Sender, d.Recipients, d.Raw)
		})
		return
	}
	mail := l.plan.mail(a.mta, a.number)
	why, how := unscanned(d), mail.altered(d)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += int64(len(d.Raw))
	for _, recipient := range d.Recipients {
		a.delivered[recipient]++
	}
	if why != "" {
		l.fault("unscanned", "%s (%s): %s", id, mail.kind.name, why)
	}
	if how != "" {
		l.fault("altered", "%s (%s): %s", id, mail.kind.name, how)
	}
}

// accepted is how many mails an MTA has accepted so far.
func (l *ledger) accepted(mta *lab.MTA) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, a := range l.accounts {
		if a.mta == mta {
			n += a.accepted
		}
	}
	return n
}

// totals are the sums over all accounts.
type totals struct {
	sent, accepted, rejected, discarded, delivered, copies, retried, unknown, again int

	lost, duplicated, unscanned, altered, wrong int
}

// String is what a summary says of mail.
func (n totals) String() string {
	return fmt.Sprintf("%d sent, %d accepted, %d delivered to %d recipients, %d rejected, %d discarded; "+
		"%d attempts told to come again, %d with an unknown end, %d deliveries for those; "+
		"%d lost, %d duplicated, %d unscanned, %d altered, %d wrong in another way",
		n.sent, n.accepted, n.delivered, n.copies, n.rejected, n.discarded,
		n.retried, n.unknown, n.again, n.lost, n.duplicated, n.unscanned, n.altered, n.wrong)
}

// settle holds both sides against each other when all mail has come to its end, for
// each MTA, and fails the test for whatever does not balance.
func (l *ledger) settle(t *testing.T) map[*lab.MTA]totals {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	sums := l.sums()
	for mta, sum := range sums {
		if sum.delivered == 0 {
			t.Errorf("nothing was delivered by %s: there was nothing to lose", mta.Name)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(l.faults)) {
		for i, text := range l.faults[kind] {
			if i == mostTold {
				t.Errorf("%s: %d more", kind, len(l.faults[kind])-i)
				break
			}
			t.Errorf("%s: %s", kind, text)
		}
	}
	return sums
}

// sums balances all accounts. The caller holds the lock.
func (l *ledger) sums() map[*lab.MTA]totals {
	sums := map[*lab.MTA]totals{}
	for _, mta := range lab.MTAs() {
		sums[mta] = totals{}
	}
	for _, id := range slices.Sorted(maps.Keys(l.accounts)) {
		a := l.accounts[id]
		sum := sums[a.mta]
		l.balance(id, a, &sum)
		sums[a.mta] = sum
	}
	return sums
}

// balance holds the two sides of one account against each other. The caller holds
// the lock.
func (l *ledger) balance(id string, a *account, sum *totals) {
	sum.sent++
	sum.accepted += a.accepted
	sum.rejected += a.rejected
	sum.retried += a.retried
	sum.unknown += a.unknown
	least, most := a.accepted, a.accepted+a.unknown
	switch a.kind.fate {
	case discarded:
		sum.discarded += a.accepted
		least, most = 0, 0
	case rejected:
		least, most = 0, 0
	}
	if ends := a.accepted + a.rejected; ends != 1 || (a.rejected == 1) != (a.kind.fate == rejected) {
		l.fault("wrong", "%s (%s) was accepted %d times, rejected %d times after %d attempts without a verdict", id, a.kind.name, a.accepted, a.rejected, a.retried+a.unknown)
	}
	fewest := 0
	for i, recipient := range paths(a.recipients...) {
		n := a.delivered[recipient]
		delete(a.delivered, recipient)
		sum.copies += n
		if n < least {
			l.fault("lost", "%s (%s) was accepted, and delivered to %s %d times", id, a.kind.name, recipient, n)
		}
		switch {
		case n > most && most == 0:
			l.fault("wrong", "%s (%s) was delivered to %s, %d times", id, a.kind.name, recipient, n)
		case n > most:
			l.fault("duplicated", "%s (%s) was delivered to %s %d times; of its attempts %d were accepted, %d have an unknown end",
				id, a.kind.name, recipient, n, a.accepted, a.unknown)
		}
		if i == 0 || n < fewest {
			fewest = n
		}
	}
	if fewest > 0 {
		sum.delivered++
		sum.again += fewest - 1
	}
	if len(a.delivered) > 0 {
		l.fault("wrong", "%s (%s) was delivered to %v, who are none of its recipients", id, a.kind.name, a.delivered)
	}
}

// total adds up the totals of all MTAs and what was found wrong.
func (l *ledger) total(sums map[*lab.MTA]totals) totals {
	var all totals
	for _, sum := range sums {
		all.sent += sum.sent
		all.accepted += sum.accepted
		all.rejected += sum.rejected
		all.discarded += sum.discarded
		all.delivered += sum.delivered
		all.copies += sum.copies
		all.retried += sum.retried
		all.unknown += sum.unknown
		all.again += sum.again
	}
	all.lost, all.duplicated = len(l.faults["lost"]), len(l.faults["duplicated"])
	all.unscanned, all.altered = len(l.faults["unscanned"]), len(l.faults["altered"])
	all.wrong = len(l.faults["wrong"]) + len(l.faults["strange"])
	return all
}

// megabytes is a number of bytes for people to read.
func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MB" }
