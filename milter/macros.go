package milter

import (
	"bytes"
	"slices"
)

// Limits of a macro's value. A longer one counts as not told.
const (
	// MaxMacroBytes is for {mail_addr} and {rcpt_addr}.
	MaxMacroBytes = 4 << 10
	// maxShortMacro is for all others.
	maxShortMacro = 512
	// maxMacrosBytes is for the values of all macros that a connection was told and that
	// still hold. Both addresses at their longest, and all others as MTAs tell them, take
	// less than half of it.
	maxMacrosBytes = 24 << 10
)

// macroNames are the names of wantedMacros, and those of one letter with braces as
// well: libmilter's smfi_getsymval knows both. Each has a number of its own.
var macroNames = func() map[string]uint8 {
	names := map[string]uint8{}
	add := func(name string) {
		if _, ok := names[name]; !ok {
			names[name] = uint8(len(names))
		}
	}
	for _, list := range wantedMacros {
		for _, name := range list {
			add(name)
			if len(name) == 1 {
				add("{" + name + "}")
			}
		}
	}
	return names
}()

// macros are what an MTA has told by SMFIC_MACRO and what still holds: the macros for a
// command replace those for it and for later commands, and a command ends those for
// later ones, as in libmilter. They are kept here and not by the library, to which
// their packets would be half of a message's.
type macros struct {
	told  []toldMacro // in the order of their stages
	end   []toldMacro // for the end of the message, which did not come yet
	after stage       // what ends when the command at hand is done; zero: nothing
}

// toldMacro is one macro.
type toldMacro struct {
	stage stage
	name  uint8 // number in macroNames
	value string
}

// stage is a command by which macros are told, in their order.
type stage uint8

const (
	stageConnect stage = iota + 1
	stageHelo
	stageMail
	stageRcpt
	stageData
	stageEOH
	stageEOM
	stageCommand // any other command: such macros hold for that one alone
)

func stageOf(command byte) stage {
	switch command {
	case cmdConnect:
		return stageConnect
	case cmdHelo:
		return stageHelo
	case cmdMail:
		return stageMail
	case cmdRcpt:
		return stageRcpt
	case cmdData:
		return stageData
	case cmdEOH:
		return stageEOH
	case cmdBodyEOB:
		return stageEOM
	}
	return stageCommand
}

// forget ends the macros of a stage and of all later ones.
func (m *macros) forget(from stage) {
	kept := len(m.told)
	for kept > 0 && m.told[kept-1].stage >= from {
		kept--
	}
	clear(m.told[kept:]) // or their values would live on behind the end
	m.told = m.told[:kept]
}

// settle ends what the last command has ended.
func (m *macros) settle() {
	if m.after != 0 {
		m.forget(m.after)
		m.after = 0
	}
}

// shrink holds no more memory than what still holds needs.
func (m *macros) shrink() {
	m.settle()
	m.told = append([]toldMacro(nil), m.told...)
}

// command ends what a command that comes now ends. Macros for itself are told by now.
func (m *macros) command(command byte) {
	end := m.end
	m.end = nil
	switch at := stageOf(command); {
	case command == cmdQuitNC:
		m.forget(stageConnect)
	case command == cmdAbort:
		m.forget(stageHelo)
	case command == cmdBodyEOB:
		m.told = append(m.told, end...)
		m.after = stageMail // the message is over
	case at == stageCommand:
		m.after = stageCommand
	default:
		m.forget(at + 1)
	}
}

// take takes the data of an SMFIC_MACRO packet: the command, and names and values in
// turn. Those for the end of the message are kept apart until that comes; it must be the
// next command, for they say nothing of another.
func (m *macros) take(data []byte) {
	at := stageOf(data[0])
	m.forget(at)
	room := maxMacrosBytes
	for _, t := range m.told {
		room -= len(t.value)
	}
	if at == stageEOM {
		m.end = appendMacros(nil, at, data[1:], room)
		return
	}
	for _, t := range m.end {
		room -= len(t.value)
	}
	m.told = appendMacros(m.told, at, data[1:], room)
}

// appendMacros appends the macros in names and values. Nothing is kept but what is used,
// each name once: an MTA to which SETSYMLIST means nothing sends more. Of a name that
// comes again, which no MTA does, the first counts. Their values have room bytes.
func appendMacros(told []toldMacro, at stage, rest []byte, room int) []toldMacro {
	first := len(told)
	for len(rest) > 0 {
		var name, value []byte
		name, rest, _ = bytes.Cut(rest, []byte{0})
		value, rest, _ = bytes.Cut(rest, []byte{0})
		number, used := macroNames[string(name)]
		if !used || len(value) > min(maxMacro(name), room) || slices.ContainsFunc(told[first:], func(t toldMacro) bool { return t.name == number }) {
			continue
		}
		room -= len(value)
		told = append(told, toldMacro{at, number, valueOf(told, number, value)})
	}
	return told
}

// valueOf returns the value of a macro as a string: one that was told already, if there is
// one, for Postfix tells the queue id again before each header field.
func valueOf(told []toldMacro, number uint8, value []byte) string {
	for i := len(told) - 1; i >= 0; i-- {
		if told[i].name == number && told[i].value == string(value) {
			return told[i].value
		}
	}
	return string(value)
}

// maxMacro returns how many bytes the value of a macro may have.
func maxMacro(name []byte) int {
	if string(name) == "{mail_addr}" || string(name) == "{rcpt_addr}" {
		return MaxMacroBytes
	}
	return maxShortMacro
}

// get returns the value of a macro, that of the latest stage.
func (m *macros) get(name string) (value string, told bool) {
	number, ok := macroNames[name]
	if !ok {
		return "", false
	}
	for i := len(m.told) - 1; i >= 0; i-- {
		if m.told[i].name == number {
			return m.told[i].value, true
		}
	}
	return "", false
}
