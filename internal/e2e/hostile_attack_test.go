package e2e

import (
	"bytes"
	wire "encoding/binary"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// The attackers.
const (
	attackSenders   = 4                      // goroutines that open connections
	attackAddresses = 10                     // from 127.0.0.1 on, which is the MTA's own
	dripInterval    = 250 * time.Millisecond // between two bytes of a slow writer
	dripParts       = 50                     // of the slow writers, each with its own moment in that time
	attackTimeout   = 20 * time.Second       // for a write that is not taken in
	largeFrame      = 1 << 20                // bytes
	negotiatedFrame = 64<<10 + 1             // bytes: the largest of an ordinary MTA
	heldBody        = 59_000                 // bytes of content
)

// attackKind is what an attacker sends, and what it does then.
type attackKind struct {
	name  string
	share int // of 100 attackers
	bytes []byte
	then  farewell
}

// farewell is what becomes of an attacker's connection.
type farewell int

const (
	hold  farewell = iota // until the attack is over
	hide                  // closed at once
	reset                 // with what was not read
	drip                  // bytes[i] every dripInterval
	push                  // more bytes than any socket takes, by a goroutine of its own
)

// attackSets are the kinds that attack together, by name.
var attackSets = map[string]func() []attackKind{
	allKinds:   attackKinds,
	onlyBodies: func() []attackKind { return []attackKind{bodies(100)} },
}

const (
	allKinds   = "all kinds"
	onlyBodies = "only bodies"
)

// attackKinds are all of them.
func attackKinds() []attackKind {
	offer, data := offered(), dataCommands()
	envelope := data[:len(data)-len(miltertest.Frame('T', nil))]
	after := func(frames ...[]byte) []byte { return append(slices.Clone(offer), slices.Concat(frames...)...) }
	half := func(length uint32, data string) []byte {
		return append(wire.BigEndian.AppendUint32(nil, length), data...)
	}
	macros := miltertest.Frame('D', []byte("M{i}\x00Q\x00{auth_type}\x00"+strings.Repeat("x", 4000)+"\x00"))
	nonsense := slices.Concat(miltertest.Frame('E', nil), miltertest.Frame('B', []byte("b")), miltertest.Frame('L', []byte("A\x00b\x00")),
		miltertest.Frame('M', []byte("<a@remote.test>\x00")), miltertest.Frame('T', nil), miltertest.Frame('E', []byte("b")), miltertest.Frame('A', nil))
	return []attackKind{
		{"connects", 5, nil, hide},
		{"port scan", 5, []byte("\x00\x01\x02\x03\xff\xfeSMB"), hide},
		{"TLS", 5, append([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), make([]byte, 506)...), hold},
		{"HTTP", 5, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), hold},
		{"SMTP", 4, []byte("EHLO x\r\n"), hold},
		{"half a length", 14, []byte{0, 0}, hold},
		{"half a frame", 14, after(half(4096, "Bhalf of it")), hold},
		{"most of a frame of 64 KiB", 3, after(data, half(negotiatedFrame, "B"+strings.Repeat("x", heldBody))), push},
		{"half of a frame of 1 MiB", 1, after(half(largeFrame, "B"+strings.Repeat("x", largeFrame/2))), push},
		{"huge length", 5, after(half(0x7fffffff, "B")), hold},
		{"slow writer", 10, after(macros, envelope), drip},
		{"silence", 12, offer, hold},
		{"macros", 3, after(bytes.Repeat(macros, 16)), hide},
		{"no message", 3, after(bytes.Repeat(nonsense, 64)), hold}, // who hides is not heard on a busy machine
		{"resets", 4, after(data), reset},
		{"silence behind DATA", 4, after(data), hold},
		bodies(3),
	}
}

// bodies are attackers who stop behind a piece of a body, which is stored.
func bodies(share int) attackKind {
	return attackKind{"silence behind a body", share, append(offered(), slices.Concat(dataCommands(), miltertest.Frame('B', make([]byte, heldBody)))...), push}
}

// offered is an offer, dataCommands what comes then until DATA.
func offered() []byte {
	return miltertest.Frame('O', []byte{0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff})
}

func dataCommands() []byte {
	return slices.Concat(miltertest.Frame('C', []byte("h\x004\x00\x19192.0.2.1\x00")), miltertest.Frame('H', []byte("h\x00")),
		miltertest.Frame('M', []byte("<a@remote.test>\x00")), miltertest.Frame('R', []byte("<b@lab.test>\x00")), miltertest.Frame('T', nil))
}

// attack is a number of attackers over a time.
type attack struct {
	attackOrder
	kinds []attackKind

	mu     sync.Mutex
	held   []net.Conn
	slow   []*slowWriter
	failed map[string]int // attackers that could not connect, by error
	pushes sync.WaitGroup
}

type slowWriter struct {
	conn net.Conn
	rest []byte
}

func newAttack(o attackOrder) *attack {
	return &attack{attackOrder: o, kinds: attackSets[o.Kinds](), failed: map[string]int{}}
}

// run has each attacker begin at its time, and returns when all have.
func (a *attack) run() {
	began := time.Now()
	var senders sync.WaitGroup
	for s := range attackSenders {
		senders.Go(func() {
			for i := s; i < a.Count; i += attackSenders {
				<-time.After(time.Until(began.Add(a.Duration * time.Duration(i) / time.Duration(a.Count))))
				a.one(i)
			}
		})
	}
	stop := make(chan struct{})
	var dripping sync.WaitGroup
	dripping.Go(func() { a.drip(stop) })
	senders.Wait()
	close(stop)
	dripping.Wait()
}

// one is the attacker of a number.
func (a *attack) one(i int) {
	from := 1 + i%attackAddresses
	conn, err := dialFrom(a.Network, a.Address, from)
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.failed[err.Error()]++
		return
	}
	kind := a.kind(i)
	if kind.then == push {
		a.pushes.Go(func() { a.write(conn, kind.bytes) })
	} else if kind.then != drip {
		a.write(conn, kind.bytes)
	}
	switch kind.then {
	case hide:
		conn.Close()
		return
	case reset:
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = append(a.held, conn)
	if kind.then == drip {
		a.slow = append(a.slow, &slowWriter{conn, kind.bytes})
	}
}

// kind spreads the kinds over the attackers.
func (a *attack) kind(i int) attackKind {
	n := i * 37 % 100
	for _, k := range a.kinds {
		if n -= k.share; n < 0 {
			return k
		}
	}
	panic("the shares are less than 100")
}

// write sends what is taken in; that the program closes the connection is its right.
func (a *attack) write(conn net.Conn, p []byte) {
	conn.SetWriteDeadline(time.Now().Add(attackTimeout))
	_, _ = conn.Write(p)
}

// drip has the slow writers write their next byte.
func (a *attack) drip(stop <-chan struct{}) {
	tick := time.NewTicker(dripInterval / dripParts)
	defer tick.Stop()
	for part := 0; ; part = (part + 1) % dripParts {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		a.mu.Lock()
		slow := a.slow
		a.mu.Unlock()
		for i := part; i < len(slow); i += dripParts {
			if w := slow[i]; len(w.rest) > 0 {
				a.write(w.conn, w.rest[:1])
				w.rest = w.rest[1:]
			}
		}
	}
}

// end closes what is still open.
func (a *attack) end() {
	a.mu.Lock()
	for _, conn := range a.held {
		conn.Close()
	}
	a.mu.Unlock()
	a.pushes.Wait()
}
