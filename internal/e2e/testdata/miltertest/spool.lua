-- The spool fails. trouble is "full", where the file is larger than the disk and a small
-- message fits, "reserve", where what is free is to stay free, or "read-only"; policy is
-- --on-failure spool.
local c = connect()
for i = 1, 2 do
	send(c, { id = "Qspool" .. i, header = { { "Subject", "s" }, { "X-Virus-Scanned", "forged" } } }, "eoh")
	same(mt.bodyfile(c.handle, file), nil, "mt.bodyfile")
	local v = verdict(c)
	if policy == "accept" then
		same(v, "accept", "the verdict")
		added(c, "X-Amavis-Milter-Unscanned", "spool")
		deleted(c, "X-Virus-Scanned")
		without(c, MT_HDRADD, "X-Virus-Scanned")
	elseif trouble ~= "read-only" then
		same(v, "replycode", "the verdict")
		smtp(c, "452", "4.3.1", "Insufficient system storage, try again later")
		unchanged(c)
	else
		same(v, "replycode", "the verdict")
		smtp(c, "451", "4.3.0", "Content scanner unavailable, try again later")
		unchanged(c)
	end
	if trouble == "full" then
		scan(c, { id = "Qsmall", header = { { "Subject", "small" } }, body = { "x\r\n" } })
		told(c, "mail", "Subject: small||x|")
		passed(c)
	end
end
bye(c)
