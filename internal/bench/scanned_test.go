package bench

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// askAsMilter asks a scanner as a milter does, and reads all of its reply.
func askAsMilter(t *testing.T, at Endpoint, request []byte) {
	t.Helper()
	c, err := net.Dial(at.Network, at.Address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	if _, err := c.Write(request); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(reply))); err != nil {
		t.Error(err)
	}
}

// TestUnscanned: a milter that has the right answer without asking the scanner for it is
// wrong in whatever is measured.
func TestUnscanned(t *testing.T) {
	t.Parallel()
	const conns, tick = 4, 10 * time.Millisecond
	measurements := map[string]func(*Rig, *Load) (sent, wrong int, err error){
		"a slice": func(r *Rig, l *Load) (int, int, error) {
			m := &measured{}
			err := l.Open(conns)
			if err == nil {
				err = r.slice(side{process: &Process{PID: os.Getpid()}, load: l}, m, 0, tick)
			}
			return m.sent[0], m.wrong[0], err
		},
		"growth": func(r *Rig, l *Load) (int, int, error) {
			var p growthPoint
			err := l.Open(conns)
			if err == nil {
				err = r.growthSlice(side{process: &Process{PID: os.Getpid()}, load: l}, growthLoad{conns: conns, atOnce: 2}, tick, &p)
			}
			return p.sent, p.wrong, err
		},
		"memory": func(r *Rig, l *Load) (int, int, error) {
			var row Row
			err := r.hold(&row, 0, l, conns, 1, func() (float64, error) { return 1, nil })
			return row.Sent[0], row.Wrong[0], err
		},
	}
	for _, c := range []struct {
		name     string
		requests [][]byte // for each message
		scanned  bool
	}{
		{"it asks", [][]byte{request}, true},
		{"it asks in amavisd-milter's words", [][]byte{bytes.Replace(request, []byte("AM.PDP"), []byte("AM%2ePDP"), 1)}, true},
		{"it asks twice", [][]byte{request, request}, true},
		{"it does not ask", nil, false},
		{"it asks for something else", [][]byte{[]byte("request=other\r\n\r\n")}, false},
	} {
		for what, measure := range measurements {
			loop := newTestLoop(t)
			scanner, err := NewScanner(loop, Endpoint{"unix", filepath.Join(t.TempDir(), "amavisd.sock")})
			if err != nil {
				t.Fatal(err)
			}
			milter := &scripted{protocol: testNoReplies, answer: func(event byte, _ []byte) []byte {
				if event != 'E' {
					return nil
				}
				for _, request := range c.requests {
					askAsMilter(t, scanner.At, request)
				}
				return rightEnd
			}}
			r := &Rig{ctx: context.Background(), loop: loop, scanner: scanner}
			l := r.load(Postfix, NewMail(2000), milter.listen(t))
			// What others ask between is none of this load's.
			askAsMilter(t, scanner.At, request)
			sent, wrong, err := measure(r, l)
			askAsMilter(t, scanner.At, request)
			if err != nil || sent == 0 || c.scanned && wrong != 0 || !c.scanned && wrong != sent {
				t.Errorf("%s, %s: %d of %d wrong, error %v", what, c.name, wrong, sent, err)
			}
			if err := l.Err(); (err == nil) != c.scanned || err != nil && !strings.Contains(err.Error(), "without asking the scanner") {
				t.Errorf("%s, %s: errors %v", what, c.name, err)
			}
			l.Close()
			scanner.Close()
		}
	}
}
