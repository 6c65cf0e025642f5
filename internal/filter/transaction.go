package filter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
)

// transaction is the way of one message from DATA to its verdict.
type transaction struct {
	filter   *Filter
	env      *milter.Envelope
	draft    *spool.Draft // nil if it could not be made
	fields   headerFields
	reply    *ampdp.Reply // its edits are in use until End
	broken   *failure     // why the message will not be scanned; nothing is stored then
	skipped  bool         // it shall not be scanned; nothing is stored then
	skipOver int64        // bytes beyond which it shall not
	removed  bool
	asked    bool // for the verdict
	summary  summary
}

// open makes the spool directory and writes the Received field. A panic leaves
// nothing behind: the session, which catches it, has no transaction to end.
func (t *transaction) open(received func() string) {
	draft, err := t.filter.opt.Spool.Create(t.env.QueueID)
	if err != nil {
		t.store(err)
		return
	}
	t.draft = draft
	opened := false
	defer func() {
		if !opened {
			t.remove()
		}
	}()
	t.store(draft.WriteRaw([]byte(received())))
	opened = true
}

// Header stores one field and counts it: the edits need to know how often a name
// occurs. Counting goes on when the spool has failed, for the message may be let
// pass all the same.
func (t *transaction) Header(name, value string) {
	t.count(len(name) + len(":") + len(value) + len("\r\n"))
	if t.broken == nil || t.broken.cause != causeHeader {
		if err := t.fields.add(name, value); err != nil {
			t.fail(&failure{causeHeader, err})
			t.fields.release() // such a message never passes
		}
	}
	if t.stores() {
		t.store(t.draft.Header(name, value))
	}
}

// EndHeader stores the empty line.
func (t *transaction) EndHeader() {
	t.count(len("\r\n"))
	if t.stores() {
		t.store(t.draft.EndHeader())
	}
}

// Body stores a piece of the body.
func (t *transaction) Body(chunk []byte) {
	t.count(len(chunk))
	if t.stores() {
		t.store(t.draft.Body(chunk))
	}
}

// count adds n bytes to the size of the message. What is stored of one that gets
// too large to be scanned goes at once: it may be most of the disk.
func (t *transaction) count(n int) {
	t.summary.size += int64(n)
	if t.summary.size > t.skipOver && !t.skipped {
		t.skipped = true
		t.remove()
	}
}

// stores reports whether there is still a use for what comes.
func (t *transaction) stores() bool { return t.broken == nil && !t.skipped }

// store takes the error of an attempt to store something and remembers it until
// somebody asks for the verdict.
func (t *transaction) store(err error) {
	if err != nil {
		t.fail(spoolFailure(err))
	}
}

// fail remembers the first reason for which the message will not be scanned. A
// header beyond our limits outweighs the others: such a message never passes.
func (t *transaction) fail(f *failure) {
	if t.broken == nil || f.cause == causeHeader {
		t.broken = f
	}
}

// Verdict asks amavisd about the message. See [milter.Transaction].
func (t *transaction) Verdict(ctx context.Context) milter.Verdict {
	t.asked = true
	// Whatever happens, a panic included: nothing may be left on the disk.
	defer t.remove()
	t.summary.cause = causePanic
	verdict, cause := t.answer(ctx)
	t.summary.cause = cause
	return verdict
}

// answer returns the verdict, and the cause if it is not amavisd's.
func (t *transaction) answer(ctx context.Context) (milter.Verdict, Cause) {
	log := messageLog(t.filter.opt.Log, t.env)
	if rule, ok := t.skip(); ok {
		changes, err := unscannedChanges(causeSkipped, &t.fields, t.filter.opt.XHeader)
		if err != nil {
			return t.failureVerdict(asFailure(err), log)
		}
		t.summary.rule = rule.String()
		return milter.Accept(changes...), causeSkipped
	}
	reply, err := t.ask(ctx, log)
	if t.reply = reply; reply != nil {
		t.summary.logID = reply.LogID
	}
	if err != nil && ctx.Err() != nil {
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, milter.ErrServerClosed):
			return milter.TempFail(replyShutdown), causeShutdown
		case errors.Is(cause, milter.ErrVerdictLate): // it is given if it still comes in time
			return milter.TempFail(replyUnavailable), CauseTimeout
		}
		// Nobody reads this answer; the summary tells who went away.
		return milter.TempFail(replyUnavailable), ""
	}
	if err != nil {
		return t.failureVerdict(asFailure(err), log)
	}
	t.filter.unknown.report(log, reply.Unknown)
	verdict, err := replyVerdict(reply, t.env.Recipients, &t.fields, t.filter.opt.XHeader, log)
	if err != nil {
		return t.failureVerdict(asFailure(err), log)
	}
	return verdict, ""
}

