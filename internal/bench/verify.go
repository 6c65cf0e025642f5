package bench

import (
	"bytes"
	"fmt"
)

// Verify sends a few messages through a program and compares each mail file that the
// scanner was given with what was sent. It is no part of what is timed.
func Verify(load *Load, scanner *Scanner, n int) error {
	var failed error
	seen := 0
	want := load.mail.file()
	scanner.Examine(func(file []byte, err error) {
		seen++
		if err == nil {
			err = sameMail(file, want)
		}
		if err != nil && failed == nil {
			failed = fmt.Errorf("the mail file of message %d: %w", seen, err)
		}
	})
	err := load.Send(n, 1)
	scanner.Examine(nil)
	switch {
	case err != nil:
		return err
	case failed != nil:
		return failed
	case seen != n:
		return fmt.Errorf("of %d messages %d were scanned", n, seen)
	}
	return load.Err()
}

// sameMail compares a mail file with what was sent: before it a program puts a Received
// field of its own.
func sameMail(file, want []byte) error {
	head, ok := bytes.CutSuffix(file, want)
	if !ok {
		return fmt.Errorf("it does not end with the mail: %d bytes, %d were sent", len(file), len(want))
	}
	for i, line := range bytes.SplitAfter(head, []byte("\n")) {
		starts := i == 0 && (len(line) == 0 || bytes.HasPrefix(line, []byte("Received:")))
		if goesOn := i > 0 && (len(line) == 0 || line[0] == '\t' || line[0] == ' '); !starts && !goesOn {
			return fmt.Errorf("before the mail it has %q", line)
		}
	}
	return nil
}
