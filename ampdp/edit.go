package ampdp

// Edit is one change that amavisd wants made to a message. The kinds are the
// structs of this file; their order in Reply.Edits is the order in which they are
// to be made. Names of header fields are as RFC 5322 section 2.2 has them
// (printable ASCII without colon or space), but may differ in case from those in
// the message; addresses have their angle brackets. Everything else may hold any
// bytes. Lines of a folded value end in LF.
type Edit interface{ isEdit() }

// DeleteRecipient ("delrcpt") removes a recipient; Address is spelled as in the
// request.
type DeleteRecipient struct{ Address string }

// AddRecipient ("addrcpt") adds a recipient.
type AddRecipient struct{ Address string }

// DeleteHeader ("delheader") deletes the Index-th field of that name, counted
// from 1 as they stand in the mail file.
type DeleteHeader struct {
	Index int
	Name  string
}

// ChangeHeader ("chgheader") replaces the value of the Index-th field of that
// name, counted from 1 as they stand in the mail file. Value may be empty.
type ChangeHeader struct {
	Index       int
	Name, Value string
}

// InsertHeader ("insheader") inserts a field at a position of the whole header,
// counted from 0, the top. Several of one index pile up: the last comes to stand
// above the others. Value may be empty.
type InsertHeader struct {
	Index       int
	Name, Value string
}

// AddHeader ("addheader") appends a field to the header. Value may be empty.
type AddHeader struct{ Name, Value string }

// Quarantine ("quarantine") asks the MTA to hold the message. Reason may be empty.
type Quarantine struct{ Reason string }

func (DeleteRecipient) isEdit() {}
func (AddRecipient) isEdit()    {}
func (DeleteHeader) isEdit()    {}
func (ChangeHeader) isEdit()    {}
func (InsertHeader) isEdit()    {}
func (AddHeader) isEdit()       {}
func (Quarantine) isEdit()      {}
