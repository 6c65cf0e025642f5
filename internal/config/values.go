package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of values. No site needs more.
const (
	maxTime     = 24 * time.Hour // of every time
	maxConns    = 100_000        // messages scanned at once
	maxSessions = 1_000_000      // connections of MTAs
	maxBytes    = 1 << 50        // of the spool, and free; 1 PiB
	maxBacklog  = 65_535         // connections waiting; Linux allows no more by default than 4096
	maxScanners = 64             // amavisd sockets
	maxPathLen  = 4095           // bytes; PATH_MAX of Linux without its NUL
	maxHeader   = 998            // bytes of a header field's line without its end (RFC 5322 section 2.1.1)
	maxRules    = 1000           // policy banks, and skips
	maxSkipSize = 1 << 40        // bytes; 1 TiB

	maxDebugLevel = 9 // of the old amavisd-milter; all above 0 are one to us
)

// parseTime reads a time: plain seconds, or a number with one of Go's units. least
// is the smallest value allowed. What is longer than maxTime is the caller's to cut.
func parseTime(text string, least time.Duration) (time.Duration, error) {
	const hint = "write seconds, or a unit as in 90s, 10m, 1h"
	var t time.Duration
	if isDigits(text) {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds > int64(math.MaxInt64/time.Second) {
			return math.MaxInt64, nil
		}
		t = time.Duration(seconds) * time.Second
	} else {
		var err error
		if t, err = time.ParseDuration(text); err != nil {
			return 0, fmt.Errorf("%q is not a time: %s", text, hint)
		}
	}
	switch {
	case t < 0:
		return 0, fmt.Errorf("%q is negative: %s", text, hint)
	case t < least:
		return 0, fmt.Errorf("%q is too short: write at least %s", text, shortTime(least))
	}
	return t, nil
}

// shortTime writes a time as the command line takes it: 24h, 10m, 7210s.
func shortTime(t time.Duration) string {
	switch {
	case t >= time.Hour && t%time.Hour == 0:
		return fmt.Sprintf("%dh", t/time.Hour)
	case t%time.Second == 0:
		return fmt.Sprintf("%ds", t/time.Second)
	}
	return t.String()
}

// parseCount reads a number from 0 to most. What is above is the caller's to cut.
func parseCount(text string, most int) (int, error) {
	if !isDigits(text) {
		return 0, fmt.Errorf("%q: write a number from 0 to %d", text, most)
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return math.MaxInt, nil
	}
	return n, nil
}

// byteUnits are the units of bytes, as in 64M.
var byteUnits = []struct {
	letter string
	shift  uint
}{{"K", 10}, {"M", 20}, {"G", 30}, {"T", 40}}

// parseBytes reads a number of bytes, with a unit or without. What is above maxBytes is
// the caller's to cut.
func parseBytes(text string) (int64, error) {
	digits, shift := text, uint(0)
	for _, u := range byteUnits {
		if before, found := strings.CutSuffix(strings.ToUpper(text), u.letter); found {
			digits, shift = before, u.shift
		}
	}
	if !isDigits(digits) {
		return 0, fmt.Errorf("%q: write a number of bytes, or one with a unit as in 64K, 8M, 2G", text)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return math.MaxInt64, nil
	}
	return n << shift, nil
}

// byteCount writes a number of bytes as the command line takes it: 8M, 1000.
func byteCount(n int64) string {
	unit := ""
	for _, u := range byteUnits {
		if n > 0 && n%(1<<u.shift) == 0 {
			unit = u.letter
		}
	}
	for _, u := range byteUnits {
		if u.letter == unit {
			n >>= u.shift
		}
	}
	return strconv.FormatInt(n, 10) + unit
}

func parseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return 0, fmt.Errorf("%q is no mode for a socket: write it in octal, 0001 to 0777, as in 0660", text)
	}
	return fs.FileMode(n), nil
}

// checkPath checks that a path is absolute (the daemon leaves its directory) and
// can stand in a log line.
func checkPath(p, form string) error {
	switch {
	case p == "":
		return fmt.Errorf("the path is missing: write %s", form)
	case !strings.HasPrefix(p, "/"):
		return fmt.Errorf("%q is not an absolute path: write %s", p, form)
	case len(p) > maxPathLen:
		return fmt.Errorf("the path has %d bytes: write one of at most %d", len(p), maxPathLen)
	case strings.ContainsFunc(p, isUnprintable):
		return fmt.Errorf("%q has characters that cannot be printed: write a path without them", p)
	}
	return nil
}

func parsePath(text string) (string, error) {
	if err := checkPath(text, "/PATH"); err != nil {
		return "", err
	}
	return text, nil
}

// parseAccount checks the name of a user or group; whether there is one is seen
// later.
func parseAccount(text, kind string) (string, error) {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return isUnprintable(r) || r == ' ' || r == ':' || r == '/' }) {
		return "", fmt.Errorf("%q cannot be a %s: write its name or number", text, kind)
	}
	return text, nil
}

// parseHeader reads "Name: value" (RFC 5322 section 2.2).
func parseHeader(text string, dl *dialect) (Header, error) {
	const form = "write 'Name: value', as in 'X-Virus-Scanned: by amavis-milter'"
	name, value, found := strings.Cut(text, ":")
	value = strings.Trim(value, " ")
	switch {
	case !found:
		return Header{}, fmt.Errorf("%q has no colon: %s", text, form)
	case !isFieldName(name):
		return Header{}, fmt.Errorf("%q is not a field name: %s", name, form)
	case value == "":
		return Header{}, errors.New("the value is empty: " + form + ", or " + dl.short("no-x-header") + " for no X-header")
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
		return Header{}, fmt.Errorf("the value %q is not printable ASCII: %s", value, form)
	case len(name)+len(": ")+len(value) > maxHeader:
		return Header{}, fmt.Errorf("the field has %d bytes, a line at most %d: write a shorter value", len(name)+len(": ")+len(value), maxHeader)
	case isOthersField(name):
		return Header{}, fmt.Errorf("%s belongs to the message or to the failure policy and would be replaced: write a name of your own, as X-Virus-Scanned", name)
	}
	return Header{name, value}, nil
}

// isFieldName reports whether name is a field name of RFC 5322 section 3.6.8.
func isFieldName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' })
}

// isOthersField reports whether a field of this name must not be replaced: the
// fields of RFC 5322 section 3.6, MIME, signatures, and our own mark of mail that
// passed unscanned.
func isOthersField(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "date", "from", "sender", "reply-to", "to", "cc", "bcc", "message-id", "in-reply-to", "references",
		"subject", "comments", "keywords", "received", "return-path", "mime-version", "dkim-signature",
		"x-amavis-milter-unscanned":
		return true
	}
	return strings.HasPrefix(name, "content-") || strings.HasPrefix(name, "resent-") || strings.HasPrefix(name, "arc-")
}

func oneOf(text string, words ...string) (string, error) {
	for _, w := range words {
		if text == w {
			return w, nil
		}
	}
	return "", fmt.Errorf("%q: write %s", text, strings.Join(words, " or "))
}

// isUnprintable reports whether r could break a line, or is no character at all.
func isUnprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

func isDigits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}
