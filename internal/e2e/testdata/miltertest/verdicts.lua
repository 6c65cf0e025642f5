-- Every verdict of amavisd, and every edit; the sender's local part says what amavisd
-- answers (scriptedAnswers in miltertest_test.go).
local c = connect()

for _, from in ipairs({ "continue", "accept" }) do
	scan(c, { from = "<" .. from .. "@example.net>" })
	passed(c)
	without(c, MT_HDRINSERT)
	without(c, MT_HDRCHANGE)
	without(c, MT_QUARANTINE)
end

refuse(c, { from = "<reject@example.net>" }, "554", "5.7.0", "Reject, 100%% spam, id=1")
refuse(c, { from = "<reject-silent@example.net>" }, "550", "5.7.1", "Message content rejected")
refuse(c, { from = "<reject-contradicted@example.net>" }, "550", "5.7.1", "Message content rejected")
refuse(c, { from = "<reject-edits@example.net>" }, "554", "5.7.0", "Reject")
without(c, MT_RCPTADD, "<d@example.org>")
refuse(c, { from = "<tempfail@example.net>" }, "450", "4.7.1", "Try later")
refuse(c, { from = "<tempfail-silent@example.net>" }, "451", "4.3.0", "Content scanner unavailable, try again later")
refuse(c, { from = "<tempfail-internal@example.net>" }, "451", "4.3.0", "Content scanner unavailable, try again later")

scan(c, { from = "<discard@example.net>" }, "discard")
unchanged(c)

-- Edits, all kinds in one reply.
scan(c, { from = "<edits@example.net>", to = { "<b@example.org>", "<c@example.org>" }, header = {
	{ "X-Spam-Flag", "YES" }, { "SUBJECT", "hello" }, { "x-spam-flag", "NO" } } })
check(mt.eom_check(c.handle, MT_RCPTADD, "<c+spam@example.org>"), "no recipient was added")
check(mt.eom_check(c.handle, MT_RCPTDELETE, "<c@example.org>"), "no recipient was deleted")
without(c, MT_RCPTDELETE, "<b@example.org>")
deleted(c, "X-Spam-Flag")
check(mt.eom_check(c.handle, MT_HDRDELETE, "X-Spam-Flag", 1), "the first X-Spam-Flag stays")
check(mt.eom_check(c.handle, MT_HDRDELETE, "X-Spam-Flag", 2), "the second X-Spam-Flag stays")
changed(c, "SUBJECT", "***SPAM*** hello")
inserted(c, 1, "X-Spam-Level", "*****")
added(c, "X-Spam-Score", "7.5")
added(c, "X-Spam-Report", "one\n\ttwo\n three")
passed(c)
-- The next message has none of it.
scan(c, { from = "<continue@example.net>", to = { "<b@example.org>", "<c@example.org>" } })
without(c, MT_RCPTADD, "<c+spam@example.org>")
without(c, MT_RCPTDELETE, "<c@example.org>")
without(c, MT_HDRCHANGE)
without(c, MT_HDRINSERT)

-- A value that would make a field of its own, or delete one.
scan(c, { from = "<edits-hostile@example.net>" })
added(c, "X-Line", "one\n\tX-Injected: yes")
added(c, "X-Bare", "a b")
check(not mt.eom_check(c.handle, MT_HDRADD, "X-Injected"), "a value became a field")
-- amavisd's own X-header stands in for ours.
scan(c, { from = "<own-mark@example.net>" })
added(c, "X-Virus-Scanned", "amavisd at example.org")
without(c, MT_HDRADD, "X-Virus-Scanned", value(c, "by amavis-milter"))

scan(c, { from = "<quarantine@example.net>" })
check(mt.eom_check(c.handle, MT_QUARANTINE, "held for review"), "no quarantine")

-- A recipient who cannot be deleted for sure, a field that MTAs would cut: nothing
-- at all of the reply is done.
refuse(c, { from = "<edits-long@example.net>" }, "451", "4.3.0", "Content filter failure, try again later")
without(c, MT_RCPTADD, "<d@example.org>")
bye(c)
