package lab

import (
	"strings"
	"testing"
)

// TestHolding: of several listeners each has its own milter, and one has none.
func TestHolding(t *testing.T) {
	for _, c := range []struct {
		mta        *MTA
		configure  func(host string, listeners []Listener) string
		with, none string // the lines of the listeners
	}{
		{Sendmail, holdingDefinition,
			"MAIL_FILTER(`x', `S=local:/var/amavis/x.sock, F=T, T=S:10m;R:10m;E:10m')dnl\n" +
				"DAEMON_OPTIONS(`Name=x, Family=inet, Address=192.0.2.1, Port=26, Listen=200, InputMailFilters=x')dnl\n",
			"DAEMON_OPTIONS(`Name=y, Family=inet, Address=192.0.2.1, Port=27, Listen=200')dnl\n"},
		{Postfix, holdingServices,
			"192.0.2.2:26 inet n - y - - smtpd\n  -o smtpd_milters=unix:amavis/x.sock\n",
			"192.0.2.2:27 inet n - y - - smtpd\n"},
	} {
		text := c.configure(c.mta.HostOf(), []Listener{{Name: "x", Port: "26", Socket: c.mta.SocketOf("x")}, {Name: "y", Port: "27"}})
		if !strings.HasSuffix(text, c.with+c.none) {
			t.Errorf("%s: the configuration ends in\n%s\nnot in\n%s%s", c.mta.Name, text, c.with, c.none)
		}
	}
}
