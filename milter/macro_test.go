package milter

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestMacrosForUnknownCommands: they are left out, not held against the MTA.
func TestMacrosForUnknownCommands(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Postfix37)
	m.Greet()
	m.Macros('z', "i", "WRONG")
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
}

// list returns the macros as they were sent, without the command.
func (m *macros) list() string {
	names := make(map[uint8]string)
	for name, number := range macroNames {
		names[number] = name
	}
	var list strings.Builder
	for _, told := range m.told {
		list.WriteString(names[told.name] + "\x00" + told.value + "\x00")
	}
	return list.String()
}

// TestKeepMacros: nothing is kept that is not used, and nothing large.
func TestKeepMacros(t *testing.T) {
	value := func(n int) string { return strings.Repeat("v", n) }
	for in, want := range map[string]string{
		"M":                                   "M",
		"Mi\x00Q1\x00":                        "Mi\x00Q1\x00",
		"M{i}\x00Q1\x00":                      "M{i}\x00Q1\x00",
		"Mx\x00y\x00i\x00Q1\x00{foo}\x00\x00": "Mi\x00Q1\x00",
		"M{auth_type}\x00PLAIN":               "M{auth_type}\x00PLAIN\x00",
		"Mi":                                  "Mi\x00\x00",
		"M\x00\x00\x00\x00":                   "M",
		"Mi\x00Q1\x00i\x00Q2\x00j\x00h\x00":   "Mi\x00Q1\x00j\x00h\x00",
		"Mi\x00" + value(maxShortMacro-1):     "Mi\x00" + value(maxShortMacro-1) + "\x00",
		"Mi\x00" + value(maxShortMacro):       "Mi\x00" + value(maxShortMacro) + "\x00",
		"Mi\x00" + value(maxShortMacro+1):     "M",

		"R{rcpt_addr}\x00" + value(MaxMacroBytes-1): "R{rcpt_addr}\x00" + value(MaxMacroBytes-1) + "\x00",
		"R{rcpt_addr}\x00" + value(MaxMacroBytes):   "R{rcpt_addr}\x00" + value(MaxMacroBytes) + "\x00",
		"M{mail_addr}\x00" + value(MaxMacroBytes):   "M{mail_addr}\x00" + value(MaxMacroBytes) + "\x00",
		"R{rcpt_addr}\x00" + value(MaxMacroBytes+1): "R",
	} {
		var m macros
		m.take([]byte(in))
		if got := m.list(); got != want[1:] {
			t.Errorf("%.40q: %.60q, want %.60q", in, got, want[1:])
		}
	}
}

// TestMacrosTogether: what a connection is told beyond the bound on all macros is not
// known; what is not told any more makes room.
func TestMacrosTogether(t *testing.T) {
	long := strings.Repeat("v", MaxMacroBytes)
	for _, more := range []int{-1, 0, 1} {
		var m macros
		bytes := 0
		for _, stage := range []byte("CHMRT") {
			m.take([]byte(string(stage) + "{mail_addr}\x00" + long))
			bytes += MaxMacroBytes
		}
		m.take([]byte("E{rcpt_addr}\x00" + strings.Repeat("v", maxMacrosBytes-bytes-100)))
		m.take([]byte("Ni\x00" + strings.Repeat("q", 100+more) + "\x00j\x00"))
		if _, told := m.get("i"); told != (more <= 0) {
			t.Errorf("%d bytes more than there is room for: told is %v", more, told)
		}
		if _, told := m.get("j"); !told {
			t.Errorf("%d: what takes no room is not told", more)
		}
		m.forget(stageHelo)
		m.take([]byte("Ni\x00" + strings.Repeat("q", 101)))
		if _, told := m.get("i"); !told {
			t.Error("there is room, and it is not told")
		}
	}
}

// TestMacroMemory: a peer that fills frames with macros fills no memory, neither by
// such as are not used, nor by those that are, again and again and as large as may be.
func TestMacroMemory(t *testing.T) {
	var unused, used []string
	for i := range 20_000 {
		unused = append(unused, fmt.Sprint("{m", i, "}"), "")
	}
	for name := range macroNames {
		used = append(used, name, strings.Repeat("v", maxMacro([]byte(name))))
	}
	for range 5 {
		used = append(used, used...)
	}
	t.Run("unused", func(t *testing.T) { testMacroMemory(t, unused) })
	t.Run("used", func(t *testing.T) { testMacroMemory(t, used[:len(used)-len(used)%2]) })
}

func testMacroMemory(t *testing.T, macros []string) {
	b := startServer(t, &testHandler{}, quickTimes())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const connections = 5
	for range connections {
		m := b.mta(t, miltertest.Sendmail817)
		for _, stage := range []byte("CHMRTNEL") {
			if err := m.Macros(stage, macros...); err != nil {
				t.Fatal(err)
			}
		}
		if a, err := m.SendMessage(plainMessage); err != nil || a.Code != 'a' {
			t.Fatal(a, err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / connections; grown > 256<<10 {
		t.Errorf("%d bytes for each connection", grown)
	}
}

// TestForgottenMacrosAreGone: what is no longer told takes no memory, in whatever order
// a peer tells it.
func TestForgottenMacrosAreGone(t *testing.T) {
	var names []string
	for name := range macroNames {
		names = append(names, name)
	}
	short := func(n int) (data string) {
		for _, name := range names[:n] {
			data += name + "\x00\x00"
		}
		return data
	}
	long := "{mail_addr}\x00" + strings.Repeat("v", MaxMacroBytes) + "\x00"
	var m macros
	for at := 6 * len(names); at >= 0; at-- { // a long value at each place, from the last to the first
		left := at
		for _, command := range []byte("CHMRTN") {
			n := min(left, len(names))
			m.take(append([]byte{command}, short(n)...))
			left -= n
		}
		m.take([]byte("U" + long))
	}
	held := 0
	for _, told := range m.told[:cap(m.told)] {
		held += len(told.value)
	}
	if want := MaxMacroBytes; held > want {
		t.Errorf("%d bytes are held, want %d", held, want)
	}
}

// TestMacrosShrink: of a connection that dozes only the macros are kept that outlive a
// message, in no more memory than they take.
func TestMacrosShrink(t *testing.T) {
	var m macros
	for _, told := range []string{"Cj\x00mx.example.org\x00", "H{tls_version}\x00TLSv1.3\x00", "Mi\x00Q1\x00{auth_authen}\x00ann\x00", "R{rcpt_addr}\x00bob\x00", "Ei\x00Q1\x00"} {
		m.take([]byte(told))
		m.command(told[0])
	}
	m.shrink()
	if len(m.told) != 2 || cap(m.told) > 4 {
		t.Errorf("it holds %v, in room for %d", m.told, cap(m.told))
	}
	if host, _ := m.get("j"); host != "mx.example.org" {
		t.Errorf("j is %q", host)
	}
}

// TestMacroToldAgain: a value that is told again takes no more memory.
func TestMacroToldAgain(t *testing.T) {
	var m macros
	m.take([]byte("Mi\x00Q1\x00"))
	m.command('M')
	header := []byte("Li\x00Q1\x00")
	m.take(header)
	if n := testing.AllocsPerRun(100, func() { m.take(header) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if id, _ := m.get("i"); id != "Q1" {
		t.Errorf("i is %q", id)
	}
}
