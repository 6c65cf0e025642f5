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
