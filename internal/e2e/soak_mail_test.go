package e2e

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// Bounds of the mails that a soak sends.
const (
	soakID         = "X-Soak-Id" // tells its mails apart
	soakMost       = 4           // recipients of a mail
	soakRecipients = 9           // of whom they are
	soakSmallest   = 1 << 10     // bytes, about
	soakLargestBad = 4 << 10     // bytes, about, of spam: SpamAssassin leaves out what is large
)

// fate is what amavisd lawfully does with a mail in profile soaked.
type fate int

const (
	passes    fate = iota + 1
	tagged         // passes as spam
	discarded      // is accepted and never seen again
	rejected       // is refused with a 5xx reply
)

// soaked has amavisd do each of these: Debian's defaults tag spam and discard
// viruses. It logs little, and SpamAssassin, which is slow, sees small mails only.
var soaked = lab.Profile{Name: "soak", Conf: `
$final_banned_destiny = D_REJECT;
$sa_mail_body_size_limit = 8*1024;
$log_level = 0;
`}

// soakKinds are the kinds of mail, and how many of a hundred are of each.
var soakKinds = []soakKind{
	{"plain", 28, passes, func(r *rand.Rand, size int) lab.Part {
		return textPart(prose(r, size, "\n"))
	}},
	{"8 bit", 14, passes, func(r *rand.Rand, size int) lab.Part {
		return textPart(prose(r, size, " Grüße aus Köln, à bientôt, до свидания.\n"))
	}},
	{"dots", 14, passes, func(r *rand.Rand, size int) lab.Part {
		return textPart(".\n..\n" + prose(r, size, "\n.\n..\n.the line before is two dots\n...\n") + ".\n")
	}},
	{"attachment", 20, passes, func(r *rand.Rand, size int) lab.Part {
		return lab.Multipart("mixed", "the-next-part", textPart(lab.CleanBody),
			lab.Part{Type: "application/octet-stream", Encoding: "base64", Name: "minutes.txt", Content: []byte(prose(r, size*3/4, "\n"))})
	}},
	{"spam", 10, tagged, func(r *rand.Rand, size int) lab.Part {
		return textPart(lab.GTUBEBody() + prose(r, min(size, soakLargestBad), "\n"))
	}},
	{"virus", 8, discarded, func(r *rand.Rand, size int) lab.Part {
		return textPart(prose(r, size, "\n") + lab.EICARBody())
	}},
	{"banned", 6, rejected, func(r *rand.Rand, size int) lab.Part {
		return lab.Multipart("mixed", "the-next-part", textPart(lab.CleanBody),
			lab.Part{Type: "application/octet-stream", Encoding: "base64", Name: "setup.exe", Content: []byte(prose(r, size, "\n"))})
	}},
}

type soakKind struct {
	name  string
	share int // of a hundred
	fate  fate
	part  func(r *rand.Rand, size int) lab.Part
}

// soakMail is one of the known set of mails. It is made anew from its number
// whenever it is needed, always the same, so that none is kept.
type soakMail struct {
	id         string
	kind       *soakKind
	recipients []string
	raw        []byte // CR LF line ends
}

// soakPlan makes the mails of one run.
type soakPlan struct {
	seed    uint64
	began   time.Time  // the date of all mails
	largest int        // bytes, about
	kinds   []soakKind // whose shares are a hundred in all
}

// mail makes the mail with this number for an MTA.
func (p *soakPlan) mail(mta *lab.MTA, number int) *soakMail {
	stream := uint64(number)<<1 | uint64(slices.Index(lab.MTAs(), mta))
	r := rand.New(rand.NewPCG(p.seed, stream))
	m := &soakMail{id: fmt.Sprintf("%s-%d", mta.Name, number), kind: p.kind(r)}
	for _, n := range r.Perm(soakRecipients)[:1+max(0, r.IntN(2*soakMost-1)-soakMost+1)] {
		m.recipients = append(m.recipients, fmt.Sprintf("user%d@lab.test", n+1))
	}
	// As many mails between 1 and 2 KB as between 1 and 2 MB.
	size := int(soakSmallest * math.Pow(float64(p.largest)/soakSmallest, r.Float64()))
	m.raw = lab.Whole(p.header(r, m), m.kind.part(r, size))
	return m
}

func (p *soakPlan) kind(r *rand.Rand) *soakKind {
	n := r.IntN(100)
	for i := range p.kinds {
		if n -= p.kinds[i].share; n < 0 {
			return &p.kinds[i]
		}
	}
	panic("the shares of the kinds are not a hundred in all")
}

// header is that of an ordinary mail; one of four has a long one, too.
func (p *soakPlan) header(r *rand.Rand, m *soakMail) string {
	fields := []string{
		soakID + ": " + m.id,
		"Date: " + p.began.Format(time.RFC1123Z),
		"From: Some One <" + sender + ">",
		"To: <" + m.recipients[0] + ">",
		"Subject: soak " + m.id,
		"Message-ID: <soak." + m.id + "@remote.test>",
	}
	if r.IntN(4) == 0 {
		var references strings.Builder
		for range 20 + r.IntN(180) {
			fmt.Fprintf(&references, "\r\n <%016x.%016x@remote.test>", r.Uint64(), r.Uint64())
		}
		fields = append(fields, "References:"+references.String(), "X-Long: "+strings.Repeat("x", 900+r.IntN(80)))
		for n := range r.IntN(40) {
			fields = append(fields, fmt.Sprintf("X-Many: number %d of some", n))
		}
	}
	return strings.Join(append(fields, "MIME-Version: 1.0", ""), "\r\n")
}

func textPart(text string) lab.Part {
	return lab.Part{Type: "text/plain; charset=utf-8", Encoding: "8bit", Content: []byte(text)}
}

// sentences are such that nobody takes any number of them, in any order, for spam.
var sentences = []string{
	"Good morning, the minutes of yesterday's meeting are on the shared drive.",
	"Please read them before Friday, and tell me what is missing.",
	"The train was late again, so we began at half past nine.",
	"We agreed to paint the hall in spring, when the weather is dry.",
	"The roof has been mended, and the cellar is dry since then.",
	"Our next meeting is in the small room on the second floor.",
	"Ann will bring the plans, and somebody should bring biscuits.",
	"The keys are with the porter, who goes home at six.",
}

// prose is some size bytes of sentences, each with a number, and end at its end.
func prose(r *rand.Rand, size int, end string) string {
	var text strings.Builder
	for text.Len() < size {
		fmt.Fprintf(&text, "%s (%d)%s", sentences[r.IntN(len(sentences))], r.IntN(1_000_000), end)
	}
	return text.String()
}
