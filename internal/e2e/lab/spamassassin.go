package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// spamAssassinScript checks mails with the rules of the machine, as amavisd has
// them. Each comes as its number of bytes, LF, and itself; the answer is lines "key
// value" and an empty line.
const spamAssassinScript = `use strict; use warnings;
use Mail::SpamAssassin;
my $sa = Mail::SpamAssassin->new({ local_tests_only => 1, dont_copy_prefs => 1,
  userprefs_filename => '/dev/null', userstate_dir => '/var/lib/amavis/.spamassassin' });
$sa->compile_now(0);
$| = 1;
while (defined(my $length = <STDIN>)) {
  read(STDIN, my $text, $length) == $length or die "the mail is cut off\n";
  my $mail = $sa->parse($text, 1);
  my $status = $sa->check($mail);
  for my $whose (qw(Trusted Untrusted Internal External)) {
    printf "%s %s\n", $whose, $mail->get_metadata("X-Spam-Relays-$whose") // '';
  }
  printf "Tests %s\n\n", $status->get_names_of_tests_hit();
  $status->finish(); $mail->finish();
}
`

// SpamAssassin is a SpamAssassin that is asked directly, with the lab's rules.
type SpamAssassin struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr tailBuffer
}

// Opinion is what SpamAssassin thinks of a mail.
type Opinion struct {
	// The relays that it read from the Received fields, the last one first, each as
	// "[ ip=… rdns=… helo=… by=… ident=… envfrom=… intl=… id=… auth=… msa=… ]":
	// those that it trusts, and the others.
	Trusted, Untrusted string
	// The same, divided into those inside and those outside.
	Internal, External string

	Tests []string // the rules that hit, in alphabetical order
}

// StartSpamAssassin runs SpamAssassin as account amavis; it ends with its standard
// input, that is with the lab. amavisd must have been started, which writes the
// configuration for both.
func StartSpamAssassin() (*SpamAssassin, error) {
	s := &SpamAssassin{cmd: asAmavis(exec.Command("perl", "-e", spamAssassinScript))}
	s.cmd.Dir = "/"
	s.cmd.Stderr = &s.stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting SpamAssassin: %w", err)
	}
	s.in, s.out = in, bufio.NewReader(out)
	return s, nil
}

// Ask returns SpamAssassin's opinion of a mail, whose line ends may be CR LF.
func (s *SpamAssassin) Ask(raw []byte) (Opinion, error) {
	mail := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
	if _, err := fmt.Fprintf(s.in, "%d\n%s", len(mail), mail); err != nil {
		return Opinion{}, fmt.Errorf("asking SpamAssassin: %w: %s", err, lastLines(s.stderr.String(), 5))
	}
	answer := map[string]string{}
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			return Opinion{}, fmt.Errorf("reading SpamAssassin's answer: %w: %s", err, lastLines(s.stderr.String(), 5))
		}
		if line == "\n" {
			break
		}
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		answer[key] = value
	}
	tests := strings.FieldsFunc(answer["Tests"], func(r rune) bool { return r == ',' })
	slices.Sort(tests)
	return Opinion{answer["Trusted"], answer["Untrusted"], answer["Internal"], answer["External"], tests}, nil
}
