-- One connection more than --max-sessions 3 allows: it is negotiated with, and refused
-- at MAIL, with any offer; what was there before goes on; a place that is free again is
-- taken.
local function flows(c)
	scan(c, { id = "Qsession", header = { { "Subject", "s" } }, body = { "s\r\n" } })
	told(c, "mail", "Subject: s||s|")
	passed(c)
end
-- refused says whether a greeted connection is refused at MAIL.
local function refused(c)
	same(mt.mailfrom(c.handle, "<told@example.net>"), nil, "mt.mailfrom")
	return reply(c) == "replycode"
end
local inside = { connect(), connect(TALKATIVE), connect() }
for _, offer in ipairs({ CURRENT, TALKATIVE, { version = 2, actions = 0x1f, steps = 0x7f } }) do
	for _, leave in ipairs({ bye, hangup }) do
		local c = connect(offer)
		check(not mt.test_option(c.handle, SMFIP_NR_MAIL), "no reply to MAIL, though it is to be refused")
		for i = 1, 3 do check(refused(c), "a connection too many was taken") end
		leave(c)
	end
end
for _, c in ipairs(inside) do flows(c) end
bye(table.remove(inside))
-- That a connection has ended is noticed soon, not at once.
local c
for try = 1, 1000 do
	c = connect()
	if not refused(c) then break end
	hangup(c)
	c = nil
end
check(c ~= nil, "the place of a connection that ended is not free")
same(mt.abort(c.handle), nil, "mt.abort")
flows(c)
bye(c)
for _, c in ipairs(inside) do flows(c) bye(c) end
