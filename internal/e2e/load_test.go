package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// The load of these tests.
const (
	loadRate     = 10               // messages a second to each MTA
	restartLoad  = 60 * time.Second // during which amavisd is restarted twice
	failOverLoad = 24 * time.Second // during which one of two amavisd is killed and brought back
	idField      = "X-Load-Id"      // tells the messages of a load apart
)

// withoutSpamChecks leaves out what costs most, so that the load fits a small machine.
var withoutSpamChecks = lab.Profile{Name: "without spam checks", Conf: "@bypass_spam_checks_maps = (1);\n"}

// load is mail that arrives at a steady rate at every MTA, each message over an SMTP
// connection of its own.
type load struct {
	p       *lab.Pipeline
	size    int // messages for each MTA
	began   time.Time
	mark    int // of the sink, before
	wg      sync.WaitGroup
	mu      sync.Mutex
	replies map[*lab.MTA][]string // to the end of each message, or why there is none; in order of their ids
	longest map[*lab.MTA]time.Duration
}

// startLoad has the milter, with these flags, in front of every MTA without the
// relay to amavisd in between, and sends mail to all of them for a time in the
// background. finish waits for its end.
func startLoad(t *testing.T, p *lab.Pipeline, duration time.Duration, flags ...string) *load {
	t.Helper()
	withDirectScanner(t, p, flags...)
	for _, mta := range lab.MTAs() {
		if mta != p.MTA {
			runBeside(t, p, mta, flags...)
		}
	}
	l := newLoad(p, int(duration.Seconds()*loadRate), lab.MTAs()...)
	for _, mta := range lab.MTAs() {
		l.wg.Go(func() {
			ticker := time.NewTicker(time.Second / loadRate)
			defer ticker.Stop()
			for id := range l.size {
				l.wg.Go(func() { l.sendOne(mta, id) })
				<-ticker.C
			}
		})
	}
	return l
}

// newLoad is a load of so many messages for each of these MTAs; nothing is sent yet.
func newLoad(p *lab.Pipeline, size int, mtas ...*lab.MTA) *load {
	l := &load{
		p: p, size: size, mark: p.Sink.Mark(), began: time.Now(),
		replies: map[*lab.MTA][]string{}, longest: map[*lab.MTA]time.Duration{},
	}
	for _, mta := range mtas {
		l.replies[mta] = make([]string, size)
	}
	return l
}

// runBeside runs a second milter for another MTA, for the time of a test.
func runBeside(t *testing.T, p *lab.Pipeline, mta *lab.MTA, flags ...string) {
	t.Helper()
	milter, err := p.StartBeside(mta, binary, flags...)
	t.Cleanup(func() {
		if t.Failed() && milter != nil {
			t.Logf("amavis-milter for %s said:\n%s", mta.Name, milter.Output())
		}
		if err := milter.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (l *load) sendOne(mta *lab.MTA, id int) {
	began := time.Now()
	reply, err := deliverOne(mta, id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replies[mta][id] = reply.String()
	if err != nil {
		l.replies[mta][id] = err.Error()
	}
	l.longest[mta] = max(l.longest[mta], time.Since(began))
}

// loadID is what tells a message apart.
func loadID(mta *lab.MTA, id int) string { return fmt.Sprintf("%s-%d", mta.Name, id) }

// deliverOne is one whole SMTP session.
func deliverOne(mta *lab.MTA, id int) (lab.Reply, error) {
	client, reply, err := lab.DialSMTP(lab.ClientAddress, mta.Address)
	if err != nil {
		return reply, err
	}
	defer client.Close()
	for _, command := range []string{"EHLO helo.remote.test", "MAIL FROM:<" + sender + ">", "RCPT TO:<" + user + ">", "DATA"} {
		if reply, err = client.Command(command); err != nil || reply.Code >= 400 {
			return reply, err
		}
	}
	mail := lab.Text(idField+": "+loadID(mta, id)+"\r\n"+lab.Header(sender, user, "load"), lab.CleanBody)
	if reply, err = client.Data(mail); err != nil {
		return reply, err
	}
	return reply, client.Quit()
}

// at waits for a moment of the load.
func (l *load) at(moment time.Duration) { <-time.After(time.Until(l.began.Add(moment))) }

// finish waits for the last reply and proves from the sink that every message was
// accepted and delivered exactly once, and that nothing else was delivered.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.wg.Wait()
	took := time.Since(l.began).Round(time.Second)
	if err := l.p.Flush(); err != nil {
		t.Fatal(err)
	}
	mustSpoolEmpty(t, l.p)
	copies := map[string]int{}
	for _, d := range l.p.Sink.Deliveries(l.mark) {
		copies[strings.Join(d.Values(idField), ",")]++
	}
	for mta := range l.replies {
		l.account(t, mta, took, copies)
	}
	for id, n := range copies {
		t.Errorf("%d mails were delivered that nobody had sent, with %s: %q", n, idField, id)
	}
}

// account holds the replies of one MTA against the deliveries, which it takes out of
// copies.
func (l *load) account(t *testing.T, mta *lab.MTA, took time.Duration, copies map[string]int) {
	t.Helper()
	accepted, delivered, lost, doubled := 0, 0, 0, 0
	for id, reply := range l.replies[mta] {
		if queueID(mta, lab.Reply{Lines: []string{reply}}) != "" {
			accepted++
		} else {
			t.Errorf("%s: message %d was answered %q", mta.Name, id, reply)
		}
		n := copies[loadID(mta, id)]
		delete(copies, loadID(mta, id))
		if n != 1 {
			t.Errorf("%s: message %d was delivered %d times", mta.Name, id, n)
		}
		delivered += n
		lost += max(0, 1-n)
		doubled += max(0, n-1)
	}
	t.Logf("%s: %d messages in %v: %d accepted, %d delivered, %d lost, %d duplicated, %d not accepted, %d bounced; the longest session took %.1f s",
		mta.Name, l.size, took, accepted, delivered, lost, doubled, l.size-accepted, copies[""], l.longest[mta].Seconds())
}

// restartAmavisd does what Debian's service does: whatever amavisd has left directly
// in its directories is removed before it starts again.
func restartAmavisd(t *testing.T, a *lab.Amavisd, stop func() error, away time.Duration) {
	t.Helper()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := a.Clean(); err != nil {
		t.Fatal(err)
	}
	<-time.After(away)
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
}

// TestRestartUnderLoad: amavisd is restarted under load, once as the service manager
// does it, once after it was killed: nobody notices.
func TestRestartUnderLoad(t *testing.T) {
	needLab(t)
	p := withPipeline(t, startingWith(shared.mta)[0], withoutSpamChecks)
	l := startLoad(t, p, restartLoad)
	l.at(restartLoad / 4)
	restartAmavisd(t, p.Amavisd, p.Amavisd.Stop, time.Second)
	l.at(restartLoad * 5 / 8)
	restartAmavisd(t, p.Amavisd, func() error { p.Amavisd.Kill(); return nil }, 3*time.Second)
	l.finish(t)
}
