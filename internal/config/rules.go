package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MatchKind says what a [Match] looks at.
type MatchKind string

// The kinds of matches, by the words that are typed for them.
const (
	MatchAll     MatchKind = ""        // every message
	MatchNetwork MatchKind = "network" // the client's address is in a network; typed as that
	MatchAuth    MatchKind = "auth"    // the client has authenticated
	MatchTLS     MatchKind = "tls"     // the SMTP session is encrypted
	MatchDaemon  MatchKind = "daemon"  // the MTA's listener has a name; typed as daemon:NAME
	MatchLocal   MatchKind = "local"   // the client is this host
	MatchSize    MatchKind = "size"    // the message is larger; typed as size>BYTES
)

// Match says which messages a rule is for; the zero Match is for every message.
type Match struct {
	Kind MatchKind
	// Network is masked, and never of addresses mapped into IPv6.
	Network netip.Prefix
	// DaemonName is what {daemon_name} has to equal.
	DaemonName string
	// Bytes is the size of a message, as the MTA sends it, that does not match yet.
	Bytes int64
}

// String returns the match as it is typed, "" for the zero Match.
func (m Match) String() string {
	switch m.Kind {
	case MatchNetwork:
		return m.Network.String()
	case MatchDaemon:
		return daemonPrefix + m.DaemonName
	case MatchSize:
		return sizePrefix + strconv.FormatInt(m.Bytes, 10)
	}
	return string(m.Kind)
}

const (
	daemonPrefix = "daemon:"
	sizePrefix   = "size>"
)

// PolicyBank is one --policy-bank.
type PolicyBank struct {
	Match Match
	Name  string
}

// String returns the policy bank as it is typed.
func (b PolicyBank) String() string {
	if b.Match == (Match{}) {
		return b.Name
	}
	return b.Match.String() + "=" + b.Name
}

// parsePolicyBank reads [MATCH=]NAME. What stands before the first '=' is the match.
func parsePolicyBank(text string) (PolicyBank, error) {
	match, name, found := strings.Cut(text, "=")
	if !found {
		match, name = "", text
	}
	var bank PolicyBank
	switch {
	case found && match == "":
		return bank, fmt.Errorf("%q: the match before the = is missing: leave out the =, or write %s", text, forPolicyBank)
	case found:
		m, err := parseMatch(match, forPolicyBank)
		if err != nil {
			return bank, err
		}
		bank.Match = m
	default:
		// amavisd would pass over such a name in silence.
		if _, err := parseMatch(name, forPolicyBank); err == nil {
			return bank, fmt.Errorf("%q is a match without the name of a policy bank: write %s=NAME", name, name)
		}
	}
	if !isPolicyBankName(name) {
		return PolicyBank{}, fmt.Errorf("%q cannot be the name of a policy bank: write it without commas and control characters, and without spaces around it", name)
	}
	bank.Name = name
	return bank, nil
}

// isPolicyBankName reports whether amavisd would take name for the name of one
// policy bank: it takes what it is sent apart at commas, and takes off spaces.
func isPolicyBankName(name string) bool {
	return name != "" && name == strings.Trim(name, " ") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == ',' })
}

// matchUse is what a match is for, in the words of what can be written there.
type matchUse string

const (
	forPolicyBank matchUse = "a network as in 192.0.2.0/24, auth, tls, daemon:NAME or local"
	forSkip       matchUse = "a network as in 192.0.2.0/24, auth, tls, daemon:NAME, local or 'size>BYTES'"
)

// parseMatch reads a MATCH.
func parseMatch(text string, use matchUse) (Match, error) {
	word, name, _ := strings.Cut(text, ":")
	switch kind := MatchKind(text); {
	case kind == MatchAuth, kind == MatchTLS, kind == MatchLocal:
		return Match{Kind: kind}, nil
	case text == string(MatchSize), strings.HasPrefix(text, sizePrefix):
		return parseSizeMatch(text, use)
	case text == string(MatchDaemon), word == string(MatchDaemon):
		return parseDaemonMatch(name)
	case looksLikeNetwork(text):
		return parseNetworkMatch(text)
	}
	return Match{}, fmt.Errorf("%q is no match: write %s", text, use)
}

