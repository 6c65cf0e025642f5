-- No amavisd at all; policy is --on-failure unavailable.
local c = connect()
for i = 1, 3 do
	send(c, { id = "Qdown" .. i })
	local v = verdict(c)
	if policy == "accept" then
		same(v, "accept", "the verdict")
		added(c, "X-Amavis-Milter-Unscanned", "unavailable")
		without(c, MT_HDRADD, "X-Virus-Scanned")
	else
		same(v, "replycode", "the verdict")
		smtp(c, "451", "4.3.0", "Content scanner unavailable, try again later")
		unchanged(c)
	end
end
bye(c)
