package e2e

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// diffRow is one difference between the two programs that is meant to be.
// docs/MIGRATING.md has the four texts as a line of its table.
type diffRow struct {
	id           string
	theirs, ours string // in a few words
	why          string // why ours is right

	shows []diffPattern
}

// diffPattern is how a row shows: where, in which cases, and what each program has
// there. All are expressions for the whole of it; no cases means all of them, no
// MTA means both. Places are named without the mail and the recipient.
type diffPattern struct {
	cases, where, theirs, ours string
	mta                        *lab.MTA
	also                       func(theirs, ours string) bool // must hold as well, if it is there
}

// name is that of one of its patterns.
func (r *diffRow) name(pattern int) string { return fmt.Sprint(r.id, " ", pattern) }

// diffRowOf finds the row that explains a difference, and the number of its pattern.
func diffRowOf(mta *lab.MTA, name string, d diffDifference) (row *diffRow, pattern int) {
	d.where = diffPlace.FindStringSubmatch(d.where)[1]
	for i := range diffRows {
		for n := range diffRows[i].shows {
			if diffRows[i].shows[n].matches(mta, name, d) {
				return &diffRows[i], n
			}
		}
	}
	return nil, 0
}

func (p *diffPattern) matches(mta *lab.MTA, name string, d diffDifference) bool {
	return (p.mta == nil || p.mta == mta) && (p.cases == "" || diffWhole(p.cases, name)) && diffWhole(p.where, d.where) &&
		diffWhole(p.theirs, d.theirs) && diffWhole(p.ours, d.ours) && (p.also == nil || p.also(d.theirs, d.ours))
}

// diffPlace finds the place without the mail and the recipient.
var diffPlace = regexp.MustCompile(`^(?:mail \d, )?(.*?)(?:, to <.*>)?$`)

// diffExpressions are those that diffWhole has met.
var diffExpressions = map[string]*regexp.Regexp{}

// diffWhole reports whether an expression matches the whole of a string.
func diffWhole(expression, s string) bool {
	if diffExpressions[expression] == nil {
		diffExpressions[expression] = regexp.MustCompile(`(?s)^(?:` + expression + `)$`)
	}
	return diffExpressions[expression].MatchString(s)
}

// Expressions that several rows use.
const (
	diffReply       = `reply to the data`
	diffHeader      = `delivered header`
	diffTaken       = `250 2\.0\.0 (QUEUEID Message accepted for delivery|Ok: queued as QUEUEID)`
	diffMalfunction = `451 4\.6\.0 Content scanner malfunction`
	diffUnavailable = `451 4\.3\.0 Content scanner unavailable, try again later`
	diffMTAsOwn     = `451 (4\.3\.2 Please|4\.7\.1 Service unavailable -) try again later`
	diffRejected    = `55[04] 5\.7\.1 Command rejected`
	diffWholeHeader = `Received: from helo\.remote\.test .*Content-Transfer-Encoding: 8bit`
	diffBroken      = `(line without =|only an empty line|no return_value|return_value unknown|(add|ins|chg|del)header with.*|setreply of one word), -P`
	diffFirst       = `Received: from b\.remote\.test by a\.remote\.test; DATE` // of the mail's own
	diffSecond      = `Received: from c\.remote\.test by b\.remote\.test; DATE`
	diffMarked      = `X-Amavis-Milter-Unscanned: (unavailable|malformed)`
)

// diffRows are all differences. Places are those of diffFacts.
var diffRows = append(append(append(diffRequestRows, diffSpoolRows...), diffVerdictRows...), diffFailureRows...)

