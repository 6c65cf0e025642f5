package e2e

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// diffFacts is all that was seen of one case: where it was seen, and the lines of
// it, in order.
type diffFacts map[string][]string

// difference is a fact of which the two programs do not agree; a line that one of
// them does not have is empty.
type diffDifference struct{ where, theirs, ours string }

// delivered notes a mail that the MTA delivered, for each of its recipients.
func (f diffFacts) delivered(mail string, d *lab.Delivery) {
	var header []string
	for _, field := range d.Header() {
		if field.Name != caseField {
			header = append(header, field.String())
		}
	}
	for _, recipient := range d.Recipients {
		f[mail+"delivered to"] = append(f[mail+"delivered to"], recipient)
		to := ", to " + recipient
		f[mail+"delivered from"+to] = append(f[mail+"delivered from"+to], d.Sender)
		f[mail+"delivered header"+to] = append(f[mail+"delivered header"+to], header...)
		f[mail+"delivered body"+to] = append(f[mail+"delivered body"+to], diffBody(d.Body()))
	}
}

// asked notes what amavisd was asked, and what the mail file held.
func (f diffFacts) asked(mail string, asked []diffTaped) {
	switch {
	case len(asked) > 1:
		f[mail+"asked"] = []string{"several times"} // how often is a matter of luck
	case len(asked) == 1:
		f[mail+"asked"] = []string{"once"}
	default:
		f[mail+"asked"] = []string{"never"}
		return
	}
	request, lineEnds, order := asked[0].request, "CR LF", []string{}
	if !bytes.HasSuffix(request.Raw, []byte("\r\n\r\n")) {
		lineEnds = "LF"
	}
	f[mail+"request line ends"] = []string{lineEnds}
	for _, a := range request.Attributes {
		if len(order) == 0 || order[len(order)-1] != a.Name {
			order = append(order, a.Name)
		}
		f[mail+"request "+a.Name] = append(f[mail+"request "+a.Name], a.Value)
	}
	f[mail+"request order"] = []string{strings.Join(order, " ")}
	if id := asked[0].logID; id != "" {
		f[mail+"log_id of amavisd"] = []string{id}
	}
	header, body := lab.SplitMessage(bytes.ReplaceAll(asked[0].file, []byte("\n"), []byte("\r\n")))
	for i, field := range header {
		switch where := mail + "spool header"; {
		case i == 0:
			f[mail+"spool Received"] = []string{field.String()}
		case field.Name != caseField:
			f[where] = append(f[where], field.String())
		}
	}
	f[mail+"spool body"] = []string{diffBody(body)}
}

// diffBody tells a body: a short one as it is.
func diffBody(body []byte) string {
	const short = 200 // bytes
	if len(body) <= short {
		return string(body)
	}
	return fmt.Sprintf("%d bytes, SHA-256 %s", len(body), lab.Hash(body))
}

// What is different in every run, and means nothing. The queue id is not here: it is
// known.
var diffDynamic = []struct {
	what *regexp.Regexp
	word string
}{
	// Dates; a comment after one stays.
	{regexp.MustCompile(`\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d ([+-]\d{4}|GMT)`), "DATE"},
	// What sendmail makes where a mail has none.
	{regexp.MustCompile(`^Message-Id: <\d{12}\.QUEUEID@`), "Message-Id: <TIME.QUEUEID@"},
	// The C program's mkdtemp, where it has no queue id.
	{regexp.MustCompile(`/af[A-Za-z0-9]{10}\b`), "/afRANDOM"},
	// amavisd's log id, of its own making or of the queue id, and its quarantine's.
	{regexp.MustCompile(`^\d{5}-\d\d$`), "AMAVISD-NN"},
	{regexp.MustCompile(`^QUEUEID-\d\d$`), "QUEUEID-NN"},
	{regexp.MustCompile(`^X-Quarantine-ID: <[\w-]{12}>`), "X-Quarantine-ID: <RANDOM>"},
}

// normalise replaces in all facts what differs from run to run by words: queue ids,
// dates, random names, log ids, ports. The order in which the MTA delivers to
// several is its own. All else is compared byte by byte.
func (f diffFacts) normalise() {
	var queueIDs []string
	for where, lines := range f {
		if strings.HasSuffix(where, "queue id") || strings.HasSuffix(where, "request queue_id") {
			queueIDs = append(queueIDs, lines...)
		}
		if strings.HasSuffix(where, "queue id") {
			delete(f, where) // for us only
		}
	}
	for where, lines := range f {
		for i, line := range lines {
			for _, id := range queueIDs {
				line = strings.ReplaceAll(line, id, "QUEUEID")
			}
			for _, d := range diffDynamic {
				line = d.what.ReplaceAllString(line, d.word)
			}
			switch {
			case strings.HasSuffix(where, "request client_port"):
				line = "PORT"
			case line == "":
				line = "(empty)" // not the same as none
			}
			lines[i] = line
		}
		if strings.HasSuffix(where, "delivered to") {
			slices.Sort(lines)
		}
	}
}

// compare returns what differs, in the order of the places. Of a mail to somebody
// who got it from one program only, the header counts; sender and body are as ever.
func (f diffFacts) compare(ours diffFacts) []diffDifference {
	places := map[string]bool{}
	for where := range f {
		places[where] = true
	}
	for where := range ours {
		places[where] = true
	}
	var found []diffDifference
	for where := range places {
		oneSided := (f[where] == nil) != (ours[where] == nil)
		if oneSided && (strings.Contains(where, "delivered from") || strings.Contains(where, "delivered body")) {
			continue
		}
		for _, d := range diffCompareLines(f[where], ours[where]) {
			d.where = where
			found = append(found, d)
		}
	}
	slices.SortStableFunc(found, func(a, b diffDifference) int { return strings.Compare(a.where, b.where) })
	return found
}

// diffCompareLines aligns two lists by their longest common subsequence. What lies
// between common lines is a difference for each pair of lines if there are as many
// on both sides, and one as a whole otherwise.
func diffCompareLines(theirs, ours []string) []diffDifference {
	length := make([][]int, len(theirs)+1) // of the common subsequence of what is left
	for i := range length {
		length[i] = make([]int, len(ours)+1)
	}
	for i := len(theirs) - 1; i >= 0; i-- {
		for j := len(ours) - 1; j >= 0; j-- {
			if theirs[i] == ours[j] {
				length[i][j] = length[i+1][j+1] + 1
			} else {
				length[i][j] = max(length[i+1][j], length[i][j+1])
			}
		}
	}
	var found []diffDifference
	var a, b []string // lines since the last common one
	flush := func() {
		if len(a) == len(b) {
			for i := range a {
				found = append(found, diffDifference{"", a[i], b[i]})
			}
		} else {
			found = append(found, diffDifference{"", strings.Join(a, "\n"), strings.Join(b, "\n")})
		}
		a, b = nil, nil
	}
	i, j := 0, 0
	for i < len(theirs) || j < len(ours) {
		switch {
		case i < len(theirs) && j < len(ours) && theirs[i] == ours[j]:
			flush()
			i, j = i+1, j+1
		case j == len(ours) || i < len(theirs) && length[i+1][j] >= length[i][j+1]:
			a, i = append(a, theirs[i]), i+1
		default:
			b, j = append(b, ours[j]), j+1
		}
	}
	flush()
	return found
}
