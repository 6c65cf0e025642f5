package config

import "strings"

// Layout of the usage text, in columns.
const (
	usageWidth  = 79
	usageIndent = 30 // where the explanations begin
)

const usageForms = `
SPEC is local:/PATH, inet:PORT@HOST or inet6:PORT@HOST. TIME is in seconds, or
has a unit, as in 90s, 10m, 1h.

Examples:
`

const amavisMilterExamples = `  amavis-milter -g smmsp
      serve sendmail on the default sockets, in the background
  amavis-milter -f -p inet:10029@127.0.0.1 -S /var/lib/amavis/amavisd.sock \
      -w /var/lib/amavis/tmp -m 4 --on-failure busy=accept
      serve Postfix (smtpd_milters = inet:127.0.0.1:10029) in the foreground,
      scan four messages at once, pass those that no scanner has time for
`

const amavisdMilterExamples = `  amavisd-milter -m 4 -p /run/amavis/amavisd-milter.pid
      serve on the default socket, in the background, four messages at once
  amavisd-milter -f -d 1 -s inet:60001@127.0.0.1
      serve Postfix (smtpd_milters = inet:127.0.0.1:60001) in the foreground,
      log everything to stderr

The letters are those of amavisd-milter 1.7. Called as amavis-milter, the same
program has those of amavis-milter; long options are the same.
`

const usageFoot = `
See amavis-milter(8). Exit codes are those of sysexits(3).
`

// UsageText returns what --help prints.
func (c *Config) UsageText() string {
	dl := c.dialect
	def := dl.defaults()
	var b strings.Builder
	b.WriteString("Usage: " + dl.program + " [OPTION]...\n")
	b.WriteString("Lets amavisd scan the mail of sendmail or Postfix (milter to AM.PDP).\n")
	for _, g := range groups {
		b.WriteString("\n" + string(g) + ":\n")
		for i := range options {
			if options[i].group == g {
				b.WriteString(dl.usage(&options[i], def))
			}
		}
	}
	b.WriteString(usageForms + dl.examples + usageFoot)
	return b.String()
}

// usage returns the lines of one option.
func (dl *dialect) usage(o *option, def *Config) string {
	names := "      "
	if letters := dl.letters[o.name]; letters != "" {
		names = "  -" + strings.Join(strings.Split(letters, ""), ", -") + ", "
	}
	names += "--" + o.name
	if o.value != "" {
		names += " " + o.value
	}
	text := o.help
	if value := o.shownDefault(def); value != "" {
		text += " (default " + value + ")"
	}
	var b strings.Builder
	b.WriteString(names)
	column := len(names)
	if column > usageIndent-2 {
		b.WriteString("\n")
		column = 0
	}
	b.WriteString(strings.Repeat(" ", usageIndent-column))
	column = usageIndent
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > usageWidth:
			b.WriteString("\n" + strings.Repeat(" ", usageIndent))
			column = usageIndent
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteString("\n")
	return b.String()
}
