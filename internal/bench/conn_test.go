package bench

import (
	"testing"
)

// TestHeard: an answer is the same however it is cut, and what is remembered of one that
// was right lets no other pass.
func TestHeard(t *testing.T) {
	t.Parallel()
	edits, verdict := packets(edit1, edit2), packets("c")
	other := packets(edit1, edit1, "c")
	for _, c := range []struct {
		name     string
		messages [][][]byte // what is read, of each
		wrong    int
	}{
		{"whole", [][][]byte{{rightEnd}, {rightEnd}}, 0},
		{"edits and verdict apart", [][][]byte{{edits, verdict}, {edits, verdict}}, 0},
		{"after that a verdict alone", [][][]byte{{edits, verdict}, {verdict}}, 1},
		{"in mid-frame", [][][]byte{{rightEnd[:7], rightEnd[7:]}, {rightEnd[:7], rightEnd[7:]}}, 0},
		{"after that the rest alone", [][][]byte{{rightEnd[:7], rightEnd[7:]}, {rightEnd}, {verdict}}, 1},
		{"progress before", [][][]byte{{packets("p"), rightEnd}, {packets("p"), rightEnd}}, 0},
		{"right, then wrong", [][][]byte{{rightEnd}, {verdict}, {rightEnd}, {packets("t")}}, 2},
		{"wrong, then the same", [][][]byte{{verdict}, {verdict}}, 2},
		{"another order", [][][]byte{{rightEnd}, {other}}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := NewLoad(nil, Postfix, NewMail(2000), Endpoint{})
			wrong := 0
			for _, chunks := range c.messages {
				// There is no descriptor: what follows an answer does nothing.
				m := &conn{load: l, fd: -1, phase: sending, bursts: []burst{{event: cmdEOM}}}
				before := len(l.kinds)
				for _, n := range l.kinds {
					before += n
				}
				for _, p := range chunks {
					m.heard(p)
				}
				after := len(l.kinds)
				for _, n := range l.kinds {
					after += n
				}
				if after != before {
					wrong++
				} else if m.phase != idle {
					t.Error("a message was not answered")
				}
			}
			if wrong != c.wrong {
				t.Errorf("%d wrong, want %d: %v", wrong, c.wrong, l.kinds)
			}
		})
	}
}

// TestHeardUnasked: an answer that nobody waits for is an error.
func TestHeardUnasked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*conn{
		"between messages":    {phase: idle, bursts: []burst{{event: cmdEOM}}, at: 1},
		"in a burst":          {phase: sending, bursts: []burst{{event: cmdEOM}}, rest: [][]byte{{1}}},
		"where none is due":   {phase: sending, bursts: []burst{{}}},
		"behind the last one": {phase: sending, bursts: []burst{{event: cmdEOM}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.load, c.fd = NewLoad(nil, Postfix, NewMail(2000), Endpoint{}), -1
			answer := packets("c")
			if name == "behind the last one" {
				answer = append(rightEnd[:len(rightEnd):len(rightEnd)], answer...)
			}
			c.heard(answer)
			if len(c.load.kinds) == 0 {
				t.Error("it was not noticed")
			}
		})
	}
}
