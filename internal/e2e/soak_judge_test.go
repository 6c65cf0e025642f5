package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// inserted are the names of the fields that amavisd puts above a mail that passes.
var inserted = []string{"X-Virus-Scanned", "X-Spam-Flag", "X-Spam-Score", "X-Spam-Level", "X-Spam-Status", "X-Quarantine-ID"}

// unscanned says why a delivered mail is one that nobody scanned; empty if it was.
func unscanned(d *lab.Delivery) string {
	if cause := d.Values("X-Amavis-Milter-Unscanned"); len(cause) > 0 {
		return fmt.Sprintf("it bears X-Amavis-Milter-Unscanned: %q", cause)
	}
	if marks := d.Values("X-Virus-Scanned"); len(marks) != 1 || !strings.HasPrefix(marks[0], "Debian amavis at ") {
		return fmt.Sprintf("its X-Virus-Scanned fields are %q, want one of amavisd", marks)
	}
	return ""
}

// altered says what is not as it was sent in a delivered mail, but for the edits
// that amavisd makes in such a mail; empty if nothing is.
func (m *soakMail) altered(d *lab.Delivery) string {
	if d.Sender != "<"+sender+">" {
		return fmt.Sprintf("its sender is %s", d.Sender)
	}
	want, body := lab.SplitMessage(m.raw)
	got, gotBody := lab.SplitMessage(d.Raw)
	if !bytes.Equal(body, gotBody) {
		return fmt.Sprintf("its body has %d bytes, hash %s; %d bytes, hash %s were sent", len(gotBody), lab.Hash(gotBody), len(body), lab.Hash(body))
	}
	if m.kind.fate == tagged {
		want = slices.Clone(want)
		for i, field := range want {
			if field.Name == "Subject" {
				want[i].Value = " ***SPAM***" + field.Value
			}
		}
	}
	above := len(got) - len(want)
	if above < 0 || !slices.Equal(got[above:], want) {
		return fmt.Sprintf("its header does not end in that which was sent: %q, want %q", got, want)
	}
	return aboveHeader(got[:above])
}

// aboveHeader checks the fields that a mail has come to have on its way: those of
// amavisd, each once, and the Received field of the MTA.
func aboveHeader(fields []lab.Field) string {
	seen := map[string]bool{}
	for _, field := range fields {
		if field.Name != "Received" && !slices.Contains(inserted, field.Name) {
			return fmt.Sprintf("it has a field that nobody should have added: %q", field)
		}
		if seen[field.Name] {
			return fmt.Sprintf("it has two fields %s", field.Name)
		}
		seen[field.Name] = true
	}
	if !seen["Received"] {
		return "it has no Received field of the MTA"
	}
	return ""
}
