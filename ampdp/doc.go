// Package ampdp is a client for AM.PDP, the Amavis policy delegation protocol:
// it asks amavisd what is to become of a mail, and returns the answer.
//
// A [Request] names a message by its envelope and by the file in which it lies;
// the message itself does not travel. [Client.Do] sends the request over a
// connection of its own and returns a [Reply], which says what amavisd decided
// ([Reply.ReturnValue]), what the SMTP client should read ([Reply.SetReply]), and
// how header and envelope are to be changed ([Reply.Edits]).
//
//	client := &ampdp.Client{Network: "unix", Address: "/var/lib/amavis/amavisd.sock", Timeout: 5 * time.Minute}
//	reply, err := client.Do(ctx, &ampdp.Request{
//		Sender:     "<ann@example.com>",
//		Recipients: []string{"<bob@example.net>"},
//		TempDir:    "/var/lib/amavis/tmp/amavis-milter-3Qx1",
//	})
//
// # What is checked
//
// Nothing of a reply is handed out before all of it has been read, up to the
// empty line that ends it, and checked: field counts, indexes, header field names,
// and that return_value is there exactly once and known. So a reply that breaks
// off can never be acted upon in part. Attributes that this package does not know
// are kept in [Reply.Unknown] and otherwise ignored, as the protocol demands.
// Sizes are bounded by [Limits]; the defaults let a header field of several MiB
// pass.
//
// Values come as amavisd sent them, percent-decoded. They repeat what strangers
// wrote into a mail and may hold any byte, line ends and NUL among them: what is
// built from them (milter packets, SMTP replies, log lines) has to quote them.
//
// In the other direction every byte outside of printable ASCII is escaped, so that
// no HELO name or address can add a line to a request.
//
// # Failures
//
// Every error of Do is an [*Error]. Its Cause says what a caller can do about it
// (wait and retry, give up, complain to amavisd's operator), and RequestSent
// whether amavisd may have seen the whole request and may have acted on it.
//
// # What this package is not for
//
// It writes no mail files, keeps no connections open (an idle one would hold one
// of amavisd's few children), does not retry, and logs nothing. It does not speak
// the release requests of the same protocol, nor amavisd's older AM.CL.
//
// The protocol is described in README.protocol, which comes with amavisd; this
// package cites it by attribute name. Its server side was read in
// Amavis/In/AMPDP.pm of amavisd-new 2.13.
package ampdp
