-- What MTAs may offer: protocol versions, actions, steps. Mail flows with each offer,
-- with the same content, and nothing that was not offered is used.

local mail = { id = "Qnego", header = { { "Subject", "a b" }, { "X-Tab", "\ttab" } }, body = { "text\r\n", "more\r\n" } }
local function flows(c)
	scan(c, mail)
	told(c, "queue_id", "Qnego")
	told(c, "mail", "Subject: a b|X-Tab: \ttab||text|more|")
	passed(c)
end

-- Versions, with the no-reply bits and without.
for version = 2, 9 do
	for _, steps in ipairs({ ALL_STEPS, ALL_STEPS & ~NR_ALL, 0x7f, 0 }) do
		local c = connect({ version = version, actions = ALL_ACTIONS, steps = steps })
		for name, bit in pairs(NR_BITS) do same(mt.test_option(c.handle, bit), steps & bit ~= 0, "no reply to " .. name) end
		same(mt.test_option(c.handle, SMFIP_HDR_LEADSPC), steps & SMFIP_HDR_LEADSPC ~= 0, "SMFIP_HDR_LEADSPC")
		same(mt.test_option(c.handle, SMFIP_NOUNKNOWN), steps & SMFIP_NOUNKNOWN ~= 0, "SMFIP_NOUNKNOWN")
		for _, bit in ipairs({ SMFIP_NOCONNECT, SMFIP_NOHELO, SMFIP_NOMAIL, SMFIP_NORCPT, SMFIP_NOBODY, SMFIP_NOHDRS, SMFIP_NOEOH, SMFIP_NODATA, SMFIP_RCPT_REJ }) do
			check(not mt.test_option(c.handle, bit), "a step that is needed was declined, bit " .. bit)
		end
		flows(c)
		flows(c)
		bye(c)
	end
end

-- What is older than any MTA is refused.
for _, version in ipairs({ 0, 1 }) do
	local handle = mt.connect(socket)
	check(mt.negotiate(handle, version, ALL_STEPS, ALL_ACTIONS) ~= nil, "version " .. version .. " was taken")
	mt.disconnect(handle, false)
end

-- Each no-reply bit missing alone, and alone offered.
for name, bit in pairs(NR_BITS) do
	for _, steps in ipairs({ ALL_STEPS & ~bit, (ALL_STEPS & ~NR_ALL) | bit }) do
		local c = connect({ version = 6, actions = ALL_ACTIONS, steps = steps })
		same(mt.test_option(c.handle, bit), steps & bit ~= 0, "no reply to " .. name)
		flows(c)
		bye(c)
	end
end

-- The space behind the colon is whose the negotiation says; miltertest sends it where
-- we asked for it.
for _, steps in ipairs({ ALL_STEPS, ALL_STEPS & ~SMFIP_HDR_LEADSPC }) do
	local c = connect({ version = 6, actions = ALL_ACTIONS, steps = steps })
	send(c, {}, "data")
	step(c, "header", "Tight", "x")
	step(c, "header", "Wide", "  x")
	step(c, "eoh")
	step(c, "bodystring", "text\r\n")
	same(verdict(c), "accept", "the verdict")
	told(c, "mail", "Tight: x|Wide:   x||text|")
	check(mt.eom_check(c.handle, MT_HDRADD, "X-Virus-Scanned", (c.lead and " " or "") .. "by amavis-milter"), "the space of the X-header")
	bye(c)
end

-- Actions: what we ask for, and no more.
local c = connect()
for _, action in ipairs({ SMFIF_ADDHDRS, SMFIF_CHGHDRS, SMFIF_ADDRCPT, SMFIF_DELRCPT, SMFIF_QUARANTINE }) do
	check(mt.test_action(c.handle, action), "not asked for: action " .. action)
end
for _, action in ipairs({ SMFIF_CHGBODY, SMFIF_CHGFROM, SMFIF_ADDRCPT_PAR }) do
	check(not mt.test_action(c.handle, action), "asked for, and never used: action " .. action)
end
bye(c)

-- Without an action: header changes are left out, and the mail flows ...
local function lacking(action) return connect({ version = 6, actions = ALL_ACTIONS & ~action, steps = ALL_STEPS }) end
local c = lacking(SMFIF_ADDHDRS)
scan(c, mail)
without(c, MT_HDRADD)
without(c, MT_HDRINSERT)
scan(c, { from = "<edits@example.net>", to = { "<b@example.org>", "<c@example.org>" }, header = { { "Subject", "hello" } } })
without(c, MT_HDRADD)
without(c, MT_HDRINSERT)
changed(c, "Subject", "***SPAM*** hello")
check(mt.eom_check(c.handle, MT_RCPTADD, "<c+spam@example.org>"), "no recipient was added")
bye(c)
local c = lacking(SMFIF_CHGHDRS)
scan(c, { from = "<edits@example.net>", to = { "<b@example.org>", "<c@example.org>" }, header = { { "Subject", "hello" }, { "X-Spam-Flag", "YES" } } })
without(c, MT_HDRCHANGE)
without(c, MT_HDRDELETE)
added(c, "X-Spam-Score", "7.5")
passed(c)
bye(c)
-- ... but who gets the mail, and whether it is held, cannot be left out.
for _, case in ipairs({
	{ SMFIF_ADDRCPT, "edits" }, { SMFIF_DELRCPT, "edits" }, { SMFIF_QUARANTINE, "quarantine" },
}) do
	local c = lacking(case[1])
	check(not mt.test_action(c.handle, case[1]), "an action was asked for that is not offered")
	refuse(c, { from = "<" .. case[2] .. "@example.net>", to = { "<b@example.org>", "<c@example.org>" } }, "451", "4.3.0", "Content filter failure, try again later")
	without(c, MT_RCPTADD, "<c+spam@example.org>")
	without(c, MT_RCPTDELETE, "<c@example.org>")
	flows(c)
	bye(c)
end
local c = connect({ version = 6, actions = 0, steps = ALL_STEPS })
scan(c, mail)
unchanged(c)
refuse(c, { from = "<reject@example.net>" }, "554", "5.7.0", "Reject, 100%% spam, id=1")
scan(c, { from = "<discard@example.net>" }, "discard")
bye(c)

-- A second negotiation is none.
local c = connect()
check(mt.negotiate(c.handle, 6, ALL_STEPS, ALL_ACTIONS) ~= nil, "a second negotiation was taken")
hangup(c)

-- Commands that the MTA does not know either, where we cannot be spared them.
local c = connect(TALKATIVE)
check(not mt.test_option(c.handle, SMFIP_NOUNKNOWN), "SMFIP_NOUNKNOWN was not offered")
step(c, "unknown", "XYZZY plugh")
for _, stage in ipairs({ "mail", "rcpt", "data", "header", "eoh", "body" }) do
	send(c, { id = "Qunknown", header = { { "Subject", "u" } }, body = { "u\r\n" } }, stage)
	step(c, "unknown", "NOOPE " .. string.rep("x", 900))
	if stage == "body" then
		same(verdict(c), "accept", "the verdict")
		told(c, "mail", "Subject: u||u|")
	else
		mt.abort(c.handle)
	end
end
bye(c)