func parseSizeMatch(text string, use matchUse) (Match, error) {
	digits, found := strings.CutPrefix(text, sizePrefix)
	bytes, err := strconv.ParseInt(digits, 10, 64)
	switch {
	case use != forSkip:
		return Match{}, fmt.Errorf("%q: the size is not known before amavisd has been asked: write %s", text, use)
	case !found:
		// What a shell makes of size>1000000.
		return Match{}, errors.New("the number of bytes is missing: write 'size>BYTES' in quotes, for a shell takes the > for itself")
	case !isDigits(digits) || err != nil || bytes > maxSkipSize:
		return Match{}, fmt.Errorf("%q: write a number of bytes from 0 to %d behind the >", text, int64(maxSkipSize))
	}
	return Match{Kind: MatchSize, Bytes: bytes}, nil
}

func parseDaemonMatch(name string) (Match, error) {
	switch {
	case name == "":
		return Match{}, errors.New("the name of the MTA's listener is missing: write daemon:NAME, as in daemon:MSA")
	case strings.ContainsFunc(name, isUnprintable):
		return Match{}, fmt.Errorf("%q has characters that cannot be printed: write the name of the MTA's listener without them", name)
	}
	return Match{Kind: MatchDaemon, DaemonName: name}, nil
}

// looksLikeNetwork reports whether text was meant as an address or a network.
func looksLikeNetwork(text string) bool {
	return strings.ContainsAny(text, ".:/") && strings.Trim(text, "0123456789abcdefABCDEF.:/[]%") == "" ||
		strings.Contains(text, "::") || isDigits(text)
}

// parseNetworkMatch reads a network in CIDR form, or one address.
func parseNetworkMatch(text string) (Match, error) {
	const forms = "write an address and the length of the network's prefix, as in 192.0.2.0/24 or 2001:db8::/32"
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		var addr netip.Addr
		addr, err = netip.ParseAddr(text)
		if addr.Zone() != "" {
			return Match{}, fmt.Errorf("%q: an MTA does not tell the interface: leave out the %% and what follows", text)
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if bare := strings.NewReplacer("[", "", "]", "").Replace(text); err != nil && bare != text && looksLikeNetwork(bare) {
		if m, err := parseNetworkMatch(bare); err == nil {
			return Match{}, fmt.Errorf("%q has brackets: write %s", text, m)
		}
	}
	if err != nil {
		return Match{}, fmt.Errorf("%q is no network: %s", text, forms)
	}
	prefix = unmapped(prefix)
	if masked := prefix.Masked(); masked != prefix {
		return Match{}, fmt.Errorf("%q has bits set behind its prefix: write %s for the network, or %s for the one client", text, masked, prefix.Addr())
	}
	return Match{Kind: MatchNetwork, Network: prefix}, nil
}

// unmapped returns a network of IPv4 addresses mapped into IPv6 as one of IPv4.
func unmapped(p netip.Prefix) netip.Prefix {
	const mappedBits = 96 // RFC 4291 section 2.5.5.2
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p
}

// combineRules takes each rule once, and warns of those that nobody can mean.
func (d *draft) combineRules() {
	d.PolicyBanks = once(d, "policy-bank", d.PolicyBanks)
	d.Skips = once(d, "skip", d.Skips)
	for _, m := range d.Skips {
		switch {
		case m.Kind == MatchNetwork && m.Network.Bits() == 0:
			family := "IPv6"
			if m.Network.Addr().Is4() {
				family = "IPv4"
			}
			d.warn("--skip %s: all mail of clients with an %s address passes unscanned", m, family)
		case m.Kind == MatchSize && m.Bytes == 0:
			d.warn("--skip %s: all mail passes unscanned", m)
		}
	}
}

// once returns the rules without those that are there already.
func once[R interface {
	comparable
	fmt.Stringer
}](d *draft, name string, rules []R) []R {
	if len(rules) > maxRules {
		d.misuse("%s is given %d times: write it at most %d times", d.dialect.names(name), len(rules), maxRules)
		return nil
	}
	var kept []R
	seen := map[R]bool{}
	for _, rule := range rules {
		if seen[rule] {
			d.warn("%s: %q is given twice: the second is left out", d.dialect.names(name), rule.String())
			continue
		}
		seen[rule] = true
		kept = append(kept, rule)
	}
	return kept
}
