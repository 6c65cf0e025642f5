package filter

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// relayScript parses each Received field of its input (NUL-separated) with
// SpamAssassin's own code and prints what that made of it.
const relayScript = `
use strict; use warnings;
use Mail::SpamAssassin; use Mail::SpamAssassin::Message::Metadata;
local $/ = "\0";
while (my $line = <STDIN>) {
	chomp $line;
	$line =~ s/^Received: //; $line =~ s/\n[ \t]+/ /gs;
	my $self = bless {}, 'Mail::SpamAssassin::Message::Metadata';
	my $r = $self->parse_received_line($line);
	if (!defined $r) { print "unparseable\n" }
	elsif (!$r)      { print "\n" }
	else {
		my $env = defined $r->{envfrom} ? " envfrom=$r->{envfrom}" : "";
		print "ip=$r->{ip} rdns=$r->{rdns} helo=$r->{helo} by=$r->{by} id=$r->{id} auth=$r->{auth}$env\n";
	}
}
`

// SpamAssassin must read the client's facts, and nobody else's, in every field.
func TestSpamAssassinReadsTheReceivedField(t *testing.T) {
	if out, err := exec.Command("perl", "-MMail::SpamAssassin", "-e", "1").CombinedOutput(); err != nil {
		t.Skipf("needs perl and SpamAssassin (Debian package spamassassin): %v: %.200s", err, out)
	}
	var fields []string
	for _, c := range receivedCases {
		fields = append(fields, receivedField(&c.env, "milter.example.net", testTime))
	}
	cmd := exec.Command("perl", "-e", relayScript)
	cmd.Stdin = strings.NewReader(strings.Join(fields, "\x00"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	relays := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(relays) != len(receivedCases) {
		t.Fatalf("%d answers to %d fields: %q", len(relays), len(fields), relays)
	}
	for i, c := range receivedCases {
		if relays[i] != c.relay {
			t.Errorf("%s: SpamAssassin reads\n     %q\nwant %q", c.name, relays[i], c.relay)
		}
	}
}
