package filter

import (
	"net/netip"
	"strconv"
)

// MatchKind says which fact about a message a [Match] looks at. The constants are
// the words of the options --policy-bank and --skip.
type MatchKind string

// The kinds of matches.
const (
	MatchAll     MatchKind = ""        // every message
	MatchNetwork MatchKind = "network" // the client's address lies in Match.Network
	MatchAuth    MatchKind = "auth"    // the client has authenticated for this message
	MatchTLS     MatchKind = "tls"     // the SMTP session is encrypted
	MatchDaemon  MatchKind = "daemon"  // the MTA's listener is called Match.DaemonName
	MatchLocal   MatchKind = "local"   // the client is the MTA's own host
	MatchSize    MatchKind = "size"    // the message has more than Match.Bytes bytes
)

// Match is a choice among messages by what the MTA says about them. The zero Match
// is for every message.
type Match struct {
	Kind       MatchKind
	Network    netip.Prefix // of MatchNetwork
	DaemonName string       // of MatchDaemon
	Bytes      int64        // of MatchSize, as the MTA sends the message
}

// PolicyBank asks amavisd to load a policy bank for the messages that match.
type PolicyBank struct {
	Match Match
	Name  string
}

// String returns the match as it is typed on the command line; "" for every
// message.
func (m Match) String() string {
	switch m.Kind {
	case MatchNetwork:
		return m.Network.String()
	case MatchDaemon:
		return "daemon:" + m.DaemonName
	case MatchSize:
		return "size>" + strconv.FormatInt(m.Bytes, 10)
	}
	return string(m.Kind)
}
