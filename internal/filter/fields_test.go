package filter

import (
	"errors"
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
