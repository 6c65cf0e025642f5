// Package ampdptest is an amavisd made of scripts, for tests of programs that
// speak AM.PDP: what net/http/httptest is to HTTP.
//
// A [Server] listens on a local or TCP socket and records the requests that it
// gets. A [Handler] plays amavisd on one connection; there are ready-made ones for
// good answers ([Reply], [Continue]) and for bad ones ([Raw], [Bytewise], [Hang],
// [HangUp], [Reset]), and [Script] puts them in order. The server can go away and
// come back at its address ([Server.Stop], [Server.Kill], [Server.Start]) or let
// its backlog fill up ([Server.Pause]).
//
// Requests are taken apart here as amavisd does it, by the expressions of
// Amavis/In/AMPDP.pm, and by no code of package ampdp: what an encoder got wrong
// shows.
package ampdptest
