package faults

import (
	"fmt"
	"slices"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// A scannerFault is something that amavisd does wrong with one message.
type scannerFault struct {
	point, fault, detail string

	h      ampdptest.Handler
	before func(*daemon) error // brings it about, if the handler is not all of it
	after  func(*daemon) error // ends it, before the next message

	cause   string // why the message then was not scanned, or
	verdict string // what the MTA is told whatever the policy

	requests int // whole ones that the scanner has then; 0: any number
}

// scannerGroups are the faults of amavisd.
func scannerGroups() []group {
	var groups []group
	for _, policy := range policies {
		noRetry := append(policyArgs(policy), "--retry-time", "0")
		every := 1
		if policy != byDefault {
			every = 9 // bytes between two ends
		}
		faults := slices.Concat(
			endings("ends", every, ampdptest.RawThenHangUp),
			endings("reset", every, ampdptest.RawThenReset),
			connectionFaults(), badReplies())
		overTCP := slices.Concat(endings("reset", 2*every, ampdptest.RawThenReset), overTCPToo(connectionFaults()))
		groups = append(groups,
			group{name: "amavisd", variant: policy, options: &options{args: noRetry}, workers: 2, cases: cases(policy, faults)},
			group{name: "amavisd over TCP", variant: policy, options: &options{args: noRetry, network: "tcp"}, workers: 2, cases: cases(policy, overTCP)},
			group{name: "amavisd too slow", variant: policy, options: &options{args: append(policyArgs(policy), slow...)}, workers: 12, cases: cases(policy, slowFaults())},
			group{name: "amavisd too slow", variant: policy + ", one slot", options: &options{args: append(policyArgs(policy), narrow...)}, cases: cases(policy, []scannerFault{noSlot()})},
		)
	}
	return append(groups,
		group{name: "amavisd, odd but whole replies", options: &options{}, workers: 2, cases: cases(byDefault, oddReplies())},
		group{name: "amavisd dies and comes back", options: &options{args: []string{"--retry-time", "20", "-v"}}, workers: 4, cases: cases(byDefault, retriedFaults())},
		group{name: "amavisd stays away", options: &options{args: []string{"--retry-time", "300ms"}}, workers: 8, cases: cases(byDefault, lastingFaults())},
		group{name: "amavisd floods", options: &options{}, workers: 2, cases: cases(byDefault, floods())},
	)
}

// cases plays each fault under a policy.
func cases(policy string, faults []scannerFault) []faultCase {
	var list []faultCase
	for _, f := range faults {
		verdict := f.verdict
		if f.cause != "" {
			verdict = promised(policy, f.cause)
		}
		list = append(list, faultCase{point: f.point, fault: f.fault, detail: f.detail, run: func(d *daemon) (*miltertest.MTA, error) {
			return f.play(d, verdict)
		}})
	}
	return list
}

// play sends a message while the scanner has its fault, and wants this verdict.
func (f scannerFault) play(d *daemon, verdict string) (m *miltertest.MTA, err error) {
	if f.h != nil {
		d.scanner.Handle(f.h)
	}
	if f.before != nil {
		if err := f.before(d); err != nil {
			return nil, fmt.Errorf("bringing the fault about: %w", err)
		}
	}
	requests := len(d.scanner.Requests())
	m, err = d.open(miltertest.Sendmail817)
	if err == nil {
		err = wantVerdict(m, verdict)
	}
	if f.after != nil {
		if e := f.after(d); err == nil && e != nil {
			err = fmt.Errorf("ending the fault: %w", e)
		}
	}
	if err == nil && f.requests != 0 { // it may have answered before it has read
		err = awaitRequests(d, requests+f.requests)
	}
	if got := len(d.scanner.Requests()) - requests; err == nil && f.requests != 0 && got != f.requests {
		err = fmt.Errorf("the scanner got %d whole requests, want %d", got, f.requests)
	}
	if left, e := d.leftInSpool(); err == nil && (e != nil || len(left) > 0) {
		err = fmt.Errorf("after the verdict there is in the spool: %q, error %v", left, e)
	}
	return m, err
}
