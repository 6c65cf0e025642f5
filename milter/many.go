package milter

import (
	"sync"

	"github.com/amavis-milter/amavis-milter/internal/panics"
)

// many tells when there are more connections than a number, and when there are no more
// so many. The zero value tells nobody.
type many struct {
	tell func(many bool)
	from int // so many are not many yet

	are bool // guarded by crowd.mu

	telling sync.Mutex // held while tell runs, which is told in turn
	told    bool
}

// judge looks at how many there are; c.mu is held.
func (c *crowd) judge() {
	if c.many.tell == nil {
		return
	}
	// Who comes and goes at the border is told of seldom.
	n, from := len(c.conns), c.many.from
	if are := n > from || c.many.are && n > from-from/4; are != c.many.are {
		c.many.are = are
		go c.tellMany()
	}
}

// tellMany tells how it is now, unless that is known.
func (c *crowd) tellMany() {
	c.many.telling.Lock()
	defer c.many.telling.Unlock()
	c.mu.Lock()
	are := c.many.are
	c.mu.Unlock()
	if are != c.many.told {
		c.many.told = are
		c.many.tell(are)
	}
}

// OnMany has a function called when there are more than so many connections, and again
// when there are clearly fewer. It must be set before Serve.
func (srv *Server) OnMany(connections int, tell func(many bool)) {
	srv.many.from = connections
	srv.many.tell = func(are bool) { panics.Survive(srv.log, "many connections", func() { tell(are) }) }
}
