package faults

// What becomes of mail that could not be scanned, in the words of --on-failure.
const (
	byDefault  = "tempfail"
	accept     = "accept"
	reject     = "reject"
	quarantine = "quarantine"
)

// Why a message was not scanned, as X-Amavis-Milter-Unscanned tells it.
const (
	unavailable = "unavailable"
	busy        = "busy"
	timeout     = "timeout"
	malformed   = "malformed"
)

// policies are all that an administrator can choose.
var policies = []string{byDefault, accept, reject, quarantine}

// policyArgs is the command line of a policy.
func policyArgs(policy string) []string {
	switch policy {
	case byDefault:
		return nil
	case accept:
		return []string{"-P"}
	}
	return []string{"--on-failure", policy}
}

// promised is what the MTA is told of a message of dialogue that was not scanned for
// this cause. Nothing that the scanner may have asked for is in it; what passes is
// marked, and no mark that it came with is left.
func promised(policy, cause string) string {
	marked := `chgheader 1 "X-Amavis-Milter-Unscanned" ""
chgheader 1 "X-Virus-Scanned" ""
addheader "X-Amavis-Milter-Unscanned" " ` + cause + `"
`
	switch policy {
	case accept:
		return marked + "accept"
	case quarantine:
		return marked + `quarantine "not scanned: ` + cause + `"` + "\naccept"
	case reject:
		return "reply 554 5.3.0 Content scanner unavailable, message refused"
	}
	return unavailableVerdict
}

const (
	unavailableVerdict = "reply 451 4.3.0 Content scanner unavailable, try again later"
	filterFailure      = "reply 451 4.3.0 Content filter failure, try again later"
	noMessageVerdict   = "reply 451 4.5.0 Content filter protocol error, try again later"
	rejectedVerdict    = "reply 550 5.7.1 Message content rejected"
)
