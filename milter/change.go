package milter

import "math"

// Change is one change to an accepted message. The kinds are the structs of this
// file; their order in a Verdict is the order in which the MTA makes them.
type Change interface{ isChange() }

// AtEnd is an [InsertHeader] index behind all fields of any message.
const AtEnd = math.MaxInt32

// AddHeader appends a header field (libmilter smfi_addheader). Where the message has
// one of that name already, or had one that was deleted, sendmail does not append
// but puts the field in front of that one: InsertHeader with [AtEnd] appends.
type AddHeader struct{ Name, Value string }

// InsertHeader inserts a header field at a position counted over the whole header
// from 0, the top (smfi_insheader).
type InsertHeader struct {
	Index       int
	Name, Value string
}

// ChangeHeader replaces the value of the Index-th field of that name, counted from
// 1 (smfi_chgheader).
type ChangeHeader struct {
	Index       int
	Name, Value string
}

// DeleteHeader deletes the Index-th field of that name, counted from 1
// (smfi_chgheader with an empty value). Several fields of one name are to be
// deleted from the last to the first: Postfix moves later indexes up, sendmail
// does not.
type DeleteHeader struct {
	Index int
	Name  string
}

// AddRecipient adds a forward-path to the envelope (smfi_addrcpt).
type AddRecipient struct{ Recipient Path }

// DeleteRecipient removes a forward-path from the envelope (smfi_delrcpt).
type DeleteRecipient struct{ Recipient Path }

// Quarantine holds the message in the MTA's own quarantine (smfi_quarantine).
type Quarantine struct{ Reason string }

func (AddHeader) isChange()       {}
func (InsertHeader) isChange()    {}
func (ChangeHeader) isChange()    {}
func (DeleteHeader) isChange()    {}
func (AddRecipient) isChange()    {}
func (DeleteRecipient) isChange() {}
func (Quarantine) isChange()      {}
