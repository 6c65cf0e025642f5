package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

// TestPolicyBanksAndSkips: rules of the command line reach amavisd and the message.
func TestPolicyBanksAndSkips(t *testing.T) {
	large := message()
	large.QueueID, large.Body = "4BxYz02", []byte(strings.Repeat("0123456789abcdef\r\n", 1000))
	s := newSite(t, ampdptest.Continue())
	p := s.start("--policy-bank", "FIRST", "--policy-bank", "auth=NEVER", "--policy-bank", "daemon:none=NEVER", "--policy-bank", "LAST", "--skip", "size>10000")
	if answer, err := s.mta().SendMessage(message()); err != nil || answer.Code != 'a' && answer.Code != 'c' {
		t.Errorf("%v, %v", answer, err)
	}
	requests := s.scanner.Requests()
	if len(requests) != 1 || requests[0].Get("policy_bank") != "FIRST,LAST" {
		t.Errorf("amavisd was asked: %+v", requests)
	}
	answer, err := s.mta().SendMessage(large)
	if err != nil || !slices.ContainsFunc(answer.Changes, func(c string) bool {
		return strings.Contains(c, "X-Amavis-Milter-Unscanned") && strings.Contains(c, "skipped")
	}) {
		t.Errorf("%v, %v", answer, err)
	}
	if again := s.scanner.Requests(); len(again) != 1 {
		t.Errorf("amavisd was asked about a message that is skipped: %+v", again[1:])
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if log := p.log.String(); strings.Count(log, " info 4BxYz02: ") != 1 || !strings.Contains(log, " cause=skipped rule=size>10000 ") {
		t.Errorf("log:\n%s", log)
	}
}
