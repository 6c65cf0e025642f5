-- amavisd fails, in every way; policy is the --on-failure of all causes. The sender's
-- local part says how.

local c = connect()
local cases = {
	{ "hang-up", "unavailable" },
	{ "hang", "timeout" }, { "trickle", "timeout" },
	{ "truncated", "malformed" }, { "half-line", "malformed" }, { "garbage", "malformed" }, { "no-verdict", "malformed" },
	{ "two-verdicts", "malformed" }, { "odd-verdict", "malformed" }, { "no-equals", "malformed" }, { "bad-escape", "malformed" },
	{ "bad-index", "malformed" },
}

-- failed checks what a message of a failure comes to. No edit of a broken reply is
-- ever done.
function failed(c, cause)
	local v = verdict(c)
	if policy == "tempfail" then
		same(v, "replycode", cause)
		smtp(c, "451", "4.3.0", "Content scanner unavailable, try again later")
		unchanged(c, "<d@example.org>")
	elseif policy == "reject" then
		same(v, "replycode", cause)
		smtp(c, "554", "5.3.0", "Content scanner unavailable, message refused")
		unchanged(c, "<d@example.org>")
	else
		same(v, "accept", cause)
		added(c, "X-Amavis-Milter-Unscanned", cause)
		without(c, MT_HDRADD, "X-Virus-Scanned")
		deleted(c, "X-Virus-Scanned") -- the forged one
		without(c, MT_RCPTADD, "<d@example.org>")
		without(c, MT_HDRADD, "X-Edit")
		same(mt.eom_check(c.handle, MT_QUARANTINE, "not scanned: " .. cause), policy == "quarantine", "quarantine")
	end
end

for _, case in ipairs(cases) do
	send(c, { id = "Q" .. case[1], from = "<" .. case[1] .. "@example.net>", header = { { "X-Virus-Scanned", "forged" } } })
	failed(c, case[2])
	scan(c, { id = "Qgood", header = { { "Subject", "good" } }, body = { "good\r\n" } })
	told(c, "mail", "Subject: good||good|")
	passed(c)
end

-- Failures that pass: a child that died before it answered, a reply in single bytes.
for _, from in ipairs({ "second-time", "bytewise" }) do
	scan(c, { from = "<" .. from .. "@example.net>" })
	passed(c)
end

if policy == "quarantine" then -- where there is none, it is a tempfail
	bye(c)
	c = connect({ version = 6, actions = ALL_ACTIONS & ~SMFIF_QUARANTINE, steps = ALL_STEPS })
	refuse(c, { from = "<garbage@example.net>" }, "451", "4.3.0", "Content scanner unavailable, try again later")
end

-- Gone in mid-scan, nobody waits for the answer: without patience mt.eom sends the
-- end and leaves it at that.
for _, leave in ipairs({ bye, hangup }) do
	local gone = connect()
	send(gone, { id = "Qgone", from = "<hang-on@example.net>" })
	mt.set_timeout(0)
	check(mt.eom(gone.handle) ~= nil, "a scan that takes for ever was answered")
	mt.set_timeout(20)
	leave(gone)
end
bye(c)
