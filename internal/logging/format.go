package logging

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// QueueIDKey is the key of the attribute that becomes the prefix "QUEUEID: " of a
// line. It counts only outside of groups.
const QueueIDKey = "queue_id"

// maxQueueID is how many bytes of a queue id are printed. Those of sendmail and
// Postfix have at most 20.
const maxQueueID = 256

// cutMark ends what was cut because it was too long.
const cutMark = "..."

// pairs collects attributes as " key=value …", each with a leading space.
type pairs struct {
	text    []byte
	queueID string // as it is printed; empty if there was none
	longest int    // bytes of one value as it is printed
}

// add appends one attribute; prefix is the names of the open groups, each with a
// dot behind it.
func (p *pairs) add(prefix string, a slog.Attr) {
	if a.Equal(slog.Attr{}) {
		return // as slog.Handler asks
	}
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range value.Group() {
			p.add(prefix, member)
		}
		return
	}
	if prefix == "" && a.Key == QueueIDKey {
		p.queueID = quoteQueueID(cut(valueText(value), maxQueueID))
		return
	}
	p.text = append(p.text, ' ')
	p.text = appendQuoted(p.text, prefix+a.Key)
	p.text = append(p.text, '=')
	p.text = appendValue(p.text, value, p.longest)
}

// appendValue appends a value as it is printed, in at most limit bytes.
func appendValue(dst []byte, v slog.Value, limit int) []byte {
	if v.Kind() == slog.KindInt64 {
		return strconv.AppendInt(dst, v.Int64(), 10)
	}
	text := valueText(v)
	if len(text) <= limit && isPlain(text) {
		return append(dst, text...)
	}
	return append(dst, quoteWithin(text, limit)...)
}

// valueText returns a value as text, unquoted. A value whose methods panic says so:
// a log line must not end the process.
func valueText(v slog.Value) (text string) {
	if v.Kind() == slog.KindString {
		return v.String()
	}
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprintf("!PANIC: %v", r)
		}
	}()
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format(time.RFC3339Nano)
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return x.Error()
		case fmt.Stringer:
			return x.String()
		case []byte:
			return string(x)
		default:
			return fmt.Sprintf("%+v", x)
		}
	}
	return v.String()
}

// quote returns s as it is if it consists of ASCII that can be mistaken for
// nothing else, and in Go's double quotes otherwise. So no value can begin a new
// line, end its quotes, or look like a further pair.
func quote(s string) string {
	if isPlain(s) {
		return s
	}
	return strconv.Quote(s)
}

// appendQuoted appends quote(s).
func appendQuoted(dst []byte, s string) []byte {
	if isPlain(s) {
		return append(dst, s...)
	}
	return strconv.AppendQuote(dst, s)
}

// isPlain reports whether s stands as it is without quotes.
func isPlain(s string) bool {
	for i := range len(s) {
		if b := s[i]; b <= ' ' || b > '~' || b == '"' || b == '=' || b == '\\' {
			return false
		}
	}
	return s != ""
}

// quoteWithin quotes s, and cuts it where the result would have more than limit
// bytes: what is left is as much as fits, in whole characters, with cutMark behind.
func quoteWithin(s string, limit int) string {
	if len(s) <= limit {
		if quoted := quote(s); len(quoted) <= limit {
			return quoted
		}
	}
	if plain := cut(s, limit); quote(plain) == plain {
		return plain
	}
	text := []byte{'"'}
	for s != "" {
		_, size := utf8.DecodeRuneInString(s)
		before := len(text)
		text = appendEscaped(text, s[:size])
		if len(text)+len(cutMark)+len(`"`) > limit {
			text = text[:before]
			break
		}
		s = s[size:]
	}
	return string(text) + cutMark + `"`
}

// appendEscaped appends s as it stands between Go's double quotes.
func appendEscaped(dst []byte, s string) []byte {
	at := len(dst)
	dst = strconv.AppendQuote(dst, s)
	copy(dst[at:], dst[at+1:len(dst)-1])
	return dst[:len(dst)-2]
}

// quoteQueueID quotes a queue id as a value, and also if a colon in it could be
// mistaken for its end. An empty one stays empty.
func quoteQueueID(s string) string {
	switch {
	case s == "":
		return ""
	case strings.Contains(s, ":"):
		return strconv.Quote(s)
	}
	return quote(s)
}

// message returns a record's message as it is, or quoted if it could be mistaken
// for a pair or break the line. Messages are ours, so they may have quotes.
func message(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' || r == '=' }) {
		return strconv.Quote(s)
	}
	return s
}

// cut shortens s to at most limit bytes of whole characters, with cutMark as their
// end.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return s[:cutEnd(s, limit)] + cutMark
}

// cutEnd returns how much of a longer s stays before cutMark.
func cutEnd[T string | []byte](s T, limit int) int {
	end := max(limit-len(cutMark), 0)
	for end > 0 && !utf8.RuneStart(s[end]) && end > limit-len(cutMark)-utf8.UTFMax {
		end--
	}
	return end
}
