package milter

import "time"

// Limits bounds how many connections there may be. 0 means no limit.
type Limits struct {
	// Sessions is how many connections there may be in all.
	Sessions int
	// SessionsPerAddress is how many of them may come from one IP address, or from one
	// /64 of IPv6, which is what one host can have. Local sockets have no addresses.
	SessionsPerAddress int
}

// Limits of what all connections hold together.
const (
	// maxRefusing is how many connections beyond Limits may be told so at a time;
	// others are closed at once.
	maxRefusing = 256

	// refusingIdle is how long one of these may be silent.
	refusingIdle = time.Minute

	// maxBufferedBytes is how much the read buffers of all connections may grow beyond
	// readAheadBytes, up to ordinaryBuffer each. Beyond it the connections that have owed us
	// the rest of a frame for longest are closed, until it is so much. Nobody waits for
	// that: what is held by those that owe us nothing is needed.
	maxBufferedBytes = 6 << 20

	// maxLargeBytes bounds what they grow beyond that, for frames that are larger than
	// any that we negotiate: long header fields, and hostile ones. Who needs more waits.
	maxLargeBytes = 8 << 20

	// bufferPoll is the time between two attempts to get that room.
	bufferPoll = 5 * time.Millisecond

	// maxEnvelopesBytes bounds the memory that the paths of all messages take, what each
	// may hold in any case aside.
	maxEnvelopesBytes = 32 << 20

	// ownEnvelope is how many bytes of paths a message may hold whatever the others do:
	// some 70 recipients. Without it a few that hold all there is would keep out all mail.
	ownEnvelope = 8 << 10

	// pathCost is what a path takes beside its bytes: its place in a slice that grows by
	// copying, and the rounding of its allocations.
	pathCost = 96

	// maxName bounds what is kept of a HELO name and of a client's name, in bytes. No
	// line of SMTP is longer: Postfix takes 2,048, and amavisd is told all of it.
	maxName = 4 << 10

	// owedGrace is how long an MTA may owe us bytes that it has no reason to hold back
	// (its offer, the rest of a frame, the rest of a message's content) before its
	// connection is the first to be closed when there is no room for others.
	owedGrace = time.Second

	// contentGrace is the same for one in the content of a message, when it is about
	// connections: its MTA may have a slow link or a slow disk.
	contentGrace = 10 * time.Second

	// refusingNegotiate is how long a connection beyond Limits may take for its offer.
	refusingNegotiate = 5 * time.Second

	// searchPause is the time between two searches for such connections, after one that
	// was in vain.
	searchPause = 50 * time.Millisecond

	// maxEvicted is how many of these are closed at a time.
	maxEvicted = 64
)