// diffVerdictRows are about the reply to the client and the edits.
var diffVerdictRows = []diffRow{
	{
		id: "reject-default", theirs: "without a usable `setreply`: the MTA's `Command rejected`", ours: "`550 5.7.1 Message content rejected`",
		why:   "says what was rejected; the same with both MTAs",
		shows: []diffPattern{{cases: `reject (with 250|with 450|without setreply|with edits)`, where: diffReply, theirs: diffRejected, ours: `550 5\.7\.1 Message content rejected`}},
	},
	{
		id: "tempfail-default", theirs: "without a usable `setreply`: the MTA's own 451", ours: "`451 4.3.0 Content scanner unavailable, try again later`",
		why:   "the same with both MTAs",
		shows: []diffPattern{{cases: `tempfail (with 550|without setreply)`, where: diffReply, theirs: diffMTAsOwn, ours: diffUnavailable}},
	},
	{
		id: "reply-percent", theirs: "a `%` in amavisd's text loses the text (sendmail) or the `%` (Postfix)", ours: "the text as it is", why: "links in it work",
		shows: []diffPattern{
			{cases: `reject with percent`, where: diffReply, theirs: diffRejected, ours: `554 5\.7\.0 Reject, 100% spam, 50%s, see %20`, mta: lab.Sendmail},
			{cases: `reject with percent`, where: diffReply, theirs: `554 5\.7\.0 Reject, 100 spam, 50s, see 20`, ours: `554 5\.7\.0 Reject, 100% spam, 50%s, see %20`, mta: lab.Postfix},
		},
	},
	{
		id: "reply-class", theirs: "`550 4.7.1` from amavisd goes out (sendmail) or becomes 451 (Postfix)", ours: "`550 5.7.1 Message content rejected`",
		why: "a 5xx with 4.x.x contradicts itself, and a rejection must not come back",
		shows: []diffPattern{
			{cases: `reject with another class`, where: diffReply, theirs: `550 4\.7\.1 Reject|451 4\.3\.5 Server configuration problem - try again later`, ours: `550 5\.7\.1 Message content rejected`},
		},
	},
	{
		id: "reply-odd", theirs: "a `setreply` without enhanced code, or of two lines, makes 451; without text it goes out bare", ours: "rejected, with the text in one line, or a text of ours",
		why: "the verdict counts, not the form of its text",
		shows: []diffPattern{
			{cases: `reject without enhanced code`, where: diffReply, theirs: diffMalfunction, ours: `550 5\.7\.1 Message content rejected`},
			{cases: `reject of several lines`, where: diffReply, theirs: diffMalfunction, ours: `554 5\.7\.0 one two`},
			{cases: `reject without text`, where: diffReply, theirs: `554 5\.7\.0 `, ours: `554 5\.7\.0 Message rejected`},
		},
	},
	{
		id: "reply-length", theirs: "a text of any length goes out in one line", ours: "it is cut to 480 bytes", why: "RFC 5321 has at most 512 bytes in a reply line",
		shows: []diffPattern{
			{cases: `reject with a long text`, where: diffReply, theirs: `554 5\.7\.0 (word )+end`, ours: `554 5\.7\.0 (word ?)+\w*`, also: func(t, o string) bool { return len(o) <= 510 && strings.HasPrefix(t, o) }},
		},
	},
	{
		id: "reply-internal", theirs: "the text of amavisd's own errors goes out", ours: "`451 4.3.0 Content scanner unavailable, try again later`, and the text to the log",
		why: "it can hold paths of the scanning host",
		shows: []diffPattern{
			{cases: `tempfail (of amavisd's own error|in processing)`, where: diffReply, theirs: `45[01] 4\.5\.0 (Failure:|Error in processing).*`, ours: diffUnavailable},
		},
	},
	{
		id: "delete-all", theirs: "`delheader` deletes one field", ours: "all of that name",
		why: "amavisd names the first and means all: a forged second one would survive",
		shows: []diffPattern{
			{cases: `delheader [12] of two|all at once`, where: diffHeader, theirs: `X-Twice: (one|two)`, ours: ``},
			{cases: `forged fields and amavisd's|amavisd, forged spam fields.*`, where: diffHeader, theirs: `(?i)X-Spam-Flag: NO(\nX-Spam-Flag: NO)*`, ours: ``},
		},
	},
	{
		id: "received-index", theirs: "an index of `Received` counts the field that is only in the spool", ours: "it is lowered by one; an edit of that field is dropped",
		why: "otherwise the field below the one that amavisd meant is edited",
		shows: []diffPattern{
			{cases: `delheader of our Received`, where: diffHeader, theirs: ``, ours: diffFirst},
			{cases: `delheader of Received`, where: diffHeader, theirs: diffFirst, ours: diffSecond},
			{cases: `chgheader of our Received`, where: diffHeader, theirs: `Received: from changed`, ours: diffFirst},
			{cases: `chgheader of Received`, where: diffHeader, theirs: diffFirst, ours: ``},
			{cases: `chgheader of Received`, where: diffHeader, theirs: ``, ours: diffSecond},
		},
	},
	{
		id: "field-spelling", theirs: "Postfix: a changed field gets amavisd's spelling, `subject:`", ours: "that of the mail, `Subject:`", why: "amavisd names fields in lower case; the mail's own spelling is the right one",
		shows: []diffPattern{
			{where: diffHeader, theirs: `subject: .*`, ours: `(?i)Subject: .*`, mta: lab.Postfix, also: func(t, o string) bool { return strings.EqualFold(t, o) }},
		},
	},
	{
		id: "change-to-empty", theirs: "`chgheader` with an empty value deletes the field", ours: "the field is empty", why: "amavisd has `delheader` for the other",
		shows: []diffPattern{{cases: `chgheader empty`, where: diffHeader, theirs: ``, ours: `Subject: ?`}},
	},
	{
		id: "change-beyond", theirs: "sendmail: `chgheader` of a third where there are two adds one on top of them", ours: "at the end, as with Postfix", why: "the same with both MTAs",
		shows: []diffPattern{
			{cases: `chgheader 3 of two|delheader and chgheader`, where: diffHeader, theirs: `(X-Twice: changed|X-Folded: new)?`, ours: `(X-Twice: changed|X-Folded: new)?`, mta: lab.Sendmail},
		},
	},
	{
		id: "fold", theirs: "sendmail: an LF that would end a field's value is folded with a space", ours: "with a tab, as with Postfix", why: "the same with both MTAs",
		shows: []diffPattern{
			{cases: `addheader with a bare LF`, where: diffHeader, theirs: `X-Added: one\r\n two: three`, ours: `X-Added: one\r\n\ttwo: three`, mta: lab.Sendmail},
		},
	},
	{
		id: "bad-field-name", theirs: "a field name with a space in it, `X%20Added`, becomes `X`", ours: "malformed: 451", why: "AM.PDP has values split first and decoded then; that is no field name",
		shows: []diffPattern{
			{cases: `addheader with a bad name`, where: diffReply, theirs: diffTaken, ours: diffUnavailable},
			{cases: `addheader with a bad name`, where: diffHeader, theirs: diffWholeHeader + `\nX: Added yes`, ours: ``},
			{cases: `addheader with a bad name`, where: `delivered to`, theirs: `<user@lab\.test>`, ours: ``},
		},
	},
	{
		id: "forged-mark", theirs: "`X-Amavis-Milter-Unscanned` of the sender stays", ours: "it is deleted", why: "that field is ours: nobody else may say what was scanned",
		shows: []diffPattern{{where: diffHeader, theirs: `(?i)X-Amavis-Milter-Unscanned: timeout(\nx-amavis-milter-unscanned: once more)?`, ours: ``}},
	},
	{
		id: "quarantine", theirs: "`quarantine=` makes 451, `-P` or not", ours: "the MTA holds the mail", why: "AM.PDP has it; sendmail and Postfix offer it",
		shows: []diffPattern{
			{cases: `quarantine(, -P)?`, where: diffReply, theirs: diffMalfunction, ours: diffTaken},
			{cases: `quarantine(, -P)?`, where: `held in quarantine`, theirs: ``, ours: `yes`},
		},
	},
}

