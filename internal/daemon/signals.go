package daemon

import (
	"context"
	"log/slog"
	"os"
)

// Service is a server that ends in an orderly way on signals.
type Service struct {
	// Serve serves until it fails, or until Drain or End has ended it.
	Serve func() error

	// Drain stops accepting and lets what is under way finish. It is called at the first TERM or INT and must return soon
	// after ctx is done: after DrainTime, or at a second signal.
	Drain func(ctx context.Context) error

	// End ends everything at once. It is called at the second TERM or INT.
	End func()

	// Hangup is called at HUP, one call at a time; nil only logs.
	Hangup func()

	Log *slog.Logger
}

// NotifySignals starts to catch the signals that Run wants, and ignores SIGPIPE.
func NotifySignals() (signals <-chan os.Signal, stop func()) { return nil, func() {} }

// Run serves until Serve returns on its own (its error is returned), or until a signal has ended it (nil).
func (s *Service) Run(signals <-chan os.Signal) error { return nil }
