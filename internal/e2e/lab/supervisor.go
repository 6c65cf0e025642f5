package lab

import (
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Supervisor runs a milter as a service manager does: whenever it ends, it is
// started again at once, in the same way. Its ends are those that it was asked for,
// with code 0 unless by KILL; any other is an error.
type Supervisor struct {
	start        func() (*Milter, error)
	between      func(dead *Milter)
	startedAgain func(next *Milter)

	mu       sync.Mutex
	current  *Milter
	starts   int
	asked    syscall.Signal // by which the current instance has been told to end; 0 if it has not
	stopping bool
	errs     []error
	serving  chan struct{} // closed when the next instance serves, or none ever will
	done     chan struct{} // closed when none runs any more
}

// Supervise starts a milter by start and keeps it running. While none runs it calls
// between with the dead instance, and startedAgain with the next one once that
// serves; both may be nil.
func Supervise(start func() (*Milter, error), between, startedAgain func(*Milter)) (*Supervisor, error) {
	nothing := func(*Milter) {}
	if between == nil {
		between = nothing
	}
	if startedAgain == nil {
		startedAgain = nothing
	}
	s := &Supervisor{start: start, between: between, startedAgain: startedAgain, serving: make(chan struct{}), done: make(chan struct{})}
	milter, err := start()
	if err != nil {
		return nil, err
	}
	s.serves(milter)
	go s.run(milter)
	return s, nil
}

func (s *Supervisor) run(milter *Milter) {
	defer close(s.done)
	for {
		<-milter.process.done
		if !s.ended(milter) {
			return
		}
		s.between(milter)
		next, err := s.start()
		if err != nil {
			s.mu.Lock()
			s.errs = append(s.errs, fmt.Errorf("after instance %d ended no other would start: %w", s.starts, err))
			s.stopping = true
			close(s.serving)
			s.mu.Unlock()
			return
		}
		milter = next
		s.startedAgain(milter)
		s.serves(milter)
	}
}

// ended takes note of the end of an instance and reports whether to start another.
func (s *Supervisor) ended(milter *Milter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.asked == 0:
		s.errs = append(s.errs, fmt.Errorf("instance %d ended by itself (%v): %s", s.starts, milter.process.err, lastLines(milter.Output(), 40)))
	case s.asked != syscall.SIGKILL && milter.process.err != nil:
		s.errs = append(s.errs, fmt.Errorf("instance %d did not end well (%v): %s", s.starts, milter.process.err, lastLines(milter.Output(), 40)))
	}
	if s.stopping {
		close(s.serving)
	}
	return !s.stopping
}

// serves makes an instance the current one.
func (s *Supervisor) serves(milter *Milter) {
	s.mu.Lock()
	s.current, s.asked = milter, 0
	s.starts++
	stopping := s.stopping
	close(s.serving)
	s.serving = make(chan struct{})
	s.mu.Unlock()
	if stopping { // Stop came before there was whom to tell
		s.Signal(syscall.SIGTERM)
	}
}

// Current is the instance that serves, or served last, and its number, from 1.
func (s *Supervisor) Current() (*Milter, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.starts
}

// Await waits until an instance with at least this number serves.
func (s *Supervisor) Await(number int) error {
	limit := time.After(startTimeout)
	for {
		s.mu.Lock()
		starts, stopping, serving := s.starts, s.stopping, s.serving
		s.mu.Unlock()
		switch {
		case starts >= number:
			return nil
		case stopping:
			return fmt.Errorf("instance %d will never serve: %w", number, s.Err())
		}
		select {
		case <-serving:
		case <-limit:
			return fmt.Errorf("instance %d did not serve within %v", number, startTimeout)
		}
	}
}

// Signal sends a signal to the current instance if it still runs. After TERM, INT
// or KILL its end is expected.
func (s *Supervisor) Signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.process.Ended() {
		return fmt.Errorf("instance %d has ended already", s.starts)
	}
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL:
		s.asked = sig
	}
	return s.current.process.Signal(sig)
}

// Err is what has gone wrong so far, nil if nothing has.
func (s *Supervisor) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d things went wrong, the first of them: %w", len(s.errs), s.errs[0])
}

// Stop ends the milter and returns what went wrong in all the time.
func (s *Supervisor) Stop() error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.Signal(syscall.SIGTERM) // the error is that it has ended
	select {
	case <-s.done:
	case <-time.After(startTimeout + stopTimeout):
		milter, number := s.Current()
		milter.process.Kill()
		return fmt.Errorf("instance %d did not end within %v of TERM", number, startTimeout+stopTimeout)
	}
	return s.Err()
}
