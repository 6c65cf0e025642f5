package filter

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/amavis-milter/amavis-milter/milter"
)

// noQueueID stands for a queue id that the MTA did not tell, as in Postfix's log.
const noQueueID = "NOQUEUE"

// Bounds of what a log line shows of words from outside, in bytes.
const (
	maxLoggedPath = 512 // RFC 5321 section 4.5.3.1.3 allows 256; a sender may ignore that
	maxLoggedID   = 128 // a queue id, or amavisd's log_id, which is longer by some digits
)

// summary gathers what the one log line of a message says.
type summary struct {
	size  int64 // bytes of the message as the MTA sent them
	logID string
	cause Cause         // of a verdict that is not amavisd's
	rule  string        // by which the message was not scanned
	wait  time.Duration // for a slot and a scanner
	scan  time.Duration // from the connect of the last try to its end

	scanner string // of the last try, if there are several
}

// log writes the line: at Info what was sent to the MTA, the session's own answer
// without a verdict included; at Warn if it may not have arrived; at Debug if the
// message ended before anybody had asked for a verdict, and nobody was answered.
func (s *summary) log(log *slog.Logger, env *milter.Envelope, asked bool, outcome milter.Outcome) {
	level := slog.LevelInfo
	switch {
	case !asked && outcome.Sent.Disposition() == 0:
		level = slog.LevelDebug
	case outcome.Err != nil:
		level = slog.LevelWarn
	}
	if !log.Enabled(context.Background(), level) {
		return
	}
	verdict := "aborted"
	if d := outcome.Sent.Disposition(); d != 0 {
		verdict = d.String()
	}
	attrs := make([]slog.Attr, 0, 16)
	attrs = append(attrs, queueID(env))
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("verdict", verdict)
	add("log_id", truncate(s.logID, maxLoggedID))
	add("from", truncate(env.Sender.String(), maxLoggedPath))
	attrs = append(attrs, slog.Int("nrcpt", len(env.Recipients)), slog.Int64("size", s.size))
	add("reply", truncate(outcome.Sent.Reply().String(), maxLoggedReply))
	add("cause", string(s.cause))
	add("rule", s.rule)
	if asked {
		add("wait", seconds(s.wait))
		add("scan", seconds(s.scan))
		add("scanner", s.scanner)
	}
	client := env.Client.Address
	switch {
	case client != "":
	case isLocal(env):
		client = "local"
	default: // hidden by a proxy
		client = unknownName
	}
	add("client", client)
	if outcome.Err != nil {
		add("error", outcomeText(outcome.Err))
	}
	log.LogAttrs(context.Background(), level, "", attrs...)
}

// outcomeText words the ends that occur in daily life for a postmaster.
func outcomeText(err error) string {
	if errors.Is(err, milter.ErrPeerGone) {
		return milter.ErrPeerGone.Error() + " before it had the verdict"
	}
	return err.Error()
}

// messageLog returns a logger whose lines bear the queue id of a message. Most messages
// have one line, so that nothing is prepared for more.
func messageLog(log *slog.Logger, env *milter.Envelope) *slog.Logger {
	return slog.New(&messageHandler{log.Handler(), env})
}

// queueID is the attribute that names a message.
func queueID(env *milter.Envelope) slog.Attr {
	id := env.QueueID
	if id == "" {
		id = noQueueID
	}
	return slog.String("queue_id", truncate(id, maxLoggedID))
}

// messageHandler puts the queue id into each line.
type messageHandler struct {
	slog.Handler
	env *milter.Envelope
}

func (h *messageHandler) Handle(ctx context.Context, r slog.Record) error {
	named := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	named.AddAttrs(queueID(h.env)) // first: a line that is too long is cut at its end
	r.Attrs(func(a slog.Attr) bool {
		named.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, named)
}

func (h *messageHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.Handler.WithAttrs([]slog.Attr{queueID(h.env)}).WithAttrs(attrs)
}

func (h *messageHandler) WithGroup(name string) slog.Handler {
	return h.Handler.WithAttrs([]slog.Attr{queueID(h.env)}).WithGroup(name)
}

// seconds writes a time as seconds with three decimals.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) }

// truncate cuts s to n bytes and shows that it did.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}
