-- Runs a suite (-D suite=FILE) and has what the suites share; miltertest_test.go says
-- what plays amavisd, and gives whatever else a suite needs with -D: socket, in
-- mt.connect's form, always.
--
-- Traps of miltertest: mt.negotiate takes steps before actions, whatever its manual
-- says; it fills in by itself what a step lacks (MAIL before RCPT, a body before the
-- end); it sends DATA twice, and the space before the value of a header field where that
-- was negotiated; it reads replies into 1 KiB, and builds in 1 KiB what it sends, but for
-- bodies; strings end at a NUL; a write to a connection that the milter closed ends it; it
-- says nothing of errors in a script.

local checks = 0

-- check counts one check and ends the suite if it fails.
function check(ok, what, level)
	checks = checks + 1
	if not ok then error(what, (level or 1) + 1) end
end

-- same checks that two values are the same.
function same(got, want, what, level)
	check(got == want, string.format("%s: %s, want %s", what, tostring(got), tostring(want)), (level or 1) + 1)
end

-- Bits that miltertest has no names for, or sets of them.
NR_BITS = {
	connect = SMFIP_NR_CONN, helo = SMFIP_NR_HELO, mailfrom = SMFIP_NR_MAIL, rcptto = SMFIP_NR_RCPT,
	data = SMFIP_NR_DATA, unknown = SMFIP_NR_UNKN, header = SMFIP_NR_HDR, eoh = SMFIP_NR_EOH, body = SMFIP_NR_BODY,
}
NR_ALL = 0
for _, bit in pairs(NR_BITS) do NR_ALL = NR_ALL | bit end
ALL_ACTIONS = 0x1ff
ALL_STEPS = 0x1fffff

-- What an MTA offers: version, actions, steps. Without an offer a connection makes
-- that of a current MTA.
CURRENT = { version = 6, actions = ALL_ACTIONS, steps = ALL_STEPS }
-- The same MTA, but every command gets a reply.
TALKATIVE = { version = 6, actions = ALL_ACTIONS, steps = ALL_STEPS & ~NR_ALL & ~SMFIP_NOUNKNOWN }

local reply_names = {
	[SMFIR_CONTINUE] = "continue", [SMFIR_ACCEPT] = "accept", [SMFIR_REJECT] = "reject", [SMFIR_TEMPFAIL] = "tempfail",
	[SMFIR_DISCARD] = "discard", [SMFIR_REPLYCODE] = "replycode", [SMFIR_SKIP] = "skip",
}

-- reply names the last reply.
function reply(c)
	local code = mt.getreply(c.handle)
	return reply_names[code] or ("reply " .. tostring(code))
end

-- open connects and negotiates.
function open(offer)
	offer = offer or CURRENT
	local c = { handle = mt.connect(socket), offer = offer }
	check(c.handle ~= nil, "no connection")
	same(mt.negotiate(c.handle, offer.version, offer.steps, offer.actions), nil, "negotiation")
	c.lead = mt.test_option(c.handle, SMFIP_HDR_LEADSPC)
	return c
end

-- step sends one command and checks that the milter goes on, which it says only if
-- it did not negotiate to be silent: miltertest takes silence for that.
function step(c, name, ...)
	same(mt[name](c.handle, ...), nil, "mt." .. name, 2)
	same(reply(c), "continue", "the reply to " .. name, 2)
end

-- greet announces an SMTP client.
function greet(c)
	mt.macro(c.handle, SMFIC_CONNECT, "j", "mx.example.org", "{daemon_name}", "MTA", "{client_name}", "client.example.net",
		"{client_addr}", "192.0.2.1", "{client_resolve}", "OK")
	step(c, "conninfo", "client.example.net", "192.0.2.1")
	step(c, "helo", "helo.example.net")
	return c
end

-- connect opens a connection and announces a client.
function connect(offer) return greet(open(offer)) end

-- value is the value of a header field as the milter is to send it.
function value(c, text) return c.lead and " " .. text or text end

local stages = { "mail", "rcpt", "data", "header", "eoh", "body" }

