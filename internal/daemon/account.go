package daemon

import (
	"os/user"
	"strconv"
)

// Account is a user whose rights the process may take on.
type Account struct {
	Name   string
	UID    int
	GID    int   // primary group
	Groups []int // all groups, the primary one included
}

// LookupAccount finds a user by name or number, with all groups of the host's
// group file. A user who does not exist is an [Error] with ExitConfiguration.
func LookupAccount(nameOrNumber string) (*Account, error) {
	found, err := lookupUser(nameOrNumber)
	if err != nil {
		return nil, err
	}
	account := &Account{Name: found.Username}
	if account.UID, err = parseID(found.Uid); err != nil {
		return nil, failf(ExitConfiguration, "user %s: %w", nameOrNumber, err)
	}
	if account.GID, err = parseID(found.Gid); err != nil {
		return nil, failf(ExitConfiguration, "user %s: %w", nameOrNumber, err)
	}
	groups, err := found.GroupIds()
	if err != nil {
		return nil, failf(ExitOS, "cannot find the groups of user %s: %w", nameOrNumber, err)
	}
	for _, text := range groups {
		gid, err := parseID(text)
		if err != nil {
			return nil, failf(ExitConfiguration, "groups of user %s: %w", nameOrNumber, err)
		}
		account.Groups = append(account.Groups, gid)
	}
	return account, nil
}

func lookupUser(nameOrNumber string) (*user.User, error) {
	found, err := user.Lookup(nameOrNumber)
	if err != nil && isNumber(nameOrNumber) {
		found, err = user.LookupId(nameOrNumber)
	}
	if err != nil {
		return nil, failf(ExitConfiguration, "there is no user %q on this host: create it (useradd -r) or name another", nameOrNumber)
	}
	return found, nil
}

// LookupUID finds a user's id by name, or takes a number as it is. A user who does
// not exist is an [Error] with ExitConfiguration.
func LookupUID(nameOrNumber string) (int, error) {
	found, err := user.Lookup(nameOrNumber)
	if err == nil {
		return parseID(found.Uid)
	}
	if isNumber(nameOrNumber) {
		return parseID(nameOrNumber)
	}
	return -1, failf(ExitConfiguration, "there is no user %q on this host: create it (useradd -r) or name another", nameOrNumber)
}

// LookupGID finds a group's id by name, or takes a number as it is. A group that
// does not exist is an [Error] with ExitConfiguration.
func LookupGID(nameOrNumber string) (int, error) {
	found, err := user.LookupGroup(nameOrNumber)
	if err == nil {
		return parseID(found.Gid)
	}
	if isNumber(nameOrNumber) {
		return parseID(nameOrNumber)
	}
	return -1, failf(ExitConfiguration, "there is no group %q on this host: create it (groupadd -r) or name another", nameOrNumber)
}

func isNumber(text string) bool {
	_, err := parseID(text)
	return err == nil
}

// maxID is the largest user or group id: 2^32-1 means "leave it" to chown(2).
const maxID = 1<<32 - 2

func parseID(text string) (int, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id > maxID {
		return -1, failf(ExitConfiguration, "%q is not a user or group id: it must be a number from 0 to %d", text, uint32(maxID))
	}
	return int(id), nil
}

// userName and groupName are for messages: a name, or the number if there is none.
func userName(uid int) string {
	if found, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return found.Username
	}
	return strconv.Itoa(uid)
}

func groupName(gid int) string {
	if found, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return found.Name
	}
	return strconv.Itoa(gid)
}
