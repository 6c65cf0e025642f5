package main

import "github.com/amavis-milter/amavis-milter/internal/e2e/lab"

const (
	sender = "someone@remote.test"
	alice  = "alice@lab.test"
	bob    = "bob@lab.test"
)

// profile is how the demonstration's amavisd treats bad mail: a virus is refused
// while the client waits; spam is marked and passed, but for Bob, who wants none.
var profile = lab.Profile{Name: "demonstration", Conf: `
$final_virus_destiny = D_REJECT;
$final_spam_destiny = D_DISCARD;
@spam_lovers_maps = ({ 'bob@lab.test' => 0, '.lab.test' => 1 });
`}

// mail is one step of the demonstration.
type mail struct {
	title      string
	recipients []string
	raw        []byte
	code       int      // that the client is to see at the end
	delivered  []string // who is to get it
}

func mails() ([]mail, error) {
	to := []string{alice}
	header := func(subject string) string { return lab.Header(sender, alice, subject) }
	zip, err := lab.EICARZip(header("Letter in a zip file"))
	if err != nil {
		return nil, err
	}
	return []mail{
		{"A clean mail: it is passed", to, lab.Text(header("Minutes of the meeting"), lab.CleanBody), 250, to},
		{"Spam (GTUBE, the test string of SpamAssassin): it is marked and passed", to,
			lab.Text(header("Special offer"), lab.GTUBEBody()), 250, to},
		{"A virus (EICAR, the test string of virus scanners): it is refused", to,
			lab.Text(header("Letter"), lab.EICARBody()), 554, nil},
		{"The same virus in a zip file: it is refused", to, zip, 554, nil},
		{"Spam for Alice, who takes it marked, and Bob, who wants none: Bob is spared", []string{alice, bob},
			lab.Text(header("Special offer for two"), lab.GTUBEBody()), 250, to},
	}, nil
}
