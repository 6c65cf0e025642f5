package bench

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// null is a milter that does nothing: it asks for no answers before the end of a message,
// and has its verdict ready. It shows what the load itself can do.
type null struct {
	loop *Loop
	fd   int
}

// The answers of the null milter: to the offer, and to the end of a message.
var (
	nullTerms = func() []byte {
		var noReplies uint32
		for _, b := range bits {
			noReplies |= b.noReply
		}
		var p []byte
		for _, v := range []uint32{6, 1, noReplies} {
			p = binary.BigEndian.AppendUint32(p, v)
		}
		return appendFrame(nil, cmdOptNeg, p...)
	}()
	nullAnswer = func() []byte {
		var p []byte
		for _, edit := range Told {
			p = appendFrame(p, ansAddHeader, cstrings(edit[0], edit[1])...)
		}
		return appendFrame(p, ansContinue)
	}()
)

// ready accepts one connection.
func (m *null) ready(uint32) {
	fd, errno := accept(m.fd)
	if errno == 0 && m.loop.add(fd, &nullConn{m, fd, make([]byte, 0, 2*readSize)}) != nil {
		closeFD(fd)
	}
}

// nullConn is one connection of it.
type nullConn struct {
	null *null
	fd   int
	in   []byte
}

func (c *nullConn) ready(uint32) {
	n, errno := read(c.fd, c.in[len(c.in):cap(c.in)])
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno != 0 || n == 0 {
		c.null.loop.remove(c.fd)
		return
	}
	p := c.in[:len(c.in)+n]
	for len(p) >= 5 {
		size := 4 + int(binary.BigEndian.Uint32(p))
		if len(p) < size {
			break
		}
		switch p[4] {
		case cmdOptNeg:
			write(c.fd, nullTerms)
		case cmdEOM:
			write(c.fd, nullAnswer)
		}
		p = p[size:]
	}
	c.in = append(c.in[:0], p...)
}

// asker is a raw client of the scanner: it shows what the scanner itself can do. What the
// loop calls is for one connection after the other.
type asker struct {
	loop    *Loop
	to      Endpoint
	fd      int
	scratch []byte
	asked   *int
	running *bool
	err     *error
}

// request is one as a milter sends it.
var request = []byte("request=AM.PDP\r\nversion_client=2\r\nprotocol_name=ESMTPS\r\nhelo_name=client.example.net\r\n" +
	"client_name=client.example.net\r\nclient_address=198.51.100.7\r\nsender=<sender@example.net>\r\nrecipient=<user@example.org>\r\n" +
	"queue_id=000000000001\r\ntempdir=/dev/shm/milter/amavis-milter-000000000001\r\ntempdir_removed_by=client\r\n" +
	"mail_file=/dev/shm/milter/amavis-milter-000000000001/email.txt\r\ndelivery_care_of=client\r\n\r\n")

func (a *asker) ask() {
	if !*a.running {
		return
	}
	fd, err := a.to.connect()
	if err == nil {
		err = a.loop.add(fd, a)
	}
	if err != nil {
		*a.err = err
		return
	}
	a.fd = fd
	write(fd, request)
}

func (a *asker) ready(uint32) {
	n, errno := read(a.fd, a.scratch)
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 || n != len(reply) {
		*a.err = fmt.Errorf("the scanner's reply has %d bytes: %w", n, errno)
	}
	a.loop.remove(a.fd)
	*a.asked++
	a.ask()
}

// Capacity is what a part of the benchmark can do, alone with a peer that costs little.
type Capacity struct {
	PerSecond float64
	CPU       time.Duration // for each, of the part alone
}

// SelfCheck measures the load against a milter that does nothing, and the scanner against
// a raw client, each over so many connections at once and for so long.
func SelfCheck(path string, conns, size int, d time.Duration) (load, scan Capacity, err error) {
	var loops [2]*Loop
	for i := range loops {
		if loops[i], err = NewLoop(); err != nil {
			return load, scan, err
		}
		defer loops[i].Close()
	}
	if load, err = checkLoad(loops, Endpoint{"unix", path}, conns, size, d); err == nil {
		scan, err = checkScanner(loops, Endpoint{"unix", path}, conns, d)
	}
	return load, scan, err
}

func checkLoad(loops [2]*Loop, at Endpoint, conns, size int, d time.Duration) (Capacity, error) {
	fd, at, err := at.listen()
	if err != nil {
		return Capacity{}, err
	}
	milter := &null{loops[1], fd}
	loops[1].Do(func() { err = loops[1].add(fd, milter) })
	if err != nil {
		return Capacity{}, err
	}
	defer unix.Unlink(at.Address)
	defer loops[1].Do(func() { loops[1].remove(fd) })
	l := NewLoad(loops[0], Postfix, NewMail(size), at)
	if err := l.Open(conns); err != nil {
		return Capacity{}, err
	}
	defer l.Close()
	l.Start()
	before, _ := l.Counts(nil)
	cpu := loops[0].CPU()
	time.Sleep(d)
	after, _ := l.Counts(nil)
	cpu = loops[0].CPU() - cpu
	if err := l.Stop(); err != nil {
		return Capacity{}, err
	}
	n := after.Messages - before.Messages
	return Capacity{float64(n) / (after.At - before.At).Seconds(), cpu / time.Duration(max(1, n))}, l.Err()
}

func checkScanner(loops [2]*Loop, at Endpoint, conns int, d time.Duration) (Capacity, error) {
	s, err := NewScanner(loops[0], at)
	if err != nil {
		return Capacity{}, err
	}
	defer s.Close()
	var asked int
	var failed error
	running := true
	loops[1].Do(func() {
		for range conns {
			a := &asker{loop: loops[1], to: s.At, scratch: make([]byte, readSize), asked: &asked, running: &running, err: &failed}
			a.ask()
		}
	})
	before, _ := s.Requests()
	cpu, at0 := loops[0].CPU(), now()
	time.Sleep(d)
	after, wrong := s.Requests()
	cpu, at1 := loops[0].CPU()-cpu, now()
	loops[1].Do(func() { running = false; err = failed })
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%d requests were none", wrong)
	}
	n := after - before
	return Capacity{float64(n) / (at1 - at0).Seconds(), cpu / time.Duration(max(1, n))}, err
}
