package e2e

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// treatment is what an MTA by itself makes of a mail, with or without a milter.
type treatment struct {
	refuses   string            // expression for its reply if it does not take the mail
	tells     map[string]string // addresses as the milter hears them, by what the client said
	addresses map[string]string // addresses as they are when the mail is delivered, likewise
	takes     func(split) split // what it makes of the mail before the milter sees it
	sends     func(split) split // what it makes of that when it delivers it
	puts      []string          // expressions for the fields that it puts above the others
	breaks    string            // what it puts into long lines when it delivers it
}

// split is a mail taken apart.
type split struct {
	header []lab.Field
	body   []byte // lines ended by CR LF, the last one, too
}

// treatment returns what the MTA makes of the mail of a case.
func (c *testCase) treatment(mta *lab.MTA) treatment { return differences[mta].mails[c.name] }

// taken is the mail as the MTA gives it to the milter.
func (c *testCase) taken(mta *lab.MTA) split {
	header, body := lab.SplitMessage(c.raw)
	if len(body) > 0 && !bytes.HasSuffix(body, []byte("\r\n")) {
		body = append(bytes.Clone(body), "\r\n"...) // SMTP cannot do without
	}
	m := split{header, body}
	if takes := c.treatment(mta).takes; takes != nil {
		m = takes(m)
	}
	return m
}

// sent is the mail as the MTA delivers it if nobody edits it.
func (c *testCase) sent(mta *lab.MTA) split {
	m := c.taken(mta)
	if sends := c.treatment(mta).sends; sends != nil {
		m = sends(m)
	}
	return m
}

// told is an address as the milter hears it.
func (d *treatment) told(address string) string { return cmp.Or(d.tells[address], address) }

// address is one as it is when the mail is delivered.
func (d *treatment) address(address string) string { return cmp.Or(d.addresses[address], address) }

// without returns a function that removes the fields of these names.
func without(names ...string) func(split) split {
	return func(m split) split {
		m.header = slices.DeleteFunc(slices.Clone(m.header), func(f lab.Field) bool { return slices.Contains(names, f.Name) })
		return m
	}
}

// replacing returns a function that replaces strings in the body.
func replacing(oldNew ...string) func(split) split {
	return func(m split) split {
		m.body = []byte(strings.NewReplacer(oldNew...).Replace(string(m.body)))
		return m
	}
}

// ending returns a function that adds to the body.
func ending(text string) func(split) split {
	return func(m split) split {
		m.body = append(bytes.Clone(m.body), text...)
		return m
	}
}
