// Package spool keeps the mail files that amavisd reads: one directory for each
// message, made when its content begins and removed before its verdict is sent.
//
//	WORKDIR                                   the administrator's; never made, never changed
//	WORKDIR/milter                     0750   ours, made by Open
//	WORKDIR/milter/.lock               0600   one flock for all who live here
//	WORKDIR/milter/amavis-milter-ID    0750   one message; ID is its queue id where that is usable
//	WORKDIR/milter/.../email.txt       0640   the message, lines ending in LF
//
// The level milter/ is there because Debian's unit of amavisd deletes every
// directory called amavis-* directly below its own two directories whenever
// amavisd starts. The names below it are chosen for amavisd's log: it takes its
// log id from what follows the first "amavis-milter-" or "amavis-" in the path
// (Amavis/In/AMPDP.pm, preprocess_policy_query), so that one search for a queue
// id finds the message in the logs of the MTA, of this program and of amavisd.
//
// A message is a [Draft] while it is written and a [Message] once it is sealed.
// Both can be removed at any time, any number of times, from any goroutine.
//
// What all messages together may take of the disk has two bounds, Options.MaxBytes and
// Options.MinFree. A message that does not fit fails like one on a full disk, and what
// there is of it is removed at once.
//
// Everything below WORKDIR is reached through directory descriptors and without
// following a symbolic link; no path is looked up twice, but for a look once a second
// whether milter/ is still in its place. Nothing that comes from
// outside becomes part of a path unchecked. The package knows neither the milter
// protocol nor AM.PDP.
package spool
