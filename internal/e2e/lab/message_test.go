package lab

import (
	"bufio"
	"bytes"
	"slices"
	"strings"
	"testing"
)

// What the client stuffs the sink must read back, whatever the size of its buffer.
func TestStuffAndRead(t *testing.T) {
	for _, message := range []string{
		"\r\n", "a\r\n", ".\r\n", "..\r\n", "a\r\n.\r\nb\r\n", ".a\r\n..b\r\n...\r\n", "a\r\n\r\n.\r\n\r\n",
		strings.Repeat(".", 40) + "\r\n" + strings.Repeat("x", 40) + ".\r\n",
	} {
		wire := append(Stuff([]byte(message)), ".\r\nQUIT\r\n"...)
		in := bufio.NewReaderSize(bytes.NewReader(wire), 16)
		got, err := readData(in)
		if err != nil || string(got) != message {
			t.Errorf("%q came back as %q, error %v", message, got, err)
		}
		if rest, err := in.ReadString('\n'); err != nil || rest != "QUIT\r\n" {
			t.Errorf("after %q: %q, error %v; want QUIT", message, rest, err)
		}
	}
}

func TestSplitMessage(t *testing.T) {
	for _, c := range []struct {
		raw    string
		header []Field
		body   string
	}{
		{"A: 1\r\n\r\nbody\r\n", []Field{{"A", " 1"}}, "body\r\n"},
		{"A:1\r\nB:\t2\r\n 3\r\n\t4\r\nA:\r\n\r\n", []Field{{"A", "1"}, {"B", "\t2\r\n 3\r\n\t4"}, {"A", ""}}, ""},
		{"\r\nB: no header\r\n", nil, "B: no header\r\n"},
		{"A: 1\r\nno field\r\nB: no header\r\n", []Field{{"A", " 1"}}, "no field\r\nB: no header\r\n"},
		{"A: a:b\r\n\r\n\r\n", []Field{{"A", " a:b"}}, "\r\n"},
	} {
		header, body := SplitMessage([]byte(c.raw))
		if !slices.Equal(header, c.header) || string(body) != c.body {
			t.Errorf("%q: header %q, body %q; want %q and %q", c.raw, header, body, c.header, c.body)
		}
	}
}

func TestAttributes(t *testing.T) {
	got, err := Attributes([]byte("request=AM%2ePDP\r\nsender=%3ca%3Db@c%3e\r\n\r\nnext=one\r\n"))
	want := []Attribute{{"request", "AM.PDP"}, {"sender", "<a=b@c>"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, error %v; want %q", got, err, want)
	}
	for _, bad := range []string{"", "a=b\r\n", "no equals sign\r\n\r\n", "a=%zz\r\n\r\n"} {
		if got, err := Attributes([]byte(bad)); err == nil {
			t.Errorf("%q was read as %q", bad, got)
		}
	}
}

func TestSyslogLine(t *testing.T) {
	for raw, want := range map[string][]string{
		"<22>Nov 23 17:16:43 amavis-milter[123]: 6AN: verdict=accept": {"22", "amavis-milter", "6AN: verdict=accept"},
		"<22>Nov  3 07:06:03 sendmail[1]: x":                          {"22", "sendmail", "x"},
		"<20>clamd: y":                                                {"20", "clamd", "y"},
	} {
		if got := syslogLine.FindStringSubmatch(raw); got == nil || !slices.Equal(got[1:], want) {
			t.Errorf("%q was read as %q, want %q", raw, got, want)
		}
	}
}
