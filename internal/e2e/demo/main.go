// Command demo shows amavis-milter at work: real mail through a real MTA, a
// real amavisd with SpamAssassin and a real clamd, all of them private to the
// demonstration. Where that cannot be, the tests' scripted MTA and scanner stand
// in, and it says so.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

func main() {
	module := flag.String("module", ".", "the source tree")
	binary := flag.String("binary", "bin/amavis-milter", "the program, below the source tree")
	mta := flag.String("mta", "sendmail", "the MTA: sendmail or postfix")
	scripted := flag.Bool("scripted", false, "use the scripted MTA and scanner in any case")
	flag.Parse()
	os.Exit(run(*module, *binary, *mta, *scripted))
}

func run(module, binary, mta string, scripted bool) int {
	module, err := filepath.Abs(module)
	if err != nil {
		return fail(err)
	}
	i := slices.IndexFunc(lab.MTAs(), func(m *lab.MTA) bool { return strings.EqualFold(m.Name, mta) })
	if i < 0 {
		return fail(fmt.Errorf("unknown MTA %q: write sendmail or postfix", mta))
	}
	binary = filepath.Join(module, binary)
	if scripted {
		return exitCode(runScripted(binary, "it was asked for"))
	}
	config := lab.Config{Module: module, Cache: filepath.Join(module, "build/lab"), Progress: os.Stdout}
	code, err := lab.Run(context.Background(), config, func() int {
		return exitCode(runReal(module, binary, lab.MTAs()[i]))
	})
	var missing *lab.MissingError
	switch {
	case err == nil:
		return code
	case errors.As(err, &missing):
		return exitCode(runScripted(binary, "this machine lacks "+missing.What))
	}
	return fail(err)
}

func exitCode(err error) int {
	if err != nil {
		return fail(err)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "demo:", err)
	return 1
}

// title prints a heading.
func title(text string) {
	fmt.Printf("\n%s\n%s\n", text, strings.Repeat("-", len(text)))
}

// block prints lines with an indent, under a caption.
func block(caption string, lines []string) {
	fmt.Println(caption)
	for _, line := range lines {
		for part := range strings.SplitSeq(strings.TrimRight(line, "\n"), "\n") {
			fmt.Println("    " + strings.TrimRight(part, "\r"))
		}
	}
}
