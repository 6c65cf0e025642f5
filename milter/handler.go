package milter

import "context"

// Handler begins the transactions: one for each message whose DATA the MTA has
// accepted. It is used by many connections at once.
type Handler interface {
	// Begin opens a transaction for one message. It is called at DATA, or at the
	// first header field from an MTA that announces no DATA; never before, so that
	// traffic that dies at RCPT costs nothing. env is complete but for the queue
	// id, which Postfix may assign late: the session keeps env.QueueID up to date
	// until Verdict is called, and does not change env after that.
	//
	// Begin does not fail: a transaction that could not be opened says so in its
	// verdict, for the MTA is not told anything before the end of the message.
	Begin(env *Envelope) Transaction
}

// Transaction is one message on its way. Its methods are called one at a time;
// Header and Body any number of times, Verdict at most once, End exactly once
// and last, whatever happened.
type Transaction interface {
	// Header gives one header field: its name, and its value byte for byte as it
	// stood behind the colon, leading space included. Lines of a folded value end
	// in LF or CR LF, as the MTA sent them.
	Header(name, value string)

	// EndHeader says that the header is complete. An MTA that sends neither body
	// nor end of header is answered all the same: Verdict may follow at once.
	EndHeader()

	// Body gives the next piece of the body, with the line ends as the MTA sent
	// them. The slice is the session's: it must not be kept.
	Body(chunk []byte)

	// Verdict is called at the end of the message and takes as long as it needs:
	// the session reports progress to the MTA meanwhile. It must return soon after
	// ctx is done, which happens when the MTA has hung up (its cause is then
	// ErrPeerGone) or the server ends (ErrServerClosed). Nothing of the message may
	// be left on the disk when it returns.
	Verdict(ctx context.Context) Verdict

	// End says how the transaction ended. After a Verdict it is called when the
	// answer has been written to the MTA; without one, when the message was
	// aborted. Nothing of the message may be left on the disk when it returns.
	End(outcome Outcome)
}

// Outcome says what became of a transaction.
type Outcome struct {
	// Sent is the verdict that the MTA was sent. It differs from the one that the
	// handler gave when a change could not be sent: then it is a tempfail. It is
	// the zero Verdict when nothing was sent. It has no changes any more.
	Sent Verdict

	// Err is nil when Sent was written to the MTA in full. Otherwise it says why
	// not: ErrAborted, ErrPeerGone, ErrServerClosed, an error in writing, the change
	// that could not be sent, or ErrVerdictLate (Sent is then what was sent instead).
	Err error
}
