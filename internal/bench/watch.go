package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Watch runs a load on one program for a while, or until it is told to end, and logs its
// process id and then its rates each second.
func (r *Rig) Watch(p Program, c Case, d time.Duration) error {
	s, err := r.begin(p, c)
	defer func() { r.end(s) }()
	if err != nil {
		return err
	}
	fmt.Fprintf(r.Log, "%s has process id %d\n", p.Name, s.process.PID)
	for began := now(); now()-began < d; {
		m := &measured{}
		err := r.slice(s, m, 0, min(time.Second, d))
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(r.Log, "%8.0f msg/s %8.1f µs CPU/msg %6.2f waits/msg, median %.3f ms, p99 %.3f ms, %d wrong; load and scanner: %.1f µs CPU/msg\n",
			m.rate[0][0], m.cpu[0][0]*micro, m.waits[0][0], m.median[0][0]*milli, m.p99[0][0]*milli, m.wrong[0], m.own[0][0]*micro)
	}
	return s.load.Err()
}
