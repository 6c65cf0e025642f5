package milter

// This file is what the library gets to read of a frame that was admitted.

// handOn has the library read a frame, or what it can read of it.
func (g *guard) handOn(command byte, data, frame []byte) {
	if command == cmdMacro {
		g.handOnMacros(data)
		return
	}
	forget := g.sequence.hand(command, false)
	switch command {
	case cmdBodyEOB:
		g.admitted = append(g.last, frame...)
		if len(data) > 0 {
			// Old MTAs send the tail of the body with the end of it, where the
			// library does not look.
			g.admitted = append(appendFrame(nil, cmdBody, data), g.last...)
			g.admitted = appendFrame(g.admitted, cmdBodyEOB, nil)
			g.tail = true
		}
	case cmdConnect:
		g.admitted = appendFrame(nil, cmdConnect, readableConnect(data))
	case cmdMail:
		g.argument, g.admitted = cString(data), frame
	case cmdRcpt:
		g.argument, g.admitted = cString(data), frame
		if !g.told {
			// The library would keep what was told of the recipient before.
			g.admitted = append(appendFrame(nil, cmdMacro, []byte{cmdRcpt}), frame...)
		}
	default:
		g.admitted = frame
	}
	g.told, g.last = false, nil
	g.forget(forget)
}

// forget puts an ABORT before what is handed on, if that is needed.
func (g *guard) forget(needed bool) {
	if needed {
		g.admitted = append(appendFrame(nil, cmdAbort, nil), g.admitted...)
	}
}

// handOnMacros hands macros on, those for the end of the message only with that: to the
// library a body packet behind them, such as handOn makes, would begin a new message.
func (g *guard) handOnMacros(data []byte) {
	switch {
	case data[0] == cmdBodyEOB:
		g.last = appendFrame(nil, cmdMacro, keepMacros(data))
	case isMacroStage(data[0]):
		g.admitted = appendFrame(nil, cmdMacro, keepMacros(data))
		g.told = data[0] == cmdRcpt
		g.forget(g.sequence.hand(data[0], true))
	}
}

// takeArgument returns the raw argument of the MAIL or RCPT that was handed on last, and
// forgets it.
func (g *guard) takeArgument() string {
	argument := g.argument
	g.argument = ""
	return argument
}
