package milter

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
	gomilter "github.com/d--j/go-milter"
)

// macroRecorder writes down at each event which macros the library knows.
type macroRecorder struct {
	gomilter.NoOpMilter
	lines []string
}

// allMacros writes all macros that are used and told.
func allMacros(event string, get func(name string) (string, bool)) string {
	var told []string
	for name := range macroNames {
		if value, ok := get(name); ok {
			told = append(told, name+"="+value)
		}
	}
	slices.Sort(told)
	return event + ": " + strings.Join(told, " ")
}

func (r *macroRecorder) note(event string, m gomilter.Modifier) (*gomilter.Response, error) {
	r.lines = append(r.lines, allMacros(event, func(name string) (string, bool) { return m.GetEx(name) }))
	return gomilter.RespContinue, nil
}

func (r *macroRecorder) Connect(_, _ string, _ uint16, _ string, m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("C", m)
}
func (r *macroRecorder) Helo(_ string, m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("H", m)
}
func (r *macroRecorder) MailFrom(_, _ string, m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("M", m)
}
func (r *macroRecorder) RcptTo(_, _ string, m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("R", m)
}
func (r *macroRecorder) Data(m gomilter.Modifier) (*gomilter.Response, error) { return r.note("T", m) }
func (r *macroRecorder) Header(_, _ string, m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("L", m)
}
func (r *macroRecorder) Headers(m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("N", m)
}
func (r *macroRecorder) BodyChunk(_ []byte, m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("B", m)
}
func (r *macroRecorder) Unknown(_ string, m gomilter.Modifier) (*gomilter.Response, error) {
	return r.note("U", m)
}
func (r *macroRecorder) EndOfMessage(m gomilter.Modifier) (*gomilter.Response, error) {
	r.lines = append(r.lines, allMacros("E", func(name string) (string, bool) { return m.GetEx(name) }))
	return gomilter.RespAccept, nil
}

// asLibrary returns what the library knows at the events in frames.
func asLibrary(t *testing.T, frames []byte) []string {
	r := &macroRecorder{}
	ours, theirs := socketPair()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, ours)
	}()
	setLibraryLog(newTestLog(&logBuffer{}))
	go gomilter.NewServer(gomilter.WithMilter(func() gomilter.Milter { return r })).Serve(&oneShot{conn: theirs})
	offer := miltertest.Frame('O', []byte("\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff"))
	for _, p := range [][]byte{offer, frames, miltertest.Frame('Q', nil)} {
		if _, err := ours.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	ours.Close()
	return r.lines
}

// asGuard returns what the guard knows at the same events.
func asGuard(frames []byte) (lines []string) {
	g := newGuard(nil, DefaultTimes())
	for len(frames) > 0 {
		n := frameHeaderBytes + int(frames[2])<<8 + int(frames[3])
		frame := frames[:n]
		frames = frames[n:]
		g.admitted = nil
		g.macros.settle()
		g.handOn(frame[4], frame[5:], frame)
		if strings.IndexByte("CHMRTLNBEU", frame[4]) >= 0 {
			lines = append(lines, allMacros(string(frame[4]), g.macros.get))
		}
	}
	return lines
}

// TestMacrosAsInTheLibrary: at each event of a connection the same macros hold as the
// library would know, whatever comes in whatever order. In three things they differ, which
// do not occur here: macros for the end of a message stay until that, and go before
// those for the end of the header; macros for a RCPT do not hold for one that is told none.
func TestMacrosAsInTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"i", "{i}", "j", "r", "{mail_addr}", "{rcpt_addr}", "{tls_version}", "{not used}"}
	data := map[byte]string{'C': "host\x00U", 'H': "helo\x00", 'M': "<a@x>\x00", 'R': "<b@y>\x00", 'L': "A\x00 b\x00", 'B': "text", 'U': "X\x00"}
	var frames []byte
	tell := func(command byte) {
		macros, names := []byte{command}, names
		switch command {
		case 'N':
			names = names[:4]
		case 'E':
			names = names[4:]
		}
		for range random.IntN(4) {
			macros = fmt.Appendf(macros, "%s\x00%d\x00", names[random.IntN(len(names))], len(frames))
		}
		frames = append(frames, miltertest.Frame('D', macros)...)
	}
	const steps = 20_000
	for range steps {
		command := "CHMRTLNBEAUKMRTLNBEMRTLNBE"[random.IntN(26)]
		told := random.IntN(3) == 0 && command != 'A' && command != 'K'
		if told || command == 'R' {
			tell(command)
		}
		// Macros for a command that never comes count as well.
		if command == 'E' || command == 'R' || random.IntN(5) > 0 {
			frames = append(frames, miltertest.Frame(command, []byte(data[command]))...)
		}
	}
	want, got := asLibrary(t, frames), asGuard(frames)
	if len(want) < steps/2 || len(got) != len(want) {
		t.Fatalf("%d events, %d in the library", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("event %d: %s, in the library %s; before it %q", i, got[i], want[i], want[max(0, i-5):i])
		}
	}
}
