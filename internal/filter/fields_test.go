package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestHeaderFields(t *testing.T) {
	h := headerOf(t, "Subject", "X-A", "x-a", "SUBJECT", "X-A\xc4", "x-a\xe4", "Æ", "æ")
	for _, c := range []struct {
		name, spelling string
		count          int
	}{
		{"subject", "Subject", 2},
		{"x-A", "X-A", 2},
		{"X-a\xc4", "X-A\xc4", 1},
		{"X-A\xe4", "x-a\xe4", 1},
		{"Æ", "Æ", 1}, // names compare as ASCII, not as Unicode
		{"missing", "missing", 0},
		{"", "", 0},
	} {
		if n, s := h.count(c.name), h.spelling(c.name); n != c.count || s != c.spelling {
			t.Errorf("%q: %d fields spelled %q, want %d spelled %q", c.name, n, s, c.count, c.spelling)
		}
	}
}

func TestHeaderFieldsLimits(t *testing.T) {
	var h headerFields
	for i := range MaxHeaderFields {
		if err := h.add("X", ""); err != nil {
			t.Fatalf("field %d: %v", i+1, err)
		}
	}
	if err := h.add("X", ""); !errors.Is(err, errHeaderTooLarge) {
		t.Errorf("field %d: %v", MaxHeaderFields+1, err)
	}
	if n := h.count("X"); n != MaxHeaderFields {
		t.Errorf("%d fields counted", n)
	}

	big := strings.Repeat("v", MaxHeaderBytes-1)
	for _, c := range []struct {
		value string
		ok    bool
	}{{big[1:], true}, {big, true}, {big + "v", false}} {
		var h headerFields
		if err := h.add("X", c.value); (err == nil) != c.ok || err != nil && !errors.Is(err, errHeaderTooLarge) {
			t.Errorf("%d bytes: %v", 1+len(c.value), err)
		}
	}
	var sum headerFields
	if err := errors.Join(sum.add("X", big[:MaxHeaderBytes/2-1]), sum.add("Y", big[:MaxHeaderBytes/2-1])); err != nil {
		t.Errorf("two fields of %d bytes: %v", MaxHeaderBytes, err)
	}
	if err := sum.add("Z", ""); !errors.Is(err, errHeaderTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}

// TestTablesAreNobodyElses: the memory of tables goes from message to message, and no name with it.
func TestTablesAreNobodyElses(t *testing.T) {
	for round := range 200 {
		open := make([]headerFields, 3)
		for i := range open {
			for n := range 1 + (round+i)*7%(2*usualFields) { // some grow out of the usual size
				if err := open[i].add(fmt.Sprintf("X-%d-%d-%d", round, i, n), " v"); err != nil {
					t.Fatal(err)
				}
			}
			if i == 1 {
				open[0].release()
				open[0].release()
			}
		}
		for i := range open {
			for j := range open {
				name := fmt.Sprintf("X-%d-%d-0", round, j)
				want := 0
				if i == j && i > 0 {
					want = 1
				}
				if got := open[i].count(name); got != want {
					t.Fatalf("message %d has %d fields %s, want %d", i, got, name, want)
				}
			}
			if old := fmt.Sprintf("X-%d-%d-0", round-1, i); open[i].count(old) != 0 {
				t.Fatalf("message %d has a field of the round before", i)
			}
			open[i].release()
		}
	}
}
