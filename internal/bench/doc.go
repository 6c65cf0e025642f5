// Package bench measures the program beside Debian's amavisd-milter: the same load,
// in turns, in one run. It has the three that such a measurement needs besides the
// programs: a load generator that speaks the MTA's side of the milter protocol (Load), a
// scanner that answers AM.PDP requests at once (Scanner), and a relay that makes a wire
// of some length (Relay). All of them run on the event loop of one thread (Loop), since
// what they use of the machine is taken from what they measure; SelfCheck says how much
// that is.
//
// It is no test of whether the answers are right in every case; it checks that each
// message that counts was answered as the scanner was told to, and with the edits that
// it was told.
package bench
