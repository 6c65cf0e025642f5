package filter

import (
	"math"
	"net/netip"
	"slices"
	"strconv"

	"github.com/amavis-milter/amavis-milter/milter"
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
	Network    netip.Prefix // of MatchNetwork; IPv4 as such, not mapped into IPv6: clients are not either
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

// fits reports whether the match is for a message with this envelope, of which the
// MTA has sent size bytes so far. What it cannot decide, a kind that nobody knows
// included, does not fit: a mistake must not let mail pass.
func (m Match) fits(env *milter.Envelope, size int64) bool {
	switch m.Kind {
	case MatchAll:
		return true
	case MatchNetwork:
		addr, ok := clientAddr(env)
		return ok && m.Network.Contains(addr)
	case MatchAuth:
		return authenticated(env)
	case MatchTLS:
		return encrypted(env.TLS)
	case MatchDaemon:
		return m.DaemonName != "" && m.DaemonName == env.DaemonName
	case MatchLocal:
		return isLocal(env)
	case MatchSize:
		return m.Bytes >= 0 && size > m.Bytes
	}
	return false
}

// isLocal reports whether the client is the MTA's own host. Without an address that
// is only who submits without SMTP, "localhost" to both MTAs: in Postfix a proxy can
// hide the address of a client that has any other name (XCLIENT).
func isLocal(env *milter.Envelope) bool {
	const submitter = "localhost"
	addr, ok := clientAddr(env)
	return addr.IsLoopback() || !ok && env.Client.Name == submitter
}

// skips are the rules of Options.Skips. The zero Match is not among them: nobody
// skips every message by leaving something out.
type skips []Match

func newSkips(rules []Match) skips {
	return slices.DeleteFunc(slices.Clone(rules), func(m Match) bool { return m.Kind == MatchAll })
}

// first returns the first rule that fits; ok is false if none does. As size only
// grows, a message that one fits is skipped for good.
func (s skips) first(env *milter.Envelope, size int64) (rule Match, ok bool) {
	for _, m := range s {
		if m.fits(env, size) {
			return m, true
		}
	}
	return Match{}, false
}

// over returns the size beyond which every message is skipped: that of the
// smallest rule about sizes, or the largest number there is.
func (s skips) over() int64 {
	limit := int64(math.MaxInt64)
	for _, m := range s {
		if m.Kind == MatchSize && m.Bytes >= 0 {
			limit = min(limit, m.Bytes)
		}
	}
	return limit
}
