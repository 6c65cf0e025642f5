package faults

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// census counts goroutines that wait by what started them, without those of the
// runtime. One that runs is on its way out: everything it had is given back by then.
type census map[string]int

var (
	goroutineStart = regexp.MustCompile(`(?m)^goroutine ([1-9]\d*) (?:gp=\S+ m=\S+ (?:mp=\S+ )?)?\[([a-zA-Z() ]+)`)
	createdBy      = regexp.MustCompile(`(?m)^created by (\S+)`)
)

// goroutines ends the process by QUIT, on which Go's runtime prints all goroutines,
// and counts them.
func (d *daemon) goroutines() (census, error) {
	before := len(d.log.String())
	if err := d.signal(syscall.SIGQUIT); err != nil {
		return nil, err
	}
	if err := d.exits(2); err != nil { // the runtime's code after QUIT
		return nil, err
	}
	_, dump, found := strings.Cut(d.log.String()[before:], "SIGQUIT: quit")
	if !found {
		return nil, fmt.Errorf("no goroutines in what the program said:\n%s", d.log.String()[before:])
	}
	return count(dump), nil
}

// count reads a dump of Go's runtime.
func count(dump string) census {
	c := census{}
	starts := goroutineStart.FindAllStringSubmatchIndex(dump, -1)
	for i, at := range starts {
		end := len(dump)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		switch state := dump[at[4]:at[5]]; state {
		case "running", "runnable", "syscall":
			continue
		}
		who := "main"
		if m := createdBy.FindStringSubmatch(dump[at[0]:end]); m != nil {
			who = m[1]
		}
		if !strings.HasPrefix(who, "runtime.") {
			c[who]++
		}
	}
	return c
}

// moreThan is an error if there are goroutines that usual does not have.
func (c census) moreThan(usual census) error {
	for who, n := range c {
		if n > usual[who] {
			return fmt.Errorf("%d goroutines were started by %s, usually it is %d", n, who, usual[who])
		}
	}
	return nil
}

// usualGoroutines are those of a daemon that has passed one message.
var usualGoroutines = sync.OnceValues(func() (census, error) {
	d, err := startDaemon(options{})
	if err != nil {
		return nil, err
	}
	defer d.remove()
	if err := d.settle(0); err != nil {
		return nil, err
	}
	c, err := d.goroutines()
	if err == nil && len(c) < 2 {
		err = fmt.Errorf("only these goroutines were found: %v", c)
	}
	return c, err
})
