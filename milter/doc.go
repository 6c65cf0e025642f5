// Package milter is the milter side of amavis-milter: it accepts connections
// from an MTA (sendmail, Postfix), turns the callbacks of the milter protocol
// into one [Transaction] for each message, and sends the [Verdict] back.
//
// Nothing that a peer sends reaches the protocol library unchecked: a guard
// between the socket and the library admits only whole, well-formed frames.
// The library's types never leave this package.
//
// The package knows neither AM.PDP nor the spool nor any policy: what a message
// is worth is for the [Handler] to say.
package milter
