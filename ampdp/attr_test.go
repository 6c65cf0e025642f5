package ampdp

import (
	"errors"
	"strings"
	"testing"
)

func TestAppendAttribute(t *testing.T) {
	tests := []struct {
		name   string
		attr   string
		fields []string
		want   string
	}{
		{"plain", "tempdir", []string{"/var/amavis/x"}, "tempdir=/var/amavis/x\r\n"},
		{"percent and space", "a", []string{"100% sure"}, "a=100%25%20sure\r\n"},
		{"fields", "addheader", []string{"X-Spam", "a b"}, "addheader=X-Spam a%20b\r\n"},
		{"empty field", "setreply", []string{"250", "2.0.0", ""}, "setreply=250 2.0.0 \r\n"},
		{"line ends and NUL", "helo_name", []string{"a\r\nb\x00"}, "helo_name=a%0d%0ab%00\r\n"},
		{"UTF-8 byte by byte", "sender", []string{"<ü@x>"}, "sender=<%c3%bc@x>\r\n"},
		{"borders of 0x21 to 0x7e", "a", []string{"\x20\x21\x7e\x7f"}, "a=%20!~%7f\r\n"},
		{"around the percent sign", "a", []string{"$%&="}, "a=$%25&=\r\n"},
		{"name", "a.b=c d%_-", []string{"v"}, "a%2eb%3dc%20d%25_-=v\r\n"},
		{"no value", "a", nil, "a=\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(appendAttribute([]byte("before"), tt.attr, tt.fields...)); got != "before"+tt.want {
				t.Errorf("got %q, want it to end in %q", got, tt.want)
			}
		})
	}
}

func TestAppendDecoded(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"%41%42", "AB"},
		{"%c3%BC%C3%bC", "üü"}, // both cases, and mixed
		{"%2525", "%25"},       // decoded once only
		{"a%00b%0a", "a\x00b\n"},
		{"raw\ttab \x80\xff", "raw\ttab \x80\xff"},
	}
	for _, tt := range tests {
		if got, err := appendDecoded([]byte("before"), []byte(tt.in)); err != nil || string(got) != "before"+tt.want {
			t.Errorf("appendDecoded(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"%", "%4", "a%", "a%4", "%4g", "%g4", "%%41", "% 41", "%-1", "%+1", "%0x", "%4\xff"} {
		if got, err := appendDecoded(nil, []byte(in)); !errors.Is(err, errEscape) {
			t.Errorf("appendDecoded(%q) = %q, %v; want an error", in, got, err)
		}
	}
}

func FuzzAttrRoundTrip(f *testing.F) {
	for _, seed := range [][2]string{
		{"helo_name", "mail.example.com"}, {"", ""}, {"a=b", "a=b"}, {"x%41", "%41%zz"},
		{"n\r\n", "v\r\n\r\nreturn_value=accept"}, {"ü", "\x00\x7f\x80\xff "},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		line := string(appendAttribute(nil, name, value))
		encoded, ok := strings.CutSuffix(line, "\r\n")
		if !ok || strings.ContainsAny(encoded, " \r\n\x00") {
			t.Fatalf("%q is not one line of one field", line)
		}
		encodedName, encodedValue, ok := strings.Cut(encoded, "=")
		if !ok {
			t.Fatalf("%q has no =", line)
		}
		for got, want := range map[string]string{encodedName: name, encodedValue: value} {
			if decoded, err := appendDecoded(nil, []byte(got)); err != nil || string(decoded) != want {
				t.Fatalf("%q became %q, which became %q, %v", want, got, decoded, err)
			}
			if upper, err := appendDecoded(nil, []byte(upperHex(got))); err != nil || string(upper) != want {
				t.Fatalf("%q became %q in upper case, which became %q, %v", want, upperHex(got), upper, err)
			}
		}
	})
}

// upperHex writes the escapes of an encoded string with upper case digits.
func upperHex(s string) string {
	b := []byte(s)
	for i := 0; i < len(b); i++ {
		if b[i] == '%' {
			copy(b[i:], strings.ToUpper(s[i:i+3]))
			i += 2
		}
	}
	return string(b)
}
