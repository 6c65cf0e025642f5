package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

const (
	// shortRetry is --retry-time of the test in which amavisd stays away.
	shortRetry = 3 * time.Second
	// recovery is how long after its return amavisd may still be thought dead.
	recovery = 2 * time.Second
	// scanStart is how long amavisd may take to begin with a mail.
	scanStart = 20 * time.Second
)

// unavailable is what the client reads when there is no scanner.
var unavailable = regexp.MustCompile(`^451 4\.3\.0 Content scanner unavailable`)

// withDirectScanner runs the milter in the foreground on the same socket, without
// the relay to amavisd in between, for the time of a test.
func withDirectScanner(t *testing.T, p *lab.Pipeline, flags ...string) {
	t.Helper()
	if err := p.UseForeground(binary, flags...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("amavis-milter said:\n%s", p.Milter.Output())
		}
		if err := p.RestartMilter(); err != nil {
			t.Fatal(err)
		}
	})
}

// longMail is one that keeps amavisd busy long enough to be killed over it.
func longMail(subject string) []byte {
	return lab.Text(lab.Header(sender, user, subject), strings.Repeat(lab.CleanBody, 3000))
}

// killInMidScan sends a mail and kills amavisd, children and all, while it has
// the mail in hand. The reply comes on the channel.
func killInMidScan(t *testing.T, p *lab.Pipeline, client *lab.Client) <-chan lab.Reply {
	t.Helper()
	replies := make(chan lab.Reply, 1)
	envelope(t, client, sender, []string{user})
	go func() {
		reply, err := client.Data(longMail("killed over"))
		if err != nil {
			reply = lab.Reply{Lines: []string{err.Error()}}
		}
		replies <- reply
	}()
	err := lab.Poll(scanStart, "amavisd to unpack the mail", func() error {
		parts, err := filepath.Glob(lab.SpoolDir + "/*/parts")
		if err == nil && len(parts) == 0 {
			err = errors.New("nothing unpacked yet")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Amavisd.Kill()
	return replies
}

// TestAmavisdStaysAway kills amavisd in mid-traffic: the client reads 451 after
// the retries, nothing is left, later mail fails at once, and after amavisd's
// return mail is taken on the same SMTP connection.
func TestAmavisdStaysAway(t *testing.T) { onEach(t, lab.TagAndDiscard, testAmavisdStaysAway) }

func testAmavisdStaysAway(t *testing.T, p *lab.Pipeline) {
	withDirectScanner(t, p, "--retry-time", shortRetry.String())
	client := connect(t, p)
	if reply := send(t, client, sender, []string{user}, cleanMail("before")); queueID(p.MTA, reply) == "" {
		t.Fatalf("before the fault the client was told %q", reply)
	}
	replies := killInMidScan(t, p, client)
	killed := time.Now()
	reply := <-replies
	if !unavailable.MatchString(reply.String()) {
		t.Errorf("the client was told %q, want %s", reply, unavailable)
	}
	if after := time.Since(killed); after < shortRetry/2 || after > 3*shortRetry {
		t.Errorf("the reply came after %v, want some %v", after, shortRetry)
	}
	mustSpoolEmpty(t, p)

	// It is taken for dead once it has refused for the whole of --retry-time: the
	// next mail finds that out if the first has not, the one after it need not wait.
	var took time.Duration
	for range 2 {
		began := time.Now()
		if reply := send(t, client, sender, []string{user}, cleanMail("too early")); !unavailable.MatchString(reply.String()) {
			t.Errorf("while amavisd was away the client was told %q, want %s", reply, unavailable)
		}
		took = time.Since(began)
	}
	if took > shortRetry/2 {
		t.Errorf("the last mail was answered after %v, though amavisd was known to be away", took)
	}
	mustSpoolEmpty(t, p)

	if err := p.Amavisd.Start(); err != nil {
		t.Fatal(err)
	}
	<-time.After(recovery) // the promise begins here
	if reply := send(t, client, sender, []string{user}, cleanMail("after")); queueID(p.MTA, reply) == "" {
		t.Errorf("%v after amavisd's return the client was told %q", recovery, reply)
	}
	mustSpoolEmpty(t, p)
	if err := p.Flush(); err != nil {
		t.Error(err)
	}
}

// TestAmavisdComesBack kills amavisd in mid-scan and starts it again within
// --retry-time: the client never knows.
func TestAmavisdComesBack(t *testing.T) { onEach(t, lab.TagAndDiscard, testAmavisdComesBack) }

func testAmavisdComesBack(t *testing.T, p *lab.Pipeline) {
	withDirectScanner(t, p)
	delivered := p.Sink.Mark()
	client := connect(t, p)
	replies := killInMidScan(t, p, client)
	if err := p.Amavisd.Start(); err != nil {
		t.Fatal(err)
	}
	if reply := <-replies; queueID(p.MTA, reply) == "" {
		t.Errorf("the client was told %q", reply)
	}
	mustSpoolEmpty(t, p)
	d := deliveredTo(t, p, delivered, user)
	_, body := lab.SplitMessage(longMail("killed over"))
	if lab.Hash(d.Body()) != lab.Hash(body) {
		t.Error("the body was delivered changed")
	}
	if scanned := d.Values("X-Virus-Scanned"); len(scanned) != 1 {
		t.Errorf("X-Virus-Scanned fields: %q, want one", scanned)
	}
}

// TestSpoolLost: when nothing can be written the client reads 451, nothing is
// passed, and mail flows again once it can.
func TestSpoolLost(t *testing.T) { onEach(t, lab.TagAndDiscard, testSpoolLost) }

func testSpoolLost(t *testing.T, p *lab.Pipeline) {
	requests := p.Relay.Mark()
	if err := os.Chmod(lab.SpoolDir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(lab.SpoolDir, 0o750) })
	client := connect(t, p)
	want := regexp.MustCompile(`^451 4\.3\.0 `)
	if reply := send(t, client, sender, []string{user}, cleanMail("no spool")); !want.MatchString(reply.String()) {
		t.Errorf("the client was told %q, want %s", reply, want)
	}
	if n := len(p.Relay.Exchanges(requests)); n != 0 {
		t.Errorf("amavisd was asked %d times about a mail that could not be stored", n)
	}
	if err := os.Chmod(lab.SpoolDir, 0o750); err != nil {
		t.Fatal(err)
	}
	if reply := send(t, client, sender, []string{user}, cleanMail("spool is back")); queueID(p.MTA, reply) == "" {
		t.Errorf("afterwards the client was told %q", reply)
	}
	if err := p.Flush(); err != nil {
		t.Error(err)
	}
}
