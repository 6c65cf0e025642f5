package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// The load of these tests.
const (
	loadRate     = 10               // messages a second
	restartLoad  = 60 * time.Second // during which amavisd is restarted twice
	failOverLoad = 24 * time.Second // during which one of two amavisd is killed and brought back
	idField      = "X-Load-Id"      // tells the messages of a load apart
)

// withoutSpamChecks leaves out what costs most, so that the load fits a small machine.
var withoutSpamChecks = lab.Profile{Name: "without spam checks", Conf: "@bypass_spam_checks_maps = (1);\n"}

// load is mail that arrives at a steady rate, each message over an SMTP connection
// of its own.
type load struct {
	p       *lab.Pipeline
	size    int // messages
	began   time.Time
	wg      sync.WaitGroup
	mu      sync.Mutex
	replies []string // to the end of each message, or why there is none; in order of their ids
	longest time.Duration
}

// startLoad sends mail for a time in the background; finish waits for its end.
func startLoad(p *lab.Pipeline, duration time.Duration) *load {
	l := &load{p: p, size: int(duration.Seconds() * loadRate), began: time.Now()}
	l.replies = make([]string, l.size)
	l.wg.Go(func() {
		ticker := time.NewTicker(time.Second / loadRate)
		defer ticker.Stop()
		for id := range l.size {
			l.wg.Go(func() { l.sendOne(id) })
			<-ticker.C
		}
	})
	return l
}

func (l *load) sendOne(id int) {
	began := time.Now()
	reply, err := l.deliver(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replies[id] = reply.String()
	if err != nil {
		l.replies[id] = err.Error()
	}
	l.longest = max(l.longest, time.Since(began))
}

// deliver is one whole SMTP session.
func (l *load) deliver(id int) (lab.Reply, error) {
	client, reply, err := lab.DialSMTP(lab.ClientAddress, l.p.MTA.Address)
	if err != nil {
		return reply, err
	}
	defer client.Close()
	for _, command := range []string{"EHLO helo.remote.test", "MAIL FROM:<" + sender + ">", "RCPT TO:<" + user + ">", "DATA"} {
		if reply, err = client.Command(command); err != nil || reply.Code >= 400 {
			return reply, err
		}
	}
	mail := lab.Text(fmt.Sprintf("%s: %d\r\n", idField, id)+lab.Header(sender, user, "load"), lab.CleanBody)
	if reply, err = client.Data(mail); err != nil {
		return reply, err
	}
	return reply, client.Quit()
}

// at waits for a moment of the load.
func (l *load) at(moment time.Duration) { <-time.After(time.Until(l.began.Add(moment))) }

// finish waits for the last reply and proves from the sink that every message was
// accepted and delivered exactly once, and that nothing else was delivered.
func (l *load) finish(t *testing.T, delivered int) {
	t.Helper()
	l.wg.Wait()
	if err := l.p.Flush(); err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for id, reply := range l.replies {
		if queueID(l.p.MTA, lab.Reply{Lines: []string{reply}}) != "" {
			accepted++
		} else {
			t.Errorf("message %d was answered %q", id, reply)
		}
	}
	copies := make([]int, l.size)
	strangers := 0
	deliveries := l.p.Sink.Deliveries(delivered)
	for _, d := range deliveries {
		id, err := strconv.Atoi(join(d.Values(idField)))
		switch {
		case err != nil || id < 0 || id >= l.size || d.Sender != "<"+sender+">":
			strangers++
			t.Errorf("delivered from %s to %v, which was not sent:\n%s", d.Sender, d.Recipients, cut(d.Raw))
		default:
			copies[id]++
		}
	}
	lost, doubled := 0, 0
	for id, n := range copies {
		if n != 1 {
			t.Errorf("message %d was delivered %d times", id, n)
		}
		lost += max(0, 1-n)
		doubled += max(0, n-1)
	}
	mustSpoolEmpty(t, l.p)
	t.Logf("%s: %d messages in %v: %d accepted, %d delivered, %d lost, %d duplicated, %d not accepted, %d bounced; the longest session took %.1f s",
		l.p.MTA.Name, l.size, time.Since(l.began).Round(time.Second), accepted, len(deliveries), lost, doubled, l.size-accepted, strangers, l.longest.Seconds())
}

func join(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// restartAmavisd does what Debian's service does: whatever amavisd has left directly
// in its directories is removed before it starts again.
func restartAmavisd(t *testing.T, a *lab.Amavisd, stop func() error, away time.Duration) {
	t.Helper()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{lab.AmavisHome, lab.AmavisHome + "/tmp"} {
		left, err := filepath.Glob(dir + "/amavis-*")
		for _, path := range left {
			err = errors.Join(err, os.RemoveAll(path))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(away)
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
}

// TestRestartUnderLoad: amavisd is restarted under load, once as the service manager
// does it, once after it was killed: nobody notices.
func TestRestartUnderLoad(t *testing.T) {
	onEach(t, withoutSpamChecks, func(t *testing.T, p *lab.Pipeline) {
		withDirectScanner(t, p)
		delivered := p.Sink.Mark()
		l := startLoad(p, restartLoad)
		l.at(restartLoad / 4)
		restartAmavisd(t, p.Amavisd, p.Amavisd.Stop, time.Second)
		l.at(restartLoad * 5 / 8)
		restartAmavisd(t, p.Amavisd, func() error { p.Amavisd.Kill(); return nil }, 3*time.Second)
		l.finish(t, delivered)
	})
}
