package e2e

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// What the SMTP clients of a soak do.
const (
	comeAgainLeast = 20 * time.Millisecond // before a client tries again: an hour, in a soak's time
	comeAgainMost  = 300 * time.Millisecond
	hangUpInMail   = 2 // of a hundred attempts: the client is gone in the middle of the mail
	hangUpAtEnd    = 2 // likewise, after the final dot: it does not wait for the reply
)

// senders are the SMTP clients of a run. Each sends one mail after the other, each
// mail over connections of its own, until it is accepted or rejected.
type senders struct {
	ledger *ledger
	quit   chan struct{} // closed when no client is to begin another mail
	giveUp chan struct{} // closed when no client is to try again
	wg     sync.WaitGroup
	gate   sync.RWMutex // held by each attempt; who has it whole has silence
	next   map[*lab.MTA]*atomic.Int64
	ended  map[*lab.MTA]*atomic.Int64 // mails that have been accepted or rejected
	hangUp bool                       // some clients hang up
	strain strain
}

// strain is what the clients do not count in the ledger.
type strain struct{ inMail, atEnd atomic.Int64 }

// startSenders begins to send with so many clients for each MTA.
func startSenders(l *ledger, clients int, hangUp bool) *senders {
	s := &senders{
		ledger: l, hangUp: hangUp, next: map[*lab.MTA]*atomic.Int64{}, ended: map[*lab.MTA]*atomic.Int64{},
		quit: make(chan struct{}), giveUp: make(chan struct{}),
	}
	for _, mta := range lab.MTAs() {
		s.next[mta], s.ended[mta] = new(atomic.Int64), new(atomic.Int64)
	}
	for i, mta := range lab.MTAs() { // from here on the maps are only read
		for client := range clients {
			random := rand.New(rand.NewPCG(l.plan.seed, uint64(1000*(i+1)+client)))
			s.wg.Go(func() { s.send(mta, random) })
		}
	}
	return s
}

func (s *senders) send(mta *lab.MTA, random *rand.Rand) {
	for {
		select {
		case <-s.quit:
			return
		default:
		}
		number := int(s.next[mta].Add(1) - 1)
		mail := s.ledger.plan.mail(mta, number)
		a := s.ledger.open(mta, number, mail)
		for !s.attempt(mail, a, random) {
			wait := comeAgainLeast + time.Duration(random.Int64N(int64(comeAgainMost-comeAgainLeast)))
			select {
			case <-time.After(wait):
			case <-s.giveUp:
				return
			}
		}
		s.ended[mta].Add(1)
	}
}

// refusedByVerdict is the reply to a mail that amavisd has refused.
var refusedByVerdict = regexp.MustCompile(refusal("BANNED: .*"))

// attempt is one SMTP session with one mail; it reports whether there need be no
// other.
func (s *senders) attempt(mail *soakMail, a *account, random *rand.Rand) bool {
	s.gate.RLock()
	defer s.gate.RUnlock()
	dot, reply, err := s.session(mail, a.mta, random)
	done := false
	s.ledger.note(func() {
		switch {
		case err != nil && dot:
			a.unknown++
		case err != nil || reply.Code >= 400 && reply.Code < 500:
			a.retried++
		case dot && queueID(a.mta, reply) != "":
			a.accepted++
			done = true
		default:
			a.rejected++
			done = true
			if !dot || !refusedByVerdict.MatchString(reply.String()) {
				s.ledger.fault("wrong", "%s (%s) was answered %q", mail.id, mail.kind.name, reply)
			}
		}
	})
	return done
}

// session sends a mail. It returns whether its final dot may have been sent, and
// the first reply that is not what a client hopes for, or the last one; with an
// error the connection was lost.
func (s *senders) session(mail *soakMail, mta *lab.MTA, random *rand.Rand) (dot bool, reply lab.Reply, err error) {
	client, reply, err := lab.DialSMTP(lab.ClientAddress, mta.Address)
	if err != nil {
		return false, reply, err
	}
	defer client.Close()
	commands := []string{"EHLO helo.remote.test", "MAIL FROM:<" + sender + "> BODY=8BITMIME"}
	for _, recipient := range mail.recipients {
		commands = append(commands, "RCPT TO:<"+recipient+">")
	}
	for _, command := range append(commands, "DATA") {
		if reply, err = client.Command(command); err != nil || reply.Code >= 400 {
			return false, reply, err
		}
	}
	data := append(lab.Stuff(mail.raw), ".\r\n"...)
	whim := random.IntN(100)
	if s.hangUp && whim < hangUpInMail {
		s.strain.inMail.Add(1)
		return false, reply, s.leave(client, data[:random.IntN(len(data)-len(".\r\n"))])
	}
	if s.hangUp && whim < hangUpInMail+hangUpAtEnd {
		s.strain.atEnd.Add(1)
		return true, reply, s.leave(client, data)
	}
	if err := client.Write(data); err != nil {
		return false, reply, err // some of it was not even given to the kernel
	}
	if reply, err = client.ReadReply(); err != nil {
		return true, reply, err
	}
	client.Quit() // whatever it says to that, the verdict is known
	return true, reply, nil
}

// leave sends bytes and hangs up.
func (s *senders) leave(client *lab.Client, data []byte) error {
	if err := client.Write(data); err != nil {
		return err
	}
	return errLeft
}

// errLeft is the error of a session that the client itself has left.
var errLeft = errors.New("the client has hung up")

// silence waits until no attempt is under way, lets none begin, and calls do.
func (s *senders) silence(do func()) {
	s.gate.Lock()
	defer s.gate.Unlock()
	do()
}

// finish lets all mails that were begun come to their end, for at most so long, and
// reports whether they did.
func (s *senders) finish(patience time.Duration) bool {
	close(s.quit)
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(patience):
		close(s.giveUp)
		<-done
		return false
	}
}
