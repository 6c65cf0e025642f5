package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// virusesOnly is amavisd without SpamAssassin, which is quick, and without a mind
// about bad headers.
var virusesOnly = lab.Profile{Name: "viruses only", Conf: "@bypass_spam_checks_maps = (1);\n@bypass_header_checks_maps = (1);\n"}

// TestExactBytes: the mail file holds exactly what the client sent, and what is
// delivered is that too, below the fields that were inserted. What an MTA changes
// by itself stands in byteDifferences.
func TestExactBytes(t *testing.T) {
	shapes := slices.Concat(headerShapes(), bodyShapes())
	checkDifferences(t, shapes)
	onEach(t, virusesOnly, func(t *testing.T, p *lab.Pipeline) {
		for _, passed := range passAll(t, p, shapes) {
			difference := byteDifferences[p.MTA][passed.shape.name]
			err := passed.checkBytes(difference)
			switch {
			case err != nil:
				t.Errorf("%s: %v", passed.shape.name, err)
			case difference.why != "":
				t.Logf("%-30s %s", passed.shape.name, difference.why)
			default:
				t.Logf("%-30s ok", passed.shape.name)
			}
		}
	})
}

// checkBytes compares what was spooled and delivered with what was sent.
func (p *passage) checkBytes(d byteDifference) error {
	if d.refused != "" {
		if ok, err := regexp.MatchString(d.refused, p.reply.String()); err != nil || !ok {
			return fmt.Errorf("the client was told %q, want %s (%v)", p.reply, d.refused, err)
		}
		if len(p.exchanges)+len(p.deliveries) > 0 {
			return fmt.Errorf("refused, but amavisd was asked %d times, and it was delivered %d times", len(p.exchanges), len(p.deliveries))
		}
		return nil
	}
	file, err := p.spooled()
	if err != nil {
		return err
	}
	if err := sameBytes(file, lf(d.seen(p.shape.raw))); err != nil {
		return fmt.Errorf("in the mail file: %w", err)
	}
	message, err := p.delivered()
	if err != nil {
		return err
	}
	if d.broken {
		if bytes.HasSuffix(message.Raw, p.shape.raw) {
			return errors.New("delivered as it was sent, contrary to the table")
		}
		return nil
	}
	want := d.delivered(p.shape.raw)
	above, ok := bytes.CutSuffix(message.Raw, want)
	if !ok {
		return fmt.Errorf("delivered: %w", sameBytes(message.Raw[max(0, len(message.Raw)-len(want)):], want))
	}
	return onlyInserted(above)
}

// onlyInserted fails if there is anything but amavisd's one field and the MTA's
// own.
func onlyInserted(above []byte) error {
	fields, _ := lab.SplitMessage(above)
	if len(fields) != 2 || fields[0].Name != "X-Virus-Scanned" || fields[1].Name != "Received" || !bytes.HasSuffix(above, []byte("\r\n")) {
		return fmt.Errorf("delivered below %q, want X-Virus-Scanned and Received", above)
	}
	return nil
}

// checkDifferences fails for rows of the table that no shape needs.
func checkDifferences(t *testing.T, shapes []shape) {
	t.Helper()
	for mta, rows := range byteDifferences {
		for name, d := range rows {
			i := slices.IndexFunc(shapes, func(s shape) bool { return s.name == name })
			if i < 0 {
				t.Errorf("%s: no shape is called %q", mta.Name, name)
				continue
			}
			raw := shapes[i].raw
			same := errors.Join(sameBytes(d.seen(raw), raw), sameBytes(d.delivered(raw), raw)) == nil
			if d.why == "" || same && d.refused == "" && !d.broken {
				t.Errorf("%s: the row for %q says no difference, or no reason", mta.Name, name)
			}
		}
	}
}
