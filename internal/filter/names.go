package filter

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/amavis-milter/amavis-milter/internal/minutely"
)

const (
	// maxNamesInAll is how many bytes the names of header fields may take in memory
	// for all messages together, what each may hold in any case aside.
	maxNamesInAll = 32 << 20

	// ownNames is how many bytes each message may hold whatever the others do: the
	// names of an ordinary header. So some messages that are nothing but names take
	// nothing from ordinary mail. In all this can be as much as there are sessions
	// times ownNames.
	ownNames = 8 << 10

	// nameCost is what one name takes at most in a table that has just grown, beside
	// its own bytes, which may leave as much unused behind them.
	nameCost = 80
)

// errNamesInAll says that maxNamesInAll is reached. A full spool is answered alike:
// it is us who lack something, and later there may be more.
var errNamesInAll = fmt.Errorf("%w: the headers of all messages together hold more than %d bytes of names", errHeaderTooLarge, maxNamesInAll)

// namesInAll counts the names that all messages hold, in bytes of memory. The nil
// namesInAll counts nothing and refuses nothing.
type namesInAll struct {
	log *slog.Logger

	refused minutely.Cases // messages

	mu   sync.Mutex
	held int64
}

// take counts n bytes more, or refuses a message for them.
func (a *namesInAll) take(n int64) bool {
	if a.has(n) {
		return true
	}
	if refused, tell := a.refused.Next(); tell {
		a.log.Warn("messages are refused: the names of header fields of all messages together would take too much memory; somebody sends headers that no mail has",
			"limit", maxNamesInAll, "messages", refused)
	}
	return false
}

// has counts n bytes more if there is room for them.
func (a *namesInAll) has(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held+n > maxNamesInAll {
		return false
	}
	a.held += n
	return true
}

// give takes n bytes off again.
func (a *namesInAll) give(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held -= n
}
