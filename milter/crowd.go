package milter

import (
	"cmp"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/minutely"
	"github.com/amavis-milter/amavis-milter/internal/panics"
)

// crowd is everybody who is connected, and what they hold together. Whoever comes
// when there is no room for more is refused, but not before those have gone that
// owe us bytes: port scans and stalled peers are not to keep out an MTA.
type crowd struct {
	log   *slog.Logger
	began time.Time

	mu         sync.Mutex // of all below, but for the atomics and logs
	limits     Limits
	conns      map[*guard]struct{} // all that are open
	draining   bool
	empty      chan struct{} // closed when draining and the last connection is gone
	sessions   int           // of conns, those within the limits
	refusing   int           // of conns, those that are told of the limits
	perAddress map[netip.Prefix]int

	// The last searches for room: those that found none within the limit of an address and in
	// all (the zero Prefix), and any in larger buffers.
	searched       map[netip.Prefix]time.Time
	searchedLarger time.Time

	buffered  atomic.Int64 // bytes by which read buffers exceed readAheadBytes, up to ordinaryBuffer
	relieving atomic.Bool  // relieve will look at them
	large     atomic.Int64 // bytes by which they exceed that
	envelopes atomic.Int64 // bytes in paths of messages

	logSessions, logAddress, logAway, logRoom, logBuffers, logEnvelopes minutely.Cases
}

func newCrowd(log *slog.Logger) *crowd {
	return &crowd{
		log: log, began: time.Now(),
		conns: make(map[*guard]struct{}), empty: make(chan struct{}),
		perAddress: make(map[netip.Prefix]int),
		searched:   make(map[netip.Prefix]time.Time),
	}
}

// now is the time by which debts are counted.
func (c *crowd) now() time.Duration { return time.Since(c.began) }

// standing is what a connection is to the limits.
type standing int

const (
	outside  standing = iota // not counted: not yet, or no more
	within                   // one of those that the limits allow
	refusing                 // beyond a limit: it is served a refusal
)

// track registers a connection and returns its standing; outside means that it is to
// be closed at once.
func (c *crowd) track(g *guard) standing {
	g.crowd, g.address = c, peerAddress(g.conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return outside
	}
	switch {
	case c.hasRoom(g.address):
		g.standing = within
		c.sessions++
		if g.address.IsValid() {
			c.perAddress[g.address]++
		}
	case c.refusing < maxRefusing || c.evict(refusing, func(*guard) bool { return true }):
		g.standing = refusing
		c.refusing++
	default:
		if n, tell := c.logAway.Next(); tell {
			c.log.Warn("connections beyond the limit are closed without an answer", "limit", "connections that are refused", "most", maxRefusing, "cases", n)
		}
		return outside
	}
	c.conns[g] = struct{}{}
	return g.standing
}

// hasRoom reports whether the limits allow one more connection from an address,
// after making room if they do not; c.mu is held.
func (c *crowd) hasRoom(from netip.Prefix) bool {
	if most := c.limits.SessionsPerAddress; most > 0 && from.IsValid() && c.perAddress[from] >= most &&
		!c.makeRoom(from, func(g *guard) bool { return g.address == from }) {
		if n, tell := c.logAddress.Next(); tell {
			c.log.Warn("too many connections from one address: further ones are refused", "limit", "sessions per address", "most", most, "address", from.Addr(), "cases", n)
		}
		return false
	}
	if most := c.limits.Sessions; most > 0 && c.sessions >= most && !c.makeRoom(netip.Prefix{}, func(*guard) bool { return true }) {
		if n, tell := c.logSessions.Next(); tell {
			c.log.Warn("too many connections: further ones are refused", "limit", "sessions", "most", most, "cases", n)
		}
		return false
	}
	return true
}

// makeRoom has evict look for room within the limit of an address, or in all. Where a
// search finds none, the next one there has to wait; elsewhere it does not, or who holds
// one limit full would keep room from being made at the others.
func (c *crowd) makeRoom(where netip.Prefix, helps func(*guard) bool) bool {
	if time.Since(c.searched[where]) < searchPause {
		return false
	}
	if c.evict(within, helps) {
		return true
	}
	c.searched[where] = time.Now()
	return false
}

// evict closes connections of a standing that have owed us bytes for too long, of those
// that would help: a few that owe their offer or the rest of a command, for no MTA does,
// or else the one that has owed us content for longest. It reports whether there was
// one; c.mu is held.
func (c *crowd) evict(of standing, helps func(*guard) bool) bool {
	var evicted []*guard
	var slow *guard
	longest, now := contentGrace, c.now()
	for g := range c.conns {
		if g.standing != of || !helps(g) {
			continue
		}
		switch owed, content := g.owes(now); {
		case !content && owed >= owedGrace:
			if evicted = append(evicted, g); len(evicted) == maxEvicted {
				return c.close(evicted)
			}
		case content && owed >= longest:
			slow, longest = g, owed
		}
	}
	if len(evicted) == 0 && slow != nil {
		evicted = append(evicted, slow)
	}
	return c.close(evicted)
}

// close closes connections to make room, and reports whether there are any; c.mu is
// held.
func (c *crowd) close(evicted []*guard) bool {
	if len(evicted) == 0 {
		return false
	}
	for _, g := range evicted {
		c.leave(g)
	}
	// To close one waits until its reader has noticed: not with all others waiting.
	go panics.Survive(c.log, "making room", func() {
		for _, g := range evicted {
			_ = g.shut()
		}
	})
	if n, tell := c.logRoom.Next(); tell {
		c.log.Warn("connections that owed us the rest of what they had begun were closed to make room for others", "closed", len(evicted), "cases", n)
	}
	return true
}

