-- Commands in an order that no MTA uses, messages given up anywhere, odd content:
-- every connection goes on, and the next message has nothing of the one before.

local clean = { id = "Qclean", header = { { "Subject", "clean" } }, body = { "clean\r\n" } }
local function flows(c)
	scan(c, clean)
	told(c, "queue_id", "Qclean")
	told(c, "sender", "<told@example.net>")
	told(c, "recipient", "<b@example.org>")
	told(c, "mail", "Subject: clean||clean|")
	passed(c)
end
-- miltertest forgets changes only at MAIL: that there is none cannot be checked here.
local function disorder(c, what)
	same(verdict(c), "replycode", what)
	smtp(c, "451", "4.5.0", "Content filter protocol error, try again later")
end
local other = { id = "Qother", from = "<told@other.example>", to = { "<x@example.org>", "<y@example.org>" },
	header = { { "Subject", "other" }, { "X-Virus-Scanned", "other" } }, body = { "other\r\n" } }

for _, offer in ipairs({ CURRENT, TALKATIVE, { version = 2, actions = 0x1f, steps = 0x7f } }) do
	-- Abort anywhere, also twice, also when there is nothing.
	local c = connect(offer)
	for _, stage in ipairs({ "mail", "rcpt", "data", "header", "eoh", "body" }) do
		send(c, other, stage)
		same(mt.abort(c.handle), nil, "mt.abort")
		same(mt.abort(c.handle), nil, "mt.abort")
		flows(c)
		same(mt.abort(c.handle), nil, "mt.abort")
	end
	bye(c)
	-- The end of the connection anywhere, with a word and without.
	for _, stage in ipairs({ "mail", "rcpt", "data", "header", "eoh", "body" }) do
		for _, leave in ipairs({ bye, hangup }) do
			local c = connect(offer)
			send(c, other, stage)
			leave(c)
		end
	end
	for _, leave in ipairs({ bye, hangup }) do
		leave({ handle = mt.connect(socket) })
		leave(open(offer))
		leave(connect(offer))
	end

	-- The end of a message that never was, or was answered already.
	local c = connect(offer)
	flows(c)
	disorder(c, "a second end")
	disorder(c, "a third end")
	flows(c)
	for _, what in ipairs({ "rcpt", "header", "eoh", "body" }) do
		if what == "rcpt" then same(mt.rcptto(c.handle, "<x@example.org>"), nil, "RCPT without MAIL") end
		if what == "header" then same(mt.header(c.handle, "Subject", "stray"), nil, "a header field without MAIL") end
		if what == "eoh" then same(mt.eoh(c.handle), nil, "the end of a header without MAIL") end
		if what == "body" then same(mt.bodystring(c.handle, "stray\r\n"), nil, "a body without MAIL") end
		same(reply(c), "continue", "the reply to a stray " .. what)
		same(mt.bodystring(c.handle, ""), nil, "an empty body")
		disorder(c, "a message without MAIL")
		flows(c)
	end

	-- A second MAIL begins anew.
	send(c, other, "rcpt")
	flows(c)
	send(c, other, "body")
	flows(c)
	-- A second CONNECT or HELO in the middle.
	send(c, other, "rcpt")
	step(c, "conninfo", "second.example.net", "192.0.2.2")
	step(c, "helo", "second.helo.example.net")
	flows(c)
	told(c, "client_address", "192.0.2.2")
	told(c, "helo_name", "second.helo.example.net")
	send(c, other, "data")
	step(c, "helo", "third.helo.example.net")
	flows(c)
	told(c, "helo_name", "third.helo.example.net")
	send(c, other, "body")
	step(c, "conninfo", "third.example.net", "192.0.2.3")
	step(c, "helo", "third.helo.example.net") -- clears the macros of MAIL
	flows(c)
	told(c, "client_address", "192.0.2.3")
	-- A step back gives the message up, and its end says so: RCPT in the header ...
	send(c, clean, "header")
	step(c, "rcptto", "<late@example.org>")
	step(c, "header", "X-Late", "late")
	step(c, "eoh")
	step(c, "bodystring", "x\r\n")
	disorder(c, "RCPT in the header")
	-- ... or a header field behind the body.
	send(c, clean, "eoh")
	step(c, "eoh")
	step(c, "bodystring", "x\r\n")
	step(c, "header", "X-Behind", "behind")
	step(c, "eoh")
	step(c, "bodystring", "y\r\n")
	disorder(c, "a header field behind the body")
	flows(c)
	bye(c)
