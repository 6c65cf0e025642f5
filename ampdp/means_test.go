package ampdp_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// A process without a descriptor left says so, names the limit, blames nobody else,
// and asks as before when there are descriptors again.
func TestDoWithoutDescriptors(t *testing.T) {
	onBoth(t, func(t *testing.T, start func(ampdptest.Handler) *ampdptest.Server) {
		server := start(ampdptest.Continue())
		client := server.Client()
		if _, err := client.Do(t.Context(), smallRequest()); err != nil {
			t.Fatal(err)
		}
		server.AwaitIdle(t)
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
		_, doErr := client.Do(t.Context(), smallRequest())
		probeErr := client.Probe(t.Context())
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{doErr, probeErr} {
			checkError(t, err, ampdp.Error{Cause: ampdp.CauseUnavailable, NoMeans: true}, syscall.EMFILE)
			if !strings.Contains(err.Error(), "limit on open files") {
				t.Errorf("nothing to do about it: %v", err)
			}
		}
		if _, err := client.Do(t.Context(), smallRequest()); err != nil {
			t.Error(err)
		}
	})
}