-- send sends a message up to and with a stage, or all but its end:
-- id, from, to (list), header (list of name and value), body (list of pieces).
function send(c, m, last)
	local todo = {
		mail = function()
			if m.id then same(mt.macro(c.handle, SMFIC_MAIL, "i", m.id), nil, "macro i") end
			step(c, "mailfrom", m.from or "<told@example.net>")
		end,
		rcpt = function()
			for _, path in ipairs(m.to or { "<b@example.org>" }) do step(c, "rcptto", path) end
		end,
		data = function()
			if c.offer.version >= 4 then step(c, "data") end
		end,
		header = function()
			for _, field in ipairs(m.header or { { "Subject", "x" } }) do step(c, "header", field[1], field[2]) end
		end,
		eoh = function() step(c, "eoh") end,
		body = function()
			for _, piece in ipairs(m.body or { "text\r\n" }) do step(c, "bodystring", piece) end
		end,
	}
	for _, stage in ipairs(stages) do
		todo[stage]()
		if stage == last then return end
	end
end

-- verdict ends a message; it is the reply.
function verdict(c)
	same(mt.eom(c.handle), nil, "mt.eom", 2)
	return reply(c)
end

-- scan sends a whole message; it must be answered so.
function scan(c, m, want)
	send(c, m)
	same(verdict(c), want or "accept", "the verdict on " .. (m.from or "told"), 2)
end

-- smtp checks the reply of a reject or tempfail.
function smtp(c, code, enhanced, text)
	check(mt.eom_check(c.handle, MT_SMTPREPLY, code, enhanced, text), "the reply is not " .. code .. " " .. enhanced .. " " .. text, 2)
end

-- refuse sends a whole message that must get this reply, and no change.
function refuse(c, m, code, enhanced, text)
	scan(c, m, "replycode")
	smtp(c, code, enhanced, text)
	unchanged(c)
end

-- added, deleted, changed check a change of a header field.
function added(c, name, text) check(mt.eom_check(c.handle, MT_HDRADD, name, value(c, text)), "not added: " .. name .. ": " .. text, 2) end
function changed(c, name, text) check(mt.eom_check(c.handle, MT_HDRCHANGE, name, value(c, text)), "not changed: " .. name .. ": " .. text, 2) end
function deleted(c, name) check(mt.eom_check(c.handle, MT_HDRDELETE, name), "not deleted: " .. name, 2) end
function inserted(c, index, name, text)
	check(mt.eom_check(c.handle, MT_HDRINSERT, name, value(c, text), index), "not inserted: " .. name .. ": " .. text, 2)
end

-- without checks that there is no change of a kind, with these parameters.
function without(c, kind, ...) check(not mt.eom_check(c.handle, kind, ...), "a change that should not be, kind " .. kind, 2) end

-- unchanged checks that the message stays as it is; recipients must be named.
function unchanged(c, ...)
	for _, kind in ipairs({ MT_HDRADD, MT_HDRINSERT, MT_HDRCHANGE, MT_HDRDELETE, MT_BODYCHANGE, MT_QUARANTINE }) do without(c, kind) end
	for _, path in ipairs({ ... }) do
		without(c, MT_RCPTADD, path)
		without(c, MT_RCPTDELETE, path)
	end
end

-- told checks what amavisd was told: the sender "told" has it add a field for each
-- attribute, the mail file with "|" for LF and "^" for CR.
function told(c, name, text)
	local got = mt.getheader(c.handle, "X-Told-" .. name, 0)
	same(got, value(c, text), "amavisd was told " .. name, 2)
end

-- passed checks the X-header and that nothing marks the message as unscanned.
function passed(c)
	added(c, "X-Virus-Scanned", "by amavis-milter")
	without(c, MT_HDRADD, "X-Amavis-Milter-Unscanned")
end

-- bye ends a connection in order.
function bye(c) mt.disconnect(c.handle) end

-- hangup ends it without a word.
function hangup(c) mt.disconnect(c.handle, false) end

local ok, why = xpcall(dofile, debug.traceback, suite)
if not ok then
	mt.echo(why)
	error(why)
end
mt.echo("checks: " .. checks)