end

-- Content that no MTA sends like that.
local c = connect()
for _, case in ipairs({
	{ { "X-Empty", "" }, "X-Empty: " },
	{ { "X-Spaces", "   " }, "X-Spaces:    " },
	{ { "X-Percent", "100%s%n%00" }, "X-Percent: 100%s%n%00" },
	{ { "X-Eight", "\195\164\255" }, "X-Eight: \195\164\255" },
	{ { "X-Folded", "one\n\ttwo" }, "X-Folded: one|\ttwo" },
	{ { "X-Name With Spaces", "x" }, "X-Name With Spaces: x" },
	{ { string.rep("N", 200), string.rep("v", 200) }, string.rep("N", 200) .. ": " .. string.rep("v", 200) },
}) do
	scan(c, { id = "Qodd", header = { case[1] }, body = { "x\r\n" } })
	told(c, "mail", case[2] .. "||x|")
	passed(c)
end
-- A line end in a value neither ends the connection nor gets a verdict of its own.
scan(c, { header = { { "X-CR", "one\rtwo" }, { "X-LF", "one\ntwo" }, { "X-CRLF", "one\r\ntwo" } } })
flows(c)

-- Bodies in pieces that fall between CR and LF, empty pieces, no body.
for _, case in ipairs({
	{ { "a", "b", "\r", "\n", "c\r", "\n" }, "ab|c|" },
	{ { "", "", "" }, "" },
	{ { "\r", "\r", "\n", "\n" }, "^||" },
	{ { "no line end" }, "no line end" },
	{ { "a\r" }, "a^" },
}) do
	scan(c, { header = { { "Subject", "p" } }, body = case[1] })
	told(c, "mail", "Subject: p||" .. case[2])
end

-- Queue ids that are no names: the directory stays in its place.
for _, id in ipairs({ "../../../../tmp/x", "..", ".", "a/b", "", " ", "x y", string.rep("q", 101), string.rep("q", 900), "\195\164", "$(id)", "-rf" }) do
	scan(c, { id = id })
	local dir = mt.getheader(c.handle, "X-Told-tempdir", 0)
	check(dir ~= nil and dir:match("^ ?(.*)/amavis%-milter%-[%w._-]+$") == spool, "the directory is " .. tostring(dir) .. ", not in " .. spool)
	passed(c)
end

-- Paths that are none.
for _, path in ipairs({ "", "<", "<>", "@", "a b c", string.rep("p", 900), "<x@example.org> <y@example.org>", "\195\164@example.org", "<a@b>\r\nrecipient=<evil@example.org>" }) do
	step(c, "mailfrom", "<told@example.net>")
	step(c, "rcptto", path)
	step(c, "header", "Subject", "path")
	step(c, "eoh")
	step(c, "bodystring", "x\r\n")
	local v = verdict(c)
	check(v == "accept" or v == "replycode", "the verdict on recipient " .. path .. " is " .. v)
	without(c, MT_HDRADD, "X-Told-recipient", value(c, "<a@b>,<evil@example.org>"))
end
flows(c)
bye(c)

-- A HELO with anything in it stays one word of one line.
local c = open(TALKATIVE)
step(c, "conninfo", "client.example.net", "192.0.2.1")
for _, name in ipairs({ "", "a\r\nX-Injected: yes", "x) by evil (", "\195\164", string.rep("h", 900) }) do
	step(c, "helo", name)
	scan(c, clean)
	local line = mt.getheader(c.handle, "X-Told-received", 0)
	check(line ~= nil and line:match("^ ?Received: from [^%s()]+ %(client%.example%.net %[192%.0%.2%.1%]%)$") ~= nil, "the Received field: " .. tostring(line))
	told(c, "mail", "Subject: clean||clean|")
end
bye(c)

-- A header field without a name is no frame: that connection ends, the next is served.
local c = connect(TALKATIVE)
send(c, clean, "data")
check(mt.header(c.handle, "", "x") ~= nil, "a header field without a name was taken")
hangup(c)
local c = connect()
flows(c)
bye(c)
