package milter

// This file is what the library gets to read of a frame that was admitted.

// handOn has the library read a frame, or what it can read of it. Macros it need not see.
func (g *guard) handOn(command byte, data, frame []byte) {
	if command == cmdMacro {
		g.takeMacros(data)
		return
	}
	forget := g.sequence.step(command)
	switch command {
	case cmdBodyEOB:
		g.admitted = frame
		if len(data) > 0 {
			// Old MTAs send the tail of the body with the end of it, where the
			// library does not look.
			g.admitted = appendFrame(appendFrame(nil, cmdBody, data), cmdBodyEOB, nil)
			g.tail = true
		}
	case cmdConnect:
		g.admitted = appendFrame(nil, cmdConnect, readableConnect(data))
	case cmdMail, cmdRcpt:
		g.argument, g.admitted = cString(data), frame
	default:
		g.admitted = frame
	}
	if forget {
		g.macros.forget(stageHelo)
	}
	if command == cmdRcpt && !g.told {
		g.macros.forget(stageRcpt) // what was told of the recipient before
	}
	g.macros.command(command)
	g.told = false
	if g.sequence.hand(command) && forget {
		g.admitted = append(appendFrame(nil, cmdAbort, nil), g.admitted...)
	}
}

// takeMacros keeps macros. Where their command belongs before the last one, the library
// is told to forget the message.
func (g *guard) takeMacros(data []byte) {
	command := data[0]
	if !isMacroStage(command) {
		return
	}
	// Those for the end of the message count when that comes.
	if command != cmdBodyEOB && g.sequence.step(command) {
		g.macros.forget(stageHelo)
		g.admitted = appendFrame(nil, cmdAbort, nil)
	}
	g.macros.take(data)
	g.told = command == cmdRcpt
}

// takeArgument returns the raw argument of the MAIL or RCPT that was handed on last, and
// forgets it.
func (g *guard) takeArgument() string {
	argument := g.argument
	g.argument = ""
	return argument
}
