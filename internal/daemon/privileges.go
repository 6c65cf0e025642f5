package daemon

// Account is a user whose rights the process may take on.
type Account struct {
	Name   string
	UID    int
	GID    int   // primary group
	Groups []int // all groups, the primary one included
}

// LookupAccount finds a user by name or number, with all groups.
func LookupAccount(nameOrNumber string) (*Account, error) {
	return nil, failf(ExitSoftware, "not built yet")
}

// LookupUID finds a user's id by name or number.
func LookupUID(nameOrNumber string) (int, error) { return -1, nil }

// LookupGID finds a group's id by name or number.
func LookupGID(nameOrNumber string) (int, error) { return -1, nil }

// DropPrivileges takes on the rights of account for good, in all threads.
func DropPrivileges(account *Account) error { return nil }

// ForbidCoreDumps makes sure that no core file can hold mail.
func ForbidCoreDumps() error { return nil }