// leave takes a connection out of what is counted; c.mu is held.
func (c *crowd) leave(g *guard) {
	switch g.standing {
	case within:
		c.sessions--
		if !g.address.IsValid() {
			break
		}
		if c.perAddress[g.address]--; c.perAddress[g.address] <= 0 {
			delete(c.perAddress, g.address)
			delete(c.searched, g.address)
		}
	case refusing:
		c.refusing--
	}
	g.standing = outside
}

// untrack forgets a connection that is closed.
func (c *crowd) untrack(g *guard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.conns[g]; !ok {
		return
	}
	c.leave(g)
	delete(c.conns, g)
	if c.draining && len(c.conns) == 0 {
		close(c.empty)
	}
}

// list returns the connections; c.mu is held.
func (c *crowd) list() []*guard {
	conns := make([]*guard, 0, len(c.conns))
	for g := range c.conns {
		conns = append(conns, g)
	}
	return conns
}

func (c *crowd) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// ordinary counts bytes of a read buffer up to ordinaryBuffer, fewer if n is negative.
func (c *crowd) ordinary(n int) {
	if c.buffered.Add(int64(n)) > maxBufferedBytes && n > 0 {
		c.wantRoom()
	}
}

// wantRoom sees to it that relieve is at work.
func (c *crowd) wantRoom() {
	if !c.relieving.CompareAndSwap(false, true) {
		return
	}
	go func() {
		done := panics.Survive(c.log, "making room", c.relieve)
		c.relieving.Store(false)
		if done && c.buffered.Load() > maxBufferedBytes { // since then
			c.wantRoom()
		}
	}()
}

// relieve closes connections that owe us the rest of a frame, again and again as long as
// buffers of ordinary size are beyond their bound: also when nothing more comes that
// could ask for room.
func (c *crowd) relieve() {
	pause := time.NewTicker(searchPause)
	defer pause.Stop()
	for {
		excess := c.buffered.Load() - maxBufferedBytes
		if excess <= 0 {
			return
		}
		c.closeDebtors(excess)
		<-pause.C
	}
}

func (c *crowd) closeDebtors(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(c.debtors(bytes))
}

// debtors returns the connections that have owed us the rest of a frame for longest, and for
// too long, until their buffers and those that are given back soon have as many bytes; c.mu
// is held.
func (c *crowd) debtors(bytes int64) []*guard {
	type debtor struct {
		g    *guard
		owed time.Duration
	}
	var all []debtor
	now := c.now()
	for g := range c.conns {
		switch owed, _ := g.owes(now); {
		case g.standing == outside:
			bytes -= g.buffered.Load() // it is being closed
		case owed >= owedGrace && g.buffered.Load() > 0:
			all = append(all, debtor{g, owed})
		}
	}
	slices.SortFunc(all, func(a, b debtor) int { return cmp.Compare(b.owed, a.owed) })
	var chosen []*guard
	for _, d := range all {
		if bytes <= 0 {
			break
		}
		chosen = append(chosen, d.g)
		bytes -= d.g.buffered.Load()
	}
	return chosen
}

// reserve takes room for bytes of a larger read buffer if there is any.
func (c *crowd) reserve(n int) bool {
	if c.large.Add(int64(n)) <= maxLargeBytes {
		return true
	}
	c.large.Add(-int64(n))
	return false
}

// isShort reports whether read buffers had better be given back when they are empty.
func (c *crowd) isShort() bool { return c.buffered.Load() > maxBufferedBytes/2 }

// wantLargerRoom closes the connection that has owed us for longest the rest of what it
// holds a larger read buffer for, if it has for too long.
func (c *crowd) wantLargerRoom() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.searchedLarger) < searchPause {
		return
	}
	c.searchedLarger = time.Now() // one at a time: its room comes back a little later
	var worst *guard
	longest, now := owedGrace, c.now()
	for g := range c.conns {
		if owed, _ := g.owes(now); g.standing != outside && g.buffered.Load() > ordinaryBuffer-readAheadBytes && owed >= longest {
			worst, longest = g, owed
		}
	}
	if worst != nil {
		c.close([]*guard{worst})
	}
}

// noteShort tells the log that a connection waits for room.
func (c *crowd) noteShort() {
	if n, tell := c.logBuffers.Next(); tell {
		c.log.Warn("no room for a larger frame: its connection waits for others to finish theirs", "limit", "bytes of larger frames", "most", maxLargeBytes, "cases", n)
	}
}

// charge counts bytes of a message's paths, fewer if n is negative, and reports
// whether there is room for them; if not, they are not counted.
func (c *crowd) charge(n int) bool {
	if c.envelopes.Add(int64(n)) <= maxEnvelopesBytes || n <= 0 {
		return true
	}
	c.envelopes.Add(-int64(n))
	if n, tell := c.logEnvelopes.Next(); tell {
		c.log.Warn("no room for further recipients: messages are tempfailed", "limit", "paths of all messages, bytes", "most", maxEnvelopesBytes, "cases", n)
	}
	return false
}

// peerAddress returns the address that a connection comes from as it is counted,
// the zero Prefix for a local socket.
func peerAddress(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
