package filter

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
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

	// nameCost is what one name takes beside its own bytes, which are held twice (as
	// spelled and in lower case): measured for 30 to 10,000 names in a map.
	nameCost = 80

	// namesLogPause is the time between two lines about refused messages.
	namesLogPause = time.Minute
)

// errNamesInAll says that maxNamesInAll is reached. A full spool is answered alike:
// it is us who lack something, and later there may be more.
var errNamesInAll = fmt.Errorf("%w: the headers of all messages together hold more than %d bytes of names", errHeaderTooLarge, maxNamesInAll)

// namesInAll counts the names that all messages hold, in bytes of memory. The nil
// namesInAll counts nothing and refuses nothing.
type namesInAll struct {
	log *slog.Logger

	mu      sync.Mutex
	held    int64
	told    time.Time // the last line; zero for none
	refused int       // messages since then
}

// take counts n bytes more, or refuses a message for them.
func (a *namesInAll) take(n int64) bool {
	a.mu.Lock()
	if a.held+n <= maxNamesInAll {
		a.held += n
		a.mu.Unlock()
		return true
	}
	a.refused++
	refused := a.refused
	tell := a.told.IsZero() || time.Since(a.told) >= namesLogPause
	if tell {
		a.refused, a.told = 0, time.Now()
	}
	a.mu.Unlock()
	if tell {
		a.log.Warn("messages are refused: the names of header fields of all messages together would take too much memory; somebody sends headers that no mail has",
			"limit", maxNamesInAll, "messages", refused)
	}
	return false
}

// give takes n bytes off again.
func (a *namesInAll) give(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held -= n
}