// skip returns the rule by which the message passes without a scan. A spool that
// failed does not matter to it. A header beyond our limits does: the forged marks
// in it were not counted, and could not be deleted.
func (t *transaction) skip() (rule Match, ok bool) {
	if !t.skipped || t.broken != nil && t.broken.cause == causeHeader {
		return Match{}, false
	}
	return t.filter.skips.first(t.env, t.summary.size)
}

// ask brings the message to a scanner and returns the reply. Its error is a
// *failure, or the cause of ctx.
func (t *transaction) ask(ctx context.Context, log *slog.Logger) (*ampdp.Reply, error) {
	f := t.filter
	ctx, cancel := context.WithTimeout(ctx, f.opt.Deadline)
	defer cancel()
	start := time.Now()
	defer func() { t.summary.wait = time.Since(start) - t.summary.scan }()

	if t.broken != nil {
		return nil, t.broken
	}
	message, err := t.draft.Seal()
	if err != nil {
		return nil, spoolFailure(err)
	}
	waiting := time.Now()
	if err := f.slots.acquire(ctx, f.opt.MaxWait); err != nil {
		return nil, &failure{CauseBusy, fmt.Errorf("%w: all %d are in use", err, f.opt.MaxConns)}
	}
	defer f.slots.release()
	s := &scan{
		scanners: f.scanners,
		req:      f.request(t.env, message.Dir(), message.File()),
		clean:    message.Clean,
		log:      log,
		wait:     f.opt.MaxWait - time.Since(waiting),
	}
	defer func() { t.summary.scan, t.summary.scanner = s.took, s.asked }()
	return s.do(ctx)
}

// failureVerdict answers a message that was not scanned and tells the log why.
func (t *transaction) failureVerdict(f *failure, log *slog.Logger) (milter.Verdict, Cause) {
	verdict, f := t.filter.opt.OnFailure.verdict(f, t.env.CanQuarantine, &t.fields, t.filter.opt.XHeader)
	level, what := slog.LevelWarn, "the message was not scanned"
	switch {
	case verdict.Disposition() == milter.DispositionAccept:
		what = "the message passes UNSCANNED"
	case f.cause == causeDelivered:
		what = "amavisd may have delivered the message: tempfail, whatever --on-failure says"
	case isLimit(f):
		level = slog.LevelDebug // whoever counts tells, once a minute
	case f.cause == CauseSpool || f.cause == causeRequest:
		level = slog.LevelError
	}
	attrs := []any{"cause", string(f.cause), "error", f.err}
	if cases := t.filter.limits.of(f); cases != nil && verdict.Disposition() != milter.DispositionAccept {
		if n, tell := cases.Next(); tell {
			attrs = append(attrs, "cases", n)
		} else {
			level = slog.LevelDebug
		}
	}
	log.Log(context.Background(), level, what, attrs...)
	return verdict, f.cause
}

// End removes what is left of the message and writes its line to the log.
func (t *transaction) End(outcome milter.Outcome) {
	t.fields.release()
	defer t.reply.Release() // the line tells of it, and whoever sent its edits is done
	t.remove()
	t.summary.log(t.filter.opt.Log, t.env, t.asked, outcome)
}

// remove removes the spool directory, once. It is called by Verdict and by End.
func (t *transaction) remove() {
	if t.draft == nil || t.removed {
		return
	}
	if err := t.draft.Remove(); err != nil {
		// End tries once more; the error names the path.
		messageLog(t.filter.opt.Log, t.env).Error("the spool directory could not be removed", "error", err)
		return
	}
	t.removed = true
}
