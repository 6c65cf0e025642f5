-- Clean mail: the X-header, what amavisd is told, several messages on a connection,
-- macros in every form.

-- A message, its facts and its bytes.
local c = connect()
scan(c, { id = "Qaccept1", from = "<told@example.net>", to = { "<b@example.org>", "<c@example.org>" },
	header = { { "From", "a@example.net" }, { "Subject", "one" } }, body = { "first\r\nsecond\r\n" } })
passed(c)
told(c, "queue_id", "Qaccept1")
told(c, "sender", "<told@example.net>")
told(c, "recipient", "<b@example.org>,<c@example.org>")
told(c, "client_name", "client.example.net")
told(c, "client_address", "192.0.2.1")
told(c, "helo_name", "helo.example.net")
told(c, "tempdir_removed_by", "client")
told(c, "delivery_care_of", "client")
told(c, "received", "Received: from helo.example.net (client.example.net [192.0.2.1])")
told(c, "mail", "From: a@example.net|Subject: one||first|second|")
without(c, MT_HDRDELETE)
without(c, MT_HDRCHANGE)
without(c, MT_HDRINSERT)
without(c, MT_BODYCHANGE)
without(c, MT_QUARANTINE)

-- More on the same connection: facts of the client stay, those of a message go.
mt.macro(c.handle, SMFIC_MAIL, "i", "Qaccept2", "{auth_type}", "PLAIN", "{auth_authen}", "ann", "{auth_ssf}", "256")
scan(c, { header = { { "Subject", "two" } } })
told(c, "queue_id", "Qaccept2")
told(c, "policy_bank", "SMTP_AUTH,SMTP_AUTH_PLAIN,SMTP_AUTH_PLAIN_256")
for i = 3, 7 do
	scan(c, { id = "Qaccept" .. i, header = { { "Subject", "n" .. i } }, body = { "b" .. i .. "\r\n" } })
	told(c, "queue_id", "Qaccept" .. i)
	told(c, "mail", "Subject: n" .. i .. "||b" .. i .. "|")
	told(c, "client_address", "192.0.2.1")
	without(c, MT_HDRADD, "X-Told-policy_bank")
	passed(c)
end

-- Macro names with and without braces, unknown ones, empty and long values, for
-- commands that have none; a later list replaces an earlier one.
for i, name in ipairs({ "i", "{i}" }) do
	mt.macro(c.handle, SMFIC_MAIL, name, "Qbraces" .. i, "{no_such_macro}", "x", "{mail_mailer}", "", "{tls_version}", string.rep("v", 900))
	scan(c, {})
	told(c, "queue_id", "Qbraces" .. i)
end
mt.macro(c.handle, SMFIC_MAIL, "i", "Qwrong")
mt.macro(c.handle, SMFIC_MAIL, "i", "Qright")
scan(c, {})
told(c, "queue_id", "Qright")
for _, command in ipairs({ "T", "N", "E", "L", "B", "U", "A", "Z", "\255" }) do
	mt.macro(c.handle, command:byte(), "{some}", "thing")
end
scan(c, { id = "Qnoise" })
told(c, "queue_id", "Qnoise")

-- The queue id may come late: Postfix tells it at DATA.
send(c, {}, "rcpt")
mt.macro(c.handle, ("T"):byte(), "i", "Qlate")
step(c, "data")
step(c, "header", "Subject", "late")
step(c, "eoh")
step(c, "bodystring", "x\r\n")
same(verdict(c), "accept", "the verdict")
told(c, "queue_id", "Qlate")
check(mt.getheader(c.handle, "X-Told-tempdir", 0):find("/amavis%-milter%-Qlate$") ~= nil, "the directory is not named by the queue id")

-- Marks that came with the message do not survive.
scan(c, { id = "Qforged", header = { { "X-Virus-Scanned", "forged" }, { "x-amavis-milter-unscanned", "forged" }, { "Subject", "x" } } })
deleted(c, "x-amavis-milter-unscanned")
changed(c, "X-Virus-Scanned", "by amavis-milter")
without(c, MT_HDRADD, "X-Virus-Scanned")

-- Paths without brackets, with arguments; the null sender.
for _, path in ipairs({ "told@example.net", "<told@example.net>" }) do
	same(mt.mailfrom(c.handle, path, "SIZE=1000", "BODY=8BITMIME", "SMTPUTF8"), nil, "mt.mailfrom")
	step(c, "rcptto", "b@example.org", "NOTIFY=NEVER")
	step(c, "header", "Subject", "args")
	step(c, "eoh")
	step(c, "bodystring", "x\r\n")
	same(verdict(c), "accept", "the verdict")
	told(c, "sender", "<told@example.net>")
	told(c, "recipient", "<b@example.org>")
end
scan(c, { from = "<>", id = "Qnull" }) -- answered as "told"
told(c, "sender", "<>")
bye(c)

-- Two connections at once do not meet.
local a, b = connect(), connect()
send(a, { id = "Qa", header = { { "Subject", "a" } }, body = { "a\r\n" } })
send(b, { id = "Qb", header = { { "Subject", "b" } }, body = { "b\r\n" } })
same(verdict(b), "accept", "the verdict on b")
same(verdict(a), "accept", "the verdict on a")
told(a, "mail", "Subject: a||a|")
told(b, "mail", "Subject: b||b|")
told(a, "queue_id", "Qa")
told(b, "queue_id", "Qb")
bye(a)
bye(b)

-- Clients of other kinds.
for _, client in ipairs({
	{ "[2001:db8::10]", "2001:db8::10", "unknown", "2001:db8::10" },
	{ "mapped.example.net", "::ffff:192.0.2.9", "mapped.example.net", "192.0.2.9" },
	{ "[192.0.2.7]", "192.0.2.7", "unknown", "192.0.2.7" },
}) do
	local c = open()
	step(c, "conninfo", client[1], client[2])
	step(c, "helo", "helo.example.net")
	scan(c, {})
	told(c, "client_name", client[3])
	told(c, "client_address", client[4])
	bye(c)
end
local c = open()
step(c, "conninfo", "localhost", "unspec")
scan(c, {})
without(c, MT_HDRADD, "X-Told-client_address")
passed(c)
bye(c)
