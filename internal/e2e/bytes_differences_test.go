package e2e

import (
	"bytes"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// byteDifference is what an MTA does to a message by itself. The zero value is for
// one that it leaves alone.
type byteDifference struct {
	why     string
	refused string   // expression for the reply, if it does not take the message
	before  []string // replacements before the milter sees it: old, new, …
	after   []string // what is delivered, as replacements in what was sent: old, new, …

	// broken says that it delivers lines cut to its own taste.
	broken bool
}

// seen is what the MTA shows the milter of what the client sent.
func (d byteDifference) seen(raw []byte) []byte { return replaced(raw, d.before) }

// delivered is what the MTA delivers of what the client sent.
func (d byteDifference) delivered(raw []byte) []byte { return replaced(raw, d.after) }

func replaced(raw []byte, pairs []string) []byte {
	for i := 0; i+1 < len(pairs); i += 2 {
		raw = bytes.ReplaceAll(raw, []byte(pairs[i]), []byte(pairs[i+1]))
	}
	return raw
}

// everywhere is a difference that the milter sees as well as the recipient.
func everywhere(why string, pairs ...string) byteDifference {
	return byteDifference{why: why, before: pairs, after: pairs}
}

// onDelivery is a difference that only the recipient sees.
func onDelivery(why string, pairs ...string) byteDifference {
	return byteDifference{why: why, after: pairs}
}

// What both MTAs do alike.
var (
	noSpaceBeforeColon = everywhere("forgets spaces before the colon", "X-Shape : ", "X-Shape: ")
	lineFeedIsLineEnd  = onDelivery("takes a bare LF for a line end", "\r\n", "\n", "\n", "\r\n")
	headerEnds         = everywhere("ends the header before the line that is no field", "\r\nno field", "\r\n\r\nno field")
)

// byteDifferences is the table of the bytes that the MTAs change by themselves, by the
// name of the shape. All else reaches the mail file and the recipient byte by byte.
var byteDifferences = map[*lab.MTA]map[string]byteDifference{
	lab.Sendmail: {
		"space before the colon": noSpaceBeforeColon,
		"address fields, spaced oddly": onDelivery("writes address fields anew (commaize)",
			"a@remote.test,b@remote.test,  c", "a@remote.test, b@remote.test, c", "Sender:\t", "Sender: ", ",\r\n\tb@remote.test ", ", b@remote.test"),
		"fields that MTAs own": onDelivery("drops them on delivery",
			"Bcc: x@remote.test\r\n", "", "Return-Path: <x@remote.test>\r\n", "", "Content-Length: 9\r\n", ""),
		"field line of 32 KB":     {why: "cuts a field's line to MAXLINE, 2,048 bytes, on delivery", broken: true},
		"body line of 32 KB":      {why: "breaks lines of more than 2,040 bytes (L= of the mailer) on delivery", broken: true},
		"bare LF":                 lineFeedIsLineEnd,
		"bare LF in a value":      lineFeedIsLineEnd,
		"a line that is no field": headerEnds,
		"header without its end":  everywhere("adds the empty line", "1.0\r\n", "1.0\r\n\r\n"),
		"NUL":                     {why: "takes no NUL", refused: `^554 5\.6\.1 NUL byte not allowed`},
		"NUL in a value":          {why: "takes no NUL", refused: `^554 5\.6\.1 NUL byte not allowed`},
		"CR before a line end":    {why: "shows the milter one CR of the two, and delivers both", before: []string{"\r\r\n", "\r\n"}},
		"no line end at the end":  {why: "knows no BDAT", refused: `^500 5\.5\.1 `},
		"CR at the end":           {why: "knows no BDAT", refused: `^500 5\.5\.1 `},
	},
	lab.Postfix: {
		"space before the colon": noSpaceBeforeColon,
		"fields that MTAs own": everywhere("drops them at its door (message_drop_headers)",
			"Bcc: x@remote.test\r\n", "", "Return-Path: <x@remote.test>\r\n", "", "Content-Length: 9\r\n", ""),
		"bare LF":                        lineFeedIsLineEnd,
		"bare LF in a value":             lineFeedIsLineEnd,
		"a line that is no field":        headerEnds,
		"header without its end":         {why: "tells the milter of the end, and delivers none", before: []string{"1.0\r\n", "1.0\r\n\r\n"}},
		"NUL in a value":                 everywhere("cuts a field's line at a NUL", "\x00two", ""),
		"bare CR":                        everywhere("makes a bare CR a space (cleanup_replace_stray_cr_lf)", "a\rb", "a b", "\rc", " c"),
		"bare CR at the end of a packet": everywhere("makes a bare CR a space (cleanup_replace_stray_cr_lf)", "b\rc", "b c"),
		"bare CR in a value":             everywhere("makes a bare CR a space (cleanup_replace_stray_cr_lf)", "one\rtwo", "one two"),
		"CR before a line end":           everywhere("takes CR CR LF for a line end", "\r\r\n", "\r\n"),
		"no line end at the end":         everywhere("ends the last line", "The end", "The end\r\n"),
		"CR at the end":                  everywhere("ends the last line, and makes the CR a space", "The end\r", "The end \r\n"),
	},
}
