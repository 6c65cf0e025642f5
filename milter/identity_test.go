package milter

import (
	"testing"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// TestFactsLast checks what lasts for the connection and what for one message.
func TestFactsLast(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	if err := m.Greet(); err != nil {
		t.Fatal(err)
	}
	m.Macros('H', "{tls_version}", "TLSv1.3", "{cipher}", "X", "{cipher_bits}", "256", "{verify}", "NO")
	m.Helo("after-tls.example.net")
	send := func(auth bool) *Envelope {
		kv := []string{"i", "ID", "r", "ESMTPS"}
		if auth {
			kv = append(kv, "{auth_type}", "PLAIN", "{auth_authen}", "user", "{auth_ssf}", "0")
		}
		m.Macros('M', kv...)
		m.Mail("<a@x>")
		m.Rcpt("b@y")
		m.Data()
		a, err := m.EOM()
		mustAnswer(t, a, err, "accept")
		m.Abort()
		return b.handler.transaction(t, b.handler.count()-1).env
	}
	first, second := send(true), send(false)
	if first.Auth != (Auth{"PLAIN", "user", "0"}) || second.Auth != (Auth{}) {
		t.Errorf("auth of the first %+v, of the second %+v", first.Auth, second.Auth)
	}
	for _, env := range []*Envelope{first, second} {
		if env.TLS != (TLS{"TLSv1.3", "X", "256", "NO"}) || env.Client.Helo != "after-tls.example.net" || env.Protocol != "ESMTPS" {
			t.Errorf("TLS %+v helo %q protocol %q", env.TLS, env.Client.Helo, env.Protocol)
		}
		if env.Recipients[0].String() != "<b@y>" {
			t.Errorf("recipient %q: missing brackets are not added", env.Recipients[0])
		}
	}
}

// TestFactsOfOneMessage: what was said for one message is not said for the next,
// whichever way the first one ended, and without a word of the MTA about it: one
// that has no value for any of its macros sends none at all.
func TestFactsOfOneMessage(t *testing.T) {
	for name, end := range map[string]func(m *miltertest.MTA) error{
		"finished": func(m *miltertest.MTA) error {
			m.Data()
			_, err := m.EOM()
			return err
		},
		"finished, then ABORT": func(m *miltertest.MTA) error {
			m.Data()
			m.EOM()
			return m.Abort()
		},
		"aborted":         (*miltertest.MTA).Abort,
		"just a new MAIL": func(*miltertest.MTA) error { return nil },
		"a new connection": func(m *miltertest.MTA) error {
			m.Send('K', nil)
			_, err := m.Connect("h.example", '4', 1, "192.0.2.9")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, miltertest.Postfix37)
			m.Macros('C', "{daemon_name}", "MSA")
			m.Connect("h.example", '4', 1, "192.0.2.9")
			m.Helo("h.example")
			m.Macros('M', "i", "FIRST", "r", "ESMTPA", "{auth_type}", "PLAIN", "{auth_authen}", "ann", "{auth_ssf}", "0")
			m.Mail("<a@x>", "SMTPUTF8")
			m.Rcpt("<b@y>")
			if err := end(m); err != nil {
				t.Fatal(err)
			}
			m.Mail("<a@x>")
			m.Rcpt("<b@y>")
			m.Data()
			a, err := m.EOM()
			mustAnswer(t, a, err, "accept")
			env := b.handler.transaction(t, b.handler.count()-1).env
			if env.Auth != (Auth{}) || env.Protocol != "" || env.QueueID != "" || env.UTF8 {
				t.Errorf("the second message has %+v", env)
			}
			want := "MSA"
			if name == "a new connection" {
				want = ""
			}
			if env.DaemonName != want {
				t.Errorf("the listener is %q, want %q", env.DaemonName, want)
			}
		})
	}
}

