package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// differences is the one table of what differs between the MTAs. All else is the
// same for both, byte by byte.
var differences = map[*lab.MTA]struct {
	// accepted is the reply to a mail that was taken; the group is the queue id.
	accepted string

	// received is the field that the MTA itself adds; HELO stands for the name that
	// the client gave, WITH for the protocol.
	received string

	// unavailable is the reply to MAIL while no milter serves.
	unavailable string

	// relaying is the reply to a recipient that is none of ours.
	relaying string
}{
	lab.Sendmail: {
		accepted:    `^250 2\.0\.0 (\w+) Message accepted for delivery$`,
		received:    `^Received: from HELO \(client\.remote\.test \[192\.0\.2\.10\]\)\r\n\tby mx\.lab\.test [^\r]* with WITH id \w+`,
		unavailable: `^451 4\.3\.2 `,
		relaying:    `^550 5\.7\.1 .*Relaying denied`,
	},
	lab.Postfix: {
		accepted:    `^250 2\.0\.0 Ok: queued as (\w+)$`,
		received:    `^Received: from HELO \(client\.remote\.test \[192\.0\.2\.10\]\)\r\n\tby mx\.lab\.test \(Postfix\) with WITH id \w+`,
		unavailable: `^451 4\.7\.1 Service unavailable - try again later$`,
		relaying:    `^554 5\.7\.1 .*Relay access denied`,
	},
}

// accepted stands in a want for differences.accepted.
const accepted = "accepted"

// replyOf is the expression for a reply that a case wants.
func replyOf(mta *lab.MTA, reply string) string {
	if reply == accepted {
		return differences[mta].accepted
	}
	return reply
}

// receivedByMTA is the expression for the field that the MTA adds.
func receivedByMTA(mta *lab.MTA, helo, with string) string {
	return strings.NewReplacer("HELO", regexp.QuoteMeta(helo), "WITH", with).Replace(differences[mta].received)
}

// queueID finds the queue id in the MTA's reply; empty if it did not take the mail.
func queueID(mta *lab.MTA, reply lab.Reply) string {
	if m := regexp.MustCompile(differences[mta].accepted).FindStringSubmatch(reply.String()); m != nil {
		return m[1]
	}
	return ""
}

// onEach runs a test with every MTA, amavisd being in a profile.
func onEach(t *testing.T, profile lab.Profile, test func(t *testing.T, p *lab.Pipeline)) {
	t.Helper()
	needLab(t)
	for _, mta := range startingWith(shared.mta) {
		t.Run(mta.Name, func(t *testing.T) { test(t, withPipeline(t, mta, profile)) })
	}
}

// startingWith returns the MTAs, beginning with the one that the milter serves
// already.
func startingWith(mta *lab.MTA) []*lab.MTA {
	mtas := lab.MTAs()
	if i := slices.Index(mtas, mta); i > 0 {
		mtas[0], mtas[i] = mtas[i], mtas[0]
	}
	return mtas
}
