package e2e

import (
	"slices"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// Recipients of the lab. What they stand for is in the profile with extensions.
const (
	sender   = "someone@remote.test"
	user     = "user@lab.test"     // nothing special
	extended = "extended@lab.test" // gets spam at extended+spam
	lover    = "lover@lab.test"    // wants it all
	victim   = "victim@lab.test"   // gets viruses at victim+virus
)

// Fields that amavisd inserts in the profiles.
var (
	scanned  = `^X-Virus-Scanned: Debian amavis at lab\.test$`
	notSpam  = []string{`^X-Spam-Flag: NO$`, `^X-Spam-Score: [\d.]+$`, `^X-Spam-Level:`, `(?s)^X-Spam-Status: No, score=.* tests=\[.*LAB_CLIENT=0\.01`}
	isSpam   = []string{`^X-Spam-Flag: YES$`, `^X-Spam-Score: 1\d\d\d\.\d+$`, `^X-Spam-Level: \*{64}$`, `(?s)^X-Spam-Status: Yes, score=.* tests=\[.*GTUBE=1000.*LAB_CLIENT=0\.01`}
	byRules  = []string{`^X-Spam-Flag: YES$`, `^X-Spam-Score: [\d.]+$`, `^X-Spam-Level: \*+$`, `(?s)^X-Spam-Status: Yes, score=.* tests=\[.*MISSING_FROM=.*MISSING_HEADERS=`}
	ours     = `^X-Virus-Scanned: by amavis-milter$`
	quarant  = `^X-Quarantine-ID: <[\w-]+>$`
	infected = `^X-Amavis-Alert: INFECTED, message contains virus: Eicar-Signature\.UNOFFICIAL$`
)

// refusal is the reply to a mail that amavisd has refused.
func refusal(why string) string { return `^554 5\.7\.0 Reject, id=\w+-\d+ - ` + why + `$` }

func header(first string, more ...[]string) []string {
	all := []string{first}
	for _, m := range more {
		all = append(all, m...)
	}
	return all
}

// clean is what becomes of a clean mail in each profile: everybody gets it.
func clean(w want, recipients ...string) map[string]want {
	w.reply, w.recipients = accepted, recipients
	debian, extensions := w, w
	debian.top = header(scanned, notSpam)
	extensions.top = notSpam
	extensions.bottom = []string{ours}
	return map[string]want{
		lab.TagAndDiscard.Name: debian,
		lab.Reject.Name:        debian,
		lab.Extensions.Name:    extensions,
	}
}

// badHeader is what becomes of a mail whose header amavisd finds fault with: it is
// quarantined and passed with an alert.
func badHeader(what string, recipients ...string) map[string]want {
	wants := clean(want{}, recipients...)
	alert := []string{`(?s)^X-Amavis-Alert: BAD HEADER SECTION, ` + what}
	for name, w := range wants {
		w.top = header(quarant, []string{scanned}, alert, notSpam)
		if name == lab.Extensions.Name {
			w.top = header(quarant, alert, notSpam)
		}
		wants[name] = w
	}
	return wants
}

// at is who of recipients gets bad mail in the profile with extensions: the one
// whose address is plain gets it at the extended one, and lover as it is.
func at(plain, extension string, recipients []string) []string {
	var get []string
	for _, recipient := range recipients {
		switch recipient {
		case plain:
			get = append(get, extension)
		case lover:
			get = append(get, lover)
		}
	}
	return get
}

// spam is what becomes of spam: tagged and passed, or refused, or passed to those
// who want it. The subject is that of the mail as it is delivered.
func spam(subject string, recipients ...string) map[string]want {
	w := want{reply: accepted, recipients: recipients, changed: map[string]string{"Subject": subject}}
	return spamLike(w, isSpam)
}

// spamLike is the same for what is more than that; w.top are alerts, marks say why
// it is spam.
func spamLike(w want, marks []string) map[string]want {
	tagged := w
	tagged.top = header(quarant, []string{scanned}, w.top, marks)
	extensions := want{reply: accepted}
	if get := at(extended, "extended+spam@lab.test", w.recipients); get != nil {
		extensions = w
		extensions.recipients = get
		extensions.top = header(quarant, w.top, marks)
		extensions.bottom = append(slices.Clone(w.bottom), ours)
	}
	return map[string]want{
		lab.TagAndDiscard.Name: tagged,
		lab.Reject.Name:        {reply: refusal("spam")},
		lab.Extensions.Name:    extensions,
	}
}

// adding is wants with one more field in mail that is passed.
func adding(wants map[string]want, field string) map[string]want {
	for name, w := range wants {
		if w.recipients != nil {
			w.top = append(slices.Clone(w.top), field)
			wants[name] = w
		}
	}
	return wants
}

// virus is what becomes of a virus: dropped, or refused, or passed to those who
// want it; marks are those of spam or of no spam.
func virus(subject string, marks []string, recipients ...string) map[string]want {
	extensions := want{reply: accepted}
	if get := at(victim, "victim+virus@lab.test", recipients); get != nil {
		extensions.recipients = get
		extensions.top = header(quarant, []string{infected}, marks)
		extensions.changed = map[string]string{"Subject": subject}
		extensions.bottom = []string{ours}
	}
	return map[string]want{
		lab.TagAndDiscard.Name: {reply: accepted},
		lab.Reject.Name:        {reply: refusal(`INFECTED: Eicar-Signature\.UNOFFICIAL`)},
		lab.Extensions.Name:    extensions,
	}
}

// banned is what becomes of a mail with an attachment that amavisd's rules forbid:
// dropped or refused.
func banned(what string) map[string]want {
	return map[string]want{
		lab.TagAndDiscard.Name: {reply: accepted},
		lab.Reject.Name:        {reply: refusal(`BANNED: ` + what)},
		lab.Extensions.Name:    {reply: accepted},
	}
}
