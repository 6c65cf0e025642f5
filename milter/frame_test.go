package milter

import (
	"bytes"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

func TestFrameLimits(t *testing.T) {
	for n, ok := range map[uint32]bool{0: false, 1: true, MaxFrameBytes - 1: true, MaxFrameBytes: true, MaxFrameBytes + 1: false, 1<<32 - 1: false} {
		if err := checkLength(n); (err == nil) != ok {
			t.Errorf("length %d: %v", n, err)
		}
	}
	// A body frame of the largest size arrives whole.
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	m.Greet()
	m.SendUpTo(plainMessage, "body")
	chunk := bytes.Repeat([]byte("0123456789abcde\n"), (MaxFrameBytes-1)/16)
	m.Body(chunk)
	a, err := m.EOM()
	mustAnswer(t, a, err, "accept")
	if got := b.handler.transaction(t, 0).body.Bytes(); !bytes.Equal(got, chunk) {
		t.Errorf("body of %d bytes, want %d", len(got), len(chunk))
	}
}

func TestMalformedFrames(t *testing.T) {
	for name, frame := range map[string][]byte{
		"unknown command":             miltertest.Frame('z', nil),
		"second OPTNEG":               miltertest.Frame('O', make([]byte, 12)),
		"header of one string":        miltertest.Frame('L', []byte("Subject\x00")),
		"header of three strings":     miltertest.Frame('L', []byte("a\x00b\x00c\x00")),
		"header without its last NUL": miltertest.Frame('L', []byte("a\x00b")),
		"header without a name":       miltertest.Frame('L', []byte("\x00b\x00")),
		"empty macro":                 miltertest.Frame('D', nil),
		"empty HELO":                  miltertest.Frame('H', nil),
		"CONNECT of family X":         miltertest.Frame('C', []byte("h\x00X\x00\x19a\x00")),
		"CONNECT without an address":  miltertest.Frame('C', []byte("h\x004\x00\x19")),
	} {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, miltertest.Postfix37)
			m.SendRaw(frame)
			if _, _, err := m.Receive(); err == nil || os.IsTimeout(err) {
				t.Errorf("receive: %v, want the connection closed", err)
			}
			if s := b.log.String(); strings.Count(s, "does not speak the milter protocol") != 1 {
				t.Errorf("log: %s", s)
			}
		})
	}
}

// TestEndOfBodyWithData: the tail of the body in the end packet is body.
func TestEndOfBodyWithData(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Version2)
	m.Greet()
	if err := m.SendUpTo(plainMessage, "eom"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		m.Send('E', []byte("tail\r"))
		a, err := m.Answer() // there is one, although the guard made two events of it
		mustAnswer(t, a, err, "accept")
		if got := b.handler.transaction(t, i).body.String(); got != "one\r\ntwo\r\ntail\r" {
			t.Errorf("body %q", got)
		}
		if err := m.SendUpTo(plainMessage, "eom"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestByteByByte: the frames may come in any pieces.
func TestByteByByte(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	conn := b.dial(t)
	m := greeted(t, &drip{conn}, miltertest.Sendmail817)
	a, err := m.SendMessage(plainMessage)
	mustAnswer(t, a, err, "accept")
}

// drip writes one byte at a time.
type drip struct{ net.Conn }

func (d *drip) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// TestClaimedLength: a length is not an allocation.
func TestClaimedLength(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 100 {
		m := b.mta(t, miltertest.Sendmail817)
		m.SendRaw([]byte{0, 0x10, 0, 0, 'B', 'x'}) // 1 MiB, of which two bytes come
	}
	until(t, "all are read", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.conns) == 100 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("100 claims of 1 MiB cost %d bytes", grown)
	}
}

// TestHiddenAddress: Postfix sends the word "unknown" for the address of a client that
// a proxy hides (XCLIENT). Every message of such a client gets its verdict, as one of
// nobody knows whom; its name stands.
func TestHiddenAddress(t *testing.T) {
	for _, o := range []miltertest.Offer{miltertest.Postfix37, miltertest.Version2} {
		b := startServer(t, &testHandler{}, quickTimes())
		m := b.mta(t, o)
		for i, want := range []Client{
			{Name: "unknown"},
			{Name: "client.example.net"},
			{Name: "client.example.net", Address: "192.0.2.9", Port: 25},
			{Name: "unknown"},
		} {
			address := want.Address
			if address == "" {
				address = "unknown"
			}
			m.Macros('C', "{client_name}", want.Name, "{client_addr}", address)
			if a, err := m.Connect(want.Name, '4', want.Port, address); err != nil {
				t.Fatalf("version %d, client %d: connect: %q, %v", o.Version, i, a, err)
			}
			a, err := m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
			if got := b.handler.transaction(t, i).env.Client; got != want {
				t.Errorf("version %d, client %d: got %+v, want %+v", o.Version, i, got, want)
			}
		}
		if s := b.log.String(); s != "" {
			t.Errorf("log: %s", s)
		}
	}
}

// TestConnectAddress: of the addresses of a CONNECT those go on that the library reads,
// and none that it drops the connection for.
func TestConnectAddress(t *testing.T) {
	for _, c := range []struct {
		family   byte
		address  string
		readable bool
	}{
		{'4', "192.0.2.1", true}, {'4', "::ffff:192.0.2.1", true}, {'4', "0.0.0.0", true},
		{'4', "unknown", false}, {'4', "", false}, {'4', "[192.0.2.1]", false}, {'4', "192.0.2", false},
		{'4', "192.0.2.256", false}, {'4', "192.0.2.01", false}, {'4', "2001:db8::1", false}, {'4', "192.0.2.1 ", false},
		{'6', "2001:db8::1", true}, {'6', "IPv6:2001:db8::1", true}, {'6', "[2001:db8::1]", true}, {'6', "IPv6:[2001:db8::1]", true},
		{'6', "IPv6:::ffff:c000:201", true}, {'6', "192.0.2.1", true},
		{'6', "unknown", false}, {'6', "IPv6:unknown", false}, {'6', "", false}, {'6', "IPv6:", false}, {'6', "[]", false}, {'6', "[", false},
		{'6', "ipv6:2001:db8::1", false}, {'6', "[IPv6:2001:db8::1]", false}, {'6', "[2001:db8::1", false}, {'6', "fe80::1%eth0", false},
		{'L', "/run/x", true}, {'L', "unknown", true}, {'L', "", true},
	} {
		data := append([]byte("h.example\x00"), c.family, 0, 25)
		data = append(append(data, c.address...), 0)
		want := data
		if !c.readable {
			want = []byte("h.example\x00U")
		}
		if got := readableConnect(data); !bytes.Equal(got, want) {
			t.Errorf("%q is handed on as %q, want %q", data, got, want)
		}
		if err := checkFrame(cmdConnect, readableConnect(data)); err != nil {
			t.Errorf("%q is handed on malformed: %v", data, err)
		}
		m := bareMTA(t, miltertest.Version2, nil)
		if _, err := m.Connect("h.example", c.family, 25, c.address); (err == nil) != c.readable {
			t.Errorf("the bare library, family %c, address %q: %v", c.family, c.address, err)
		}
	}
}
