package spool

import (
	"crypto/rand"
	"strings"
)

const (
	// dirPrefix begins the name of every message's directory. amavisd's log id is
	// what follows it, up to the next slash.
	dirPrefix = "amavis-milter-"

	// mailFile is the name of a message's file in its directory.
	mailFile = "email.txt"

	// maxQueueID is the length in bytes of the longest queue id that becomes part
	// of a name. sendmail's have 14, Postfix's long ones up to 20; the limit only
	// has to leave room below NAME_MAX (255).
	maxQueueID = 100

	// randomLen is the length in characters of a random part: 60 bits, so that
	// taken names are no matter of chance.
	randomLen = 12

	// maxNameTries is how many names are tried for one message. More than one
	// random name that is taken means that somebody plays with us.
	maxNameTries = 8
)

// isNameByte reports whether amavisd accepts c in the path of a tempdir.
func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
}

// isName reports whether s consists of such bytes only, at least one.
func isName(s string) bool {
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// usableQueueID reports whether a queue id may be part of a name. It comes from
// the MTA, and what the MTA made of it is not ours to trust. Behind the prefix
// even "." and ".." are harmless.
func usableQueueID(id string) bool { return len(id) <= maxQueueID && isName(id) }

// dirName returns the name for the given attempt, counted from 0: the queue id
// alone first, then with a random part behind it, so that amavisd's log id still
// begins with the queue id. Without a usable queue id it is a random part alone.
func dirName(queueID string, attempt int) string {
	switch {
	case !usableQueueID(queueID):
		return dirPrefix + random()
	case attempt == 0:
		return dirPrefix + queueID
	default:
		return dirPrefix + queueID + "-" + random()
	}
}

func random() string { return rand.Text()[:randomLen] }

// isDirName reports whether name is one that dirName can have made.
func isDirName(name string) bool {
	rest, ok := strings.CutPrefix(name, dirPrefix)
	return ok && len(rest) <= maxQueueID+1+randomLen && isName(rest)
}
