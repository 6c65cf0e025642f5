package config

import (
	"fmt"
	"strings"
)

// Cause is why a message could not be scanned.
type Cause string

// The causes, in the order in which they are shown.
const (
	CauseUnavailable Cause = "unavailable" // amavisd refuses, resets or ends before a reply
	CauseBusy        Cause = "busy"        // no slot within --max-wait
	CauseTimeout     Cause = "timeout"     // no reply within --amavisd-timeout
	CauseMalformed   Cause = "malformed"   // malformed, truncated or unfinished reply
	CauseSpool       Cause = "spool"       // the message could not be written
)

// Causes are all causes.
func Causes() []Cause {
	return []Cause{CauseUnavailable, CauseBusy, CauseTimeout, CauseMalformed, CauseSpool}
}

// Action is what becomes of a message that could not be scanned.
type Action string

// The actions.
const (
	ActionTempFail   Action = "tempfail"
	ActionAccept     Action = "accept"
	ActionReject     Action = "reject"
	ActionQuarantine Action = "quarantine"
)

// policy is one --on-failure as it was given; cause is empty for all causes but
// spool.
type policy struct {
	cause  Cause
	action Action
}

func parsePolicy(text string) (policy, error) {
	word, action, named := strings.Cut(text, "=")
	if !named {
		word, action = "", text
	}
	p := policy{Cause(word), Action(action)}
	if named && !isCause(p.cause) {
		return policy{}, fmt.Errorf("%q: unknown cause %q: write one of unavailable, busy, timeout, malformed, spool", text, word)
	}
	switch p.action {
	case ActionTempFail, ActionAccept, ActionReject, ActionQuarantine:
		return p, nil
	}
	return policy{}, fmt.Errorf("%q: unknown action %q: write one of tempfail, accept, reject, quarantine", text, action)
}

func isCause(c Cause) bool {
	for _, known := range Causes() {
		if c == known {
			return true
		}
	}
	return false
}

// combinePolicies joins -P and every --on-failure to one action for each cause. A
// named cause wins over all causes, in whatever order they were given. Spool
// failures must be named: a full disk does not let mail pass unless the
// administrator said just that.
func (d *draft) combinePolicies() {
	policies := d.policies
	if d.pass {
		policies = append(policies, policy{action: ActionAccept})
	}
	chosen := map[Cause]Action{}
	for _, p := range policies {
		if earlier, ok := chosen[p.cause]; ok && earlier != p.action {
			what := "every cause"
			if p.cause != "" {
				what = "the cause " + string(p.cause)
			}
			d.misuse("%s and --on-failure: both %s and %s for %s: write one of them (%s means accept)",
				d.dialect.names("pass-on-failure"), earlier, p.action, what, d.dialect.short("pass-on-failure"))
			continue
		}
		chosen[p.cause] = p.action
	}
	d.OnFailure = map[Cause]Action{}
	for _, c := range Causes() {
		d.OnFailure[c] = ActionTempFail
		if action, ok := chosen[""]; ok && c != CauseSpool {
			d.OnFailure[c] = action
		}
		if action, ok := chosen[c]; ok {
			d.OnFailure[c] = action
		}
	}
}
