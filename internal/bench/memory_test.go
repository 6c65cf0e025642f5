package bench

import (
	"strings"
	"sync/atomic"
	"testing"
)

// TestHold: what is held is worth a row only if all connections are there afterwards, and
// each of them has another message answered.
func TestHold(t *testing.T) {
	t.Parallel()
	const conns = 6
	var ends atomic.Int32
	// late answers the first message on each connection rightly.
	late := func(end []byte) func(byte, []byte) []byte {
		return func(event byte, _ []byte) []byte {
			switch {
			case event != 'E':
				return nil
			case ends.Add(1) > conns:
				return end
			}
			return rightEnd
		}
	}
	for _, c := range []struct {
		name   string
		milter scripted
		wrong  int
		say    string
	}{
		{"all stay", scripted{answer: atEnd(rightEnd)}, 0, ""},
		{"it hangs up after its answers", scripted{answer: atEnd(rightEnd), last: 1}, conns, "hung up"},
		{"it hangs up at the next message", scripted{answer: late([]byte{})}, conns, "hung up"},
		{"it answers the next message wrongly", scripted{answer: late(packets("t"))}, conns, "verdict t"},
	} {
		for _, atOnce := range []int{2, conns} {
			ends.Store(0)
			milter, loop := c.milter, newTestLoop(t)
			milter.protocol = testNoReplies
			l := NewLoad(loop, Postfix, NewMail(2000), milter.listen(t))
			row := Row{Name: c.name, goal: most(1, "MB")}
			if err := (&Rig{loop: loop}).hold(&row, 0, l, conns, atOnce, func() (float64, error) { return 1, nil }); err != nil {
				t.Fatal(err)
			}
			if row.Wrong[0] != c.wrong || row.Sent[0] != 2*conns || (row.Met() == "met") != (c.wrong == 0) {
				t.Errorf("%s, %d at once: %d of %d wrong, want %d; the goal is %s (%v)", c.name, atOnce, row.Wrong[0], row.Sent[0], c.wrong, row.Met(), l.Err())
			}
			if err := l.Err(); (err != nil) != (c.say != "") || err != nil && !strings.Contains(err.Error(), c.say) {
				t.Errorf("%s, %d at once: errors %v, want %q", c.name, atOnce, err, c.say)
			}
			l.Close()
		}
	}
}
