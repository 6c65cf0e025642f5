// Package filter is the bridge between an MTA and amavisd: it stores each message
// in the spool, asks amavisd about it, and turns the reply into a verdict.
//
// It implements [milter.Handler] on top of packages ampdp and spool. What amavisd's
// replies mean is in verdict.go and edits.go, what failures mean in failure.go, and
// nowhere else. It knows neither flags nor signals nor who listens where, and it
// never speaks to the MTA: progress during a long scan is package milter's.
package filter

import (
	"log/slog"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
)

// DefaultDeadline is the default of Options.Deadline: SMTP clients wait 10 minutes
// for the answer to a message (RFC 5321 section 4.5.3.2.6).
const DefaultDeadline = 540 * time.Second

// Options are the choices of the administrator.
type Options struct {
	Spool    *spool.Spool
	Scanners []*ampdp.Client // the least busy one that answers is asked

	// MaxConns is how many messages are with the scanners at a time; 0 is no bound.
	MaxConns int

	// MaxWait is how long one message waits before it is scanned, for a slot and
	// for scanners that are busy or do not answer. 0: it does not wait.
	MaxWait time.Duration

	// RetryTime is how long one message asks again when no scanner answers, within
	// MaxWait. 0: it does not ask again.
	RetryTime time.Duration

	// Deadline bounds a whole Verdict; 0 is DefaultDeadline.
	Deadline time.Duration

	// OnFailure says what becomes of a message that cannot be scanned.
	OnFailure OnFailure

	// XHeader marks a message that was scanned and passed; the zero value is none.
	XHeader HeaderField

	// DaemonPolicyBank asks for the policy bank that is called like the listener of
	// the MTA (amavisd-milter's -B).
	DaemonPolicyBank bool

	// PolicyBanks are asked for, in this order and after those that the MTA's facts
	// give, where their match fits: amavisd lets a later bank override an earlier.
	PolicyBanks []PolicyBank

	// Skips are the messages that pass without a scan, marked as such. The zero Match
	// is ignored here.
	Skips []Match

	// DeliveryCareOf is AM.PDP's delivery_care_of: ampdp.CareOfClient, which is the
	// default, or ampdp.CareOfServer.
	DeliveryCareOf string

	// Hostname stands in the Received field where the MTA does not tell its own.
	Hostname string

	// Log takes all that is logged; nil discards it.
	Log *slog.Logger
}

// Filter is the handler of all messages.
type Filter struct {
	opt      Options
	skips    skips
	slots    slots
	scanners *scanners
	unknown  unknownNames
	names    namesInAll
	replies  *ampdp.Room
	limits   limitLines
}

var _ milter.Handler = (*Filter)(nil)

// New returns a filter. Close it when no transaction is left.
func New(opt Options) *Filter {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Deadline <= 0 {
		opt.Deadline = DefaultDeadline
	}
	f := &Filter{
		opt:      opt,
		skips:    newSkips(opt.Skips),
		slots:    slots{limit: max(opt.MaxConns, 0)},
		scanners: newScanners(opt.RetryTime, opt.MaxWait, opt.Log),
		names:    namesInAll{log: opt.Log},
		replies:  ampdp.NewRoom(maxReplies, ownReply),
	}
	for _, c := range clients(opt.Scanners) {
		c.Client = withRoom(c.Client, f.replies)
		f.scanners.add(c.Network+":"+c.Address, c)
	}
	return f
}

// Close ends what runs in the background: the probing of dead scanners. It is
// idempotent. The spool is the caller's to close.
func (f *Filter) Close() { f.scanners.close() }

// Begin opens the transaction of one message: it makes its spool directory and
// writes the Received field. What goes wrong with that is told by the verdict. A
// message that is skipped for its envelope leaves the disk alone.
func (f *Filter) Begin(env *milter.Envelope) milter.Transaction {
	t := &transaction{filter: f, env: env, skipOver: f.skips.over(), fields: headerFields{inAll: &f.names, xHeader: f.opt.XHeader.Name}}
	if _, t.skipped = f.skips.first(env, 0); t.skipped {
		return t
	}
	t.open(func() string { return receivedField(env, f.opt.Hostname, time.Now()) })
	return t
}
