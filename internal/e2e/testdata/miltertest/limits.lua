-- Limits on one message, at and beyond: large bodies, many pieces, many header
-- fields, many recipients. file and its CRC come from the Go test.
local c = connect()

-- A large body, NUL bytes and all, byte for byte.
send(c, { id = "Qlarge", header = { { "Subject", "large" } } }, "eoh")
same(mt.bodyfile(c.handle, file), nil, "mt.bodyfile")
same(verdict(c), "accept", "the verdict")
told(c, "size", string.format("%d", #"Subject: large\n\n" + filesize))
told(c, "crc", filecrc)
passed(c)

-- A body in single bytes.
local text = string.rep("0123456789abcde\r\n", 100)
send(c, { id = "Qbytes", header = { { "Subject", "bytes" } } }, "eoh")
for i = 1, #text do same(mt.bodystring(c.handle, text:sub(i, i)), nil, "mt.bodystring") end
same(verdict(c), "accept", "the verdict")
told(c, "size", string.format("%d", #"Subject: bytes\n\n" + #text - 100))

-- Header fields: 10,000, and one more.
for _, n in ipairs({ 9999, 10000, 10001 }) do
	send(c, {}, "data")
	for i = 1, n do same(mt.header(c.handle, "X-Many", "" .. i), nil, "mt.header") end
	step(c, "eoh")
	step(c, "bodystring", "x\r\n")
	local v = verdict(c)
	if n <= 10000 then
		same(v, "accept", n .. " header fields")
		passed(c)
	else
		same(v, "replycode", n .. " header fields")
		smtp(c, "451", "4.3.4", "Message header too large")
		unchanged(c)
	end
end
-- Header bytes: 8 MiB in fields of 1,000 bytes.
local full = 8 << 20
for _, size in ipairs({ full, full + 1 }) do
	send(c, {}, "data")
	local left = size
	while left > 0 do
		local n = math.min(left, 1000)
		if left - n > 0 and left - n < 10 then n = n - 10 end -- the last one has its name as well
		same(mt.header(c.handle, "X-Big", string.rep("v", n - #"X-Big" - #value(c, ""))), nil, "mt.header")
		left = left - n
	end
	step(c, "eoh")
	step(c, "bodystring", "x\r\n")
	same(verdict(c), size == full and "accept" or "replycode", size .. " bytes of header")
end

-- Recipients: 50,000, and one more.
for _, n in ipairs({ 50000, 50001 }) do
	step(c, "mailfrom", "<count@example.net>")
	for i = 1, n do
		if mt.rcptto(c.handle, "<r" .. i .. "@example.org>") ~= nil then error("mt.rcptto failed") end
	end
	step(c, "data")
	step(c, "header", "Subject", "many")
	step(c, "eoh")
	step(c, "bodystring", "x\r\n")
	if n == 50000 then
		same(verdict(c), "accept", n .. " recipients")
		added(c, "X-Told-recipients", "50000")
		passed(c)
	else
		same(verdict(c), "replycode", n .. " recipients")
		smtp(c, "452", "4.5.3", "Too many recipients")
		unchanged(c)
	end
end
scan(c, { id = "Qafter", header = { { "Subject", "after" } }, body = { "x\r\n" } })
told(c, "mail", "Subject: after||x|")
bye(c)