func TestClientIdentity(t *testing.T) {
	for _, c := range []struct {
		name, host string
		family     byte
		address    string
		macros     []string
		want       Client
	}{
		{"ipv4", "h.example", '4', "192.0.2.9", nil, Client{Name: "h.example", Address: "192.0.2.9"}},
		{"ipv6", "h.example", '6', "IPv6:2001:db8::1", nil, Client{Name: "h.example", Address: "2001:db8::1"}},
		{"ipv6 bare", "h.example", '6', "2001:DB8:0::1", nil, Client{Name: "h.example", Address: "2001:db8::1"}},
		{"mapped", "h.example", '6', "::ffff:192.0.2.1", nil, Client{Name: "h.example", Address: "192.0.2.1"}},
		{"local", "localhost", 'U', "", nil, Client{Name: "localhost"}},
		{"unix", "localhost", 'L', "/run/x", nil, Client{Name: "localhost"}},
		{"bracketed", "[192.0.2.9]", '4', "192.0.2.9", []string{"{client_name}", "[192.0.2.9]"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"forged", "liar.example", '4', "192.0.2.9", []string{"{client_name}", "liar.example", "{client_resolve}", "FORGED"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"postfix unknown", "unknown", '4', "192.0.2.9", []string{"{client_name}", "unknown"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"forged, as sendmail says it", "[192.0.2.9]", '4', "192.0.2.9", []string{"{client_name}", "[192.0.2.9]", "{client_resolve}", "FORGED"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"no answer from DNS", "slow.example", '4', "192.0.2.9", []string{"{client_name}", "slow.example", "{client_resolve}", "TEMP"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"no reverse name", "none.example", '4', "192.0.2.9", []string{"{client_name}", "none.example", "{client_resolve}", "FAIL"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"verified", "x.example", '4', "192.0.2.9", []string{"{client_name}", "h.example", "{client_resolve}", "OK"}, Client{Name: "h.example", Address: "192.0.2.9"}},
		{"verified, no client_name", "h.example", '4', "192.0.2.9", []string{"{client_resolve}", "OK"}, Client{Name: "h.example", Address: "192.0.2.9"}},
		{"bracketed ipv6", "[IPv6:2001:db8:0:0:0:0:0:66]", '6', "IPv6:2001:db8:0:0:0:0:0:66", []string{"{client_name}", "[IPv6:2001:db8:0:0:0:0:0:66]", "{client_resolve}", "FAIL"}, Client{Name: "unknown", Address: "2001:db8::66"}},
		{"Postfix, no name", "[192.0.2.9]", '4', "192.0.2.9", []string{"{client_name}", "unknown", "{client_resolve}", "FAIL"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"an address for a name", "192.0.2.77", '4', "192.0.2.9", []string{"{client_name}", "192.0.2.77", "{client_resolve}", "OK"}, Client{Name: "unknown", Address: "192.0.2.9"}},
		{"address in brackets", "h.example", '6', "[2001:db8::1]", nil, Client{Name: "h.example", Address: "2001:db8::1"}},
		{"mapped, told as IPv4", "h.example", '4', "::ffff:192.0.2.1", nil, Client{Name: "h.example", Address: "192.0.2.1"}},
		{"mapped, in hex", "h.example", '6', "IPv6:::ffff:c000:201", nil, Client{Name: "h.example", Address: "192.0.2.1"}},
		{"sendmail -bs", "localhost", 'U', "", []string{"{client_addr}", "0", "{client_port}", "0"}, Client{Name: "localhost"}},
		{"Postfix, a proxy hides name and address", "unknown", '4', "unknown", []string{"{client_name}", "unknown", "{client_addr}", "unknown", "{client_port}", "0"}, Client{Name: "unknown"}},
		{"Postfix, a proxy hides the address", "h.example", '4', "unknown", []string{"{client_name}", "h.example", "{client_resolve}", "OK"}, Client{Name: "h.example"}},
		{"an IPv6 address that is none", "h.example", '6', "IPv6:unknown", nil, Client{Name: "h.example"}},
		{"Postfix's sendmail command", "localhost", '4', "127.0.0.1", []string{"{client_name}", "localhost", "{client_port}", "0"}, Client{Name: "localhost", Address: "127.0.0.1"}},
		{"a port that is none", "h.example", '4', "192.0.2.9", []string{"{client_port}", "65536"}, Client{Name: "h.example", Address: "192.0.2.9"}},
		{"port by macro", "h.example", '4', "192.0.2.9", []string{"{client_port}", "4711"}, Client{Name: "h.example", Address: "192.0.2.9", Port: 4711}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := startServer(t, &testHandler{}, quickTimes())
			m := b.mta(t, miltertest.Sendmail817)
			m.Macros('C', c.macros...)
			m.Connect(c.host, c.family, 0, c.address)
			a, err := m.SendMessage(plainMessage)
			mustAnswer(t, a, err, "accept")
			if got := b.handler.transaction(t, 0).env.Client; got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestNewConnectionForgetsTheClient: QUIT_NC begins with nobody, whatever the MTA
// leaves out after it.
func TestNewConnectionForgetsTheClient(t *testing.T) {
	b := startServer(t, &testHandler{}, quickTimes())
	m := b.mta(t, miltertest.Sendmail817)
	m.Macros('C', "j", "mx.example", "{daemon_name}", "MSA", "{client_name}", "h.example")
	m.Connect("h.example", '4', 1, "192.0.2.9")
	m.Macros('H', "{tls_version}", "TLSv1.3")
	m.Helo("h.example")
	m.Send('K', nil)
	m.Mail("<a@x>")
	m.Rcpt("<b@y>")
	a, err := m.EOM()
	mustAnswer(t, a, err, "accept")
	env := b.handler.transaction(t, 0).env
	if env.Client != (Client{}) || env.TLS != (TLS{}) || env.Hostname+env.DaemonName != "" {
		t.Errorf("the new connection has %+v", env)
	}
}

func TestUTF8(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{nil, false}, {[]string{"SMTPUTF8"}, true}, {[]string{"SIZE=100", "smtputf8", "BODY=8BITMIME"}, true},
		{[]string{"SMTPUTF8=1"}, false}, {[]string{"BODY=SMTPUTF8"}, false}, {[]string{"XSMTPUTF8"}, false},
	} {
		b := startServer(t, &testHandler{}, quickTimes())
		m := b.mta(t, miltertest.Postfix37)
		m.Greet()
		m.Mail("<ä@x>", c.args...)
		m.Rcpt("<b@y>")
		a, err := m.EOM()
		mustAnswer(t, a, err, "accept")
		if got := b.handler.transaction(t, 0).env.UTF8; got != c.want {
			t.Errorf("%q: %v, want %v", c.args, got, c.want)
		}
	}
}