// diffFailureRows are about what becomes of mail that amavisd does not judge.
var diffFailureRows = []diffRow{
	{
		id: "socket-spec", theirs: "`-S local:/path`, which its manual asks for, is taken for a file name: every mail is 451", ours: "it works; so does `/path`",
		why: "the manual is right",
		shows: []diffPattern{
			{cases: `-S local:/path -m 4`, where: diffReply, theirs: diffMalfunction, ours: diffTaken},
			{cases: `-S local:/path -m 4`, where: `asked`, theirs: `never`, ours: `once`},
			{cases: `-S local:/path -m 4`, where: `request .*|spool .*|delivered .*`, theirs: ``, ours: `.+`},
		},
	},
	{
		id: "failure-reply", theirs: "`451 4.6.0 Content scanner malfunction`", ours: "`451 4.3.0 Content scanner unavailable, try again later`",
		why:   "4.3.0 is about the system, 4.6.0 about the format of the mail (RFC 3463); the cause is in the log",
		shows: []diffPattern{{where: diffReply, theirs: diffMalfunction, ours: diffUnavailable}},
	},
	{
		id: "retry", theirs: "one try", ours: "tried again for `--retry-time` (30 s), the whole request at most four times", why: "a restart of amavisd, or the end of one of its children, is no reason for a 451",
		shows: []diffPattern{{cases: `hangs up after the request(, -P)?`, where: `asked`, theirs: `once`, ours: `several times`}},
	},
	{
		id: "pass-marked", theirs: "`-P`: mail that passes unscanned looks like any other", ours: "it bears `X-Amavis-Milter-Unscanned: CAUSE`", why: "its reader, and the filter behind, can tell",
		shows: []diffPattern{
			{cases: `(amavisd away|hangs up at once|hangs up after the request|resets in the reply|bad escape), -P`, where: diffHeader, theirs: ``, ours: diffMarked},
		},
	},
	{
		id: "pass-malformed", theirs: "`-P` does not cover most malformed replies: 451", ours: "it does: the mail passes, marked", why: "`-P` is for an amavisd that fails, however it fails",
		shows: []diffPattern{
			{cases: diffBroken, where: diffReply, theirs: diffMalfunction + `|` + diffMTAsOwn, ours: diffTaken},
			{cases: diffBroken, where: diffHeader, theirs: ``, ours: diffWholeHeader + `\n` + diffMarked},
			{cases: diffBroken, where: `delivered to`, theirs: ``, ours: `<user@lab\.test>`},
		},
	},
	{
		id: "pass-half", theirs: "`-P`: a reply that breaks off leaves the mail with the edits so far, recipients included", ours: "none of them is applied", why: "half a verdict is none: here the mail lost its only recipient, and nobody was told",
		shows: []diffPattern{
			{cases: `hangs up before the empty line, -P`, where: diffHeader, theirs: `X-Added: yes`, ours: diffMarked},
			{cases: `hangs up in the reply, -P`, where: diffHeader, theirs: ``, ours: diffWholeHeader + `\n` + diffMarked},
			{cases: `hangs up in the reply, -P`, where: `delivered to`, theirs: ``, ours: `<user@lab\.test>`},
		},
	},
	{
		id: "empty-reply", theirs: "a reply without `return_value`: the MTA's own 451", ours: "`451 4.3.0 Content scanner unavailable, try again later`", why: "a failure like the others",
		shows: []diffPattern{{cases: `only an empty line|no return_value`, where: diffReply, theirs: diffMTAsOwn, ours: diffUnavailable}},
	},
	{
		id: "two-verdicts", theirs: "the last of two `return_value` counts", ours: "malformed: 451", why: "a reply that says reject and continue is no verdict",
		shows: []diffPattern{
			{cases: `return_value twice`, where: diffReply, theirs: diffTaken, ours: diffUnavailable},
			{cases: `return_value twice`, where: diffHeader, theirs: diffWholeHeader + `\nX-Added: yes`, ours: ``},
			{cases: `return_value twice`, where: `delivered to`, theirs: `<user@lab\.test>`, ours: ``},
			{cases: `return_value twice, -P`, where: diffHeader, theirs: `X-Added: yes`, ours: diffMarked},
		},
	},
	{
		id: "reply-code", theirs: "`setreply=999 …` with reject: the MTA's `Command rejected`", ours: "malformed: 451", why: "such a reply is not amavisd's",
		shows: []diffPattern{
			{cases: `setreply with a bad code`, where: diffReply, theirs: diffRejected, ours: diffUnavailable},
			{cases: `setreply with a bad code, -P`, where: diffReply, theirs: diffRejected, ours: diffTaken},
			{cases: `setreply with a bad code, -P`, where: diffHeader, theirs: ``, ours: diffWholeHeader + `\n` + diffMarked},
			{cases: `setreply with a bad code, -P`, where: `delivered to`, theirs: ``, ours: `<user@lab\.test>`},
		},
	},
	{
		id: "unknown", theirs: "an unknown attribute, `version_server=3`: 451, `-P` or not", ours: "ignored, and logged once", why: "AM.PDP asks for that; the next amavisd may send more",
		shows: []diffPattern{
			{cases: `(version_server.*|unknown attribute|replacebody)(, -P)?`, where: diffReply, theirs: diffMalfunction, ours: diffTaken},
			{cases: `(version_server.*|unknown attribute|replacebody)(, -P)?`, where: diffHeader, theirs: ``, ours: diffWholeHeader + `\nX-Added: yes`},
			{cases: `(version_server.*|unknown attribute|replacebody)(, -P)?`, where: `delivered to`, theirs: ``, ours: `<user@lab\.test>`},
		},
	},
	{
		id: "long-line", theirs: "a line of the reply over 64 KiB: 451, or with `-P` passed", ours: "read; but an edit that the milter protocol cannot carry is `451 4.3.0 Content filter failure`", why: "the mail is either edited as amavisd said or not accepted",
		shows: []diffPattern{
			{cases: `attribute of 70 KB`, where: diffReply, theirs: diffMalfunction, ours: diffTaken},
			{cases: `attribute of 70 KB`, where: diffHeader, theirs: ``, ours: diffWholeHeader},
			{cases: `attribute of 70 KB`, where: `delivered to`, theirs: ``, ours: `<user@lab\.test>`},
			{cases: `header of 70 KB`, where: diffReply, theirs: diffMalfunction, ours: `451 4\.3\.0 Content filter failure, try again later`},
			{cases: `header of 70 KB, -P`, where: diffReply, theirs: diffTaken, ours: `451 4\.3\.0 Content filter failure, try again later`},
			{cases: `header of 70 KB, -P`, where: diffHeader, theirs: diffWholeHeader, ours: ``},
			{cases: `header of 70 KB, -P`, where: `delivered to`, theirs: `<user@lab\.test>`, ours: ``},
		},
	},
}
