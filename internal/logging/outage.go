package logging

import (
	"errors"
	"strconv"
	"time"
)

// Bounds of the time that a log may cost which takes no lines.
const (
	writeTimeout = 100 * time.Millisecond // of one write, and of connecting to syslog
	retryPause   = time.Second            // between two attempts while it does not take lines
)

// errLost says that a line was dropped because the log did not take those before it.
var errLost = errors.New("the log does not take lines")

// outage is what a sink knows about a log that does not take lines.
type outage struct {
	now       func() time.Time // for the pause only
	downUntil time.Time        // no attempt before that
	lost      int              // lines dropped since the last one that was taken
}

// pauses reports whether it is too early for another attempt.
func (o *outage) pauses() bool { return o.now().Before(o.downUntil) }

// pause is called when the log did not take a line.
func (o *outage) pause() { o.downUntil = o.now().Add(retryPause) }

// notice is the line that tells how many were lost.
func (o *outage) notice(log string) []byte {
	return strconv.AppendInt([]byte(log+" did not take log lines lost="), int64(o.lost), 10)
}
