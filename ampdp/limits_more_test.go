package ampdp_test

import (
	"fmt"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// TestUnknownLimit: what is unknown is kept up to a number, and no mistake beyond it.
func TestUnknownLimit(t *testing.T) {
	for _, n := range []int{ampdp.MaxUnknown - 1, ampdp.MaxUnknown, ampdp.MaxUnknown + 1} {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf("future%d=x", i))
		}
		reply, err := read(ampdptest.Lines(append(lines, "return_value=continue")...))
		if want := min(n, ampdp.MaxUnknown); err != nil || len(reply.Unknown) != want {
			t.Errorf("%d unknown attributes: %d are kept, want %d; %v", n, len(reply.Unknown), want, err)
		}
	}
}

// TestIndexLimit: indices fit libmilter's signed 32 bits.
func TestIndexLimit(t *testing.T) {
	for index, ok := range map[string]bool{"2147483646": true, "2147483647": true, "2147483648": false} {
		for _, edit := range []string{"delheader=%s A", "chgheader=%s A b", "insheader=%s A b"} {
			line := fmt.Sprintf(edit, index)
			if _, err := read(ampdptest.Lines(line, "return_value=continue")); (err == nil) != ok {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}
