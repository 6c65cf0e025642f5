package bench

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// A mtaRig is one MTA with a listener for each program, an instant scanner, and the
// programs. Mail stays in the MTA's queue, which is emptied between two measurements.
type mtaRig struct {
	mta      *lab.MTA
	loop     *Loop
	process  *lab.Process
	milters  []*lab.Milter
	programs []mtaProgram
	message  []byte // dots stuffed, with the final one
	floor    func() // ends the milter that does nothing
}

// mtaProgram is one way for a message to go: through ours, through theirs, through a milter
// that does nothing, through none.
type mtaProgram struct {
	name    string // noMilter, floorMilter, or that of the program
	program Program
	more    []string // of the command line
	port    string
}

// noMilter is the program that there is not, floorMilter what an MTA's side of the milter
// protocol costs whatever the milter does.
const noMilter, floorMilter = "none", "floor"

// ours and theirs are the names of the two programs.
const ours, theirs = "ours", "theirs"

// mtaMessageSize is what the message has, in bytes.
const mtaMessageSize = 4 << 10

// mtaPorts is the port of the first program, the others follow.
const mtaPorts = 2600

// startMTARig starts all of it. Tools of the MTA come from the folder contrib.
func startMTARig(mta *lab.MTA, contrib string, loop *Loop, scanner Endpoint, programs []mtaProgram) (*mtaRig, error) {
	r := &mtaRig{mta: mta, loop: loop, floor: func() {}, message: NewMail(mtaMessageSize).smtp()}
	var listeners []lab.Listener
	for i, p := range programs {
		p.port = strconv.Itoa(mtaPorts + i)
		r.programs = append(r.programs, p)
		l := lab.Listener{Name: p.name, Port: p.port}
		if p.name != noMilter {
			l.Socket = mta.SocketOf(p.name)
			if err := r.startMilter(p, l.Socket, scanner); err != nil {
				return nil, errors.Join(err, r.close())
			}
		}
		listeners = append(listeners, l)
	}
	var err error
	if r.process, err = mta.StartHolding(contrib, listeners); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// smtp is the mail as a client sends it, with the final dot.
func (m Mail) smtp() []byte {
	var p []byte
	for _, h := range m.Header {
		p = append(append(append(append(p, h[0]...), ':'), strings.ReplaceAll(h[1], "\n", "\r\n")...), "\r\n"...)
	}
	p = append(append(p, "\r\n"...), m.Body...)
	return append(lab.Stuff(p), ".\r\n"...)
}

// startMilter starts a program in a working directory of its own.
func (r *mtaRig) startMilter(p mtaProgram, socket string, scanner Endpoint) error {
	work := filepath.Join(lab.AmavisHome, strings.ToLower(r.mta.Name)+"-"+p.name)
	if err := errors.Join(os.MkdirAll(work, 0o750), lab.GiveToAmavis(work)); err != nil {
		return err
	}
	if p.name == floorMilter {
		end, err := startNull(r.loop, Endpoint{"unix", socket})
		r.floor = end
		return err
	}
	args := p.program.args(Endpoint{"unix", socket}, scanner, work, work)
	m, err := lab.StartProgram(p.name, exec.Command(args[0], append(args[1:], p.more...)...), "unix", socket)
	if err != nil {
		return err
	}
	r.milters = append(r.milters, m)
	return r.mta.LetIn(socket)
}

// address is where a program's mail goes to.
func (r *mtaRig) address(p mtaProgram) string { return net.JoinHostPort(r.mta.HostOf(), p.port) }

// empty removes the mail that the MTA keeps; all of so many messages must be there, and
// each bear the scanner's mark if it went through a milter, none if not.
func (r *mtaRig) empty(p mtaProgram, want int) error {
	names, err := r.mta.Queued()
	if err != nil {
		return err
	}
	marked := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), Told[0][0]) {
			marked++
		}
	}
	kept, err := r.mta.Discard()
	if err != nil {
		return err
	}
	wantMarked := want
	if p.name == noMilter {
		wantMarked = 0
	}
	if kept != want || marked != wantMarked {
		return fmt.Errorf("%s, %s: of %d messages it keeps %d, %d of them marked by the scanner, want %d", r.mta.Name, p.name, want, kept, marked, wantMarked)
	}
	return nil
}

// startNull starts the milter that does nothing.
func startNull(loop *Loop, at Endpoint) (end func(), err error) {
	fd, at, err := at.listen()
	if err != nil {
		return func() {}, err
	}
	m := &null{loop, fd}
	loop.Do(func() { err = loop.add(fd, m) })
	return func() {
		loop.Do(func() { loop.remove(fd) })
		os.Remove(at.Address)
	}, err
}

func (r *mtaRig) close() error {
	errs := []error{r.process.Stop()}
	r.floor()
	for _, m := range r.milters {
		// The C program looks for TERM every 5 s only.
		if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
			errs = append(errs, err)
		}
		errs = append(errs, m.Stop())
	}
	return errors.Join(errs...)
}
