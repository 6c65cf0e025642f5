package milter

import "errors"

// What ends a transaction before its verdict has reached the MTA.
var (
	ErrAborted      = errors.New("the MTA aborted the message")
	ErrPeerGone     = errors.New("the MTA hung up")
	ErrServerClosed = errors.New("amavis-milter is shutting down")
	ErrVerdictLate  = errors.New("no verdict in time: is the disk hung?")
)
