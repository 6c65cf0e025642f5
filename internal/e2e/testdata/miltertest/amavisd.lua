-- Debian's amavisd with SpamAssassin and clamd, as it tags and discards. The texts
-- come from the Go test.
local c = connect()
local function mail(id, text)
	return { id = id, from = "<someone@remote.test>", to = { "<user@lab.test>" }, body = { text }, header = {
		{ "From", "someone@remote.test" }, { "To", "user@lab.test" }, { "Subject", id }, { "Date", date }, { "Message-ID", "<" .. id .. "@remote.test>" },
		{ "X-Virus-Scanned", "forged" } } }
end
for i = 1, 2 do
	scan(c, mail("Qclean" .. i, cleanbody))
	local mark = mt.getheader(c.handle, "X-Virus-Scanned", 0)
	check(mark ~= nil and mark:find("amavis", 1, true) ~= nil, "X-Virus-Scanned: " .. tostring(mark))
	without(c, MT_HDRADD, "X-Amavis-Milter-Unscanned")
	check(mt.getheader(c.handle, "X-Spam-Flag", 0):find("NO", 1, true) ~= nil, "clean mail is spam")
	without(c, MT_HDRCHANGE, "Subject")
end
scan(c, mail("Qspam", spambody))
check(mt.getheader(c.handle, "X-Spam-Flag", 0):find("YES", 1, true) ~= nil, "spam is not tagged")
check(mt.eom_check(c.handle, MT_HDRCHANGE, "Subject"), "the subject of spam is as it was")
scan(c, mail("Qvirus", virusbody), "discard")
unchanged(c)
-- Given up while amavisd may already look at it, and the next is as clean as ever.
send(c, mail("Qabort", cleanbody))
same(mt.abort(c.handle), nil, "mt.abort")
scan(c, mail("Qafter", cleanbody))
without(c, MT_HDRCHANGE, "Subject")
bye(c)
