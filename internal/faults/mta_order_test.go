package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// orderCases have frames where they do not belong, and in pieces.
func orderCases() []faultCase {
	var list []faultCase
	add := func(point, fault string, change func(frames []frame) []frame, verdicts ...string) {
		list = append(list, faultCase{point: point, fault: fault, run: func(d *daemon) (*miltertest.MTA, error) {
			d.scanner.Handle(good)
			m, err := d.dial()
			if err != nil {
				return nil, err
			}
			return playOdd(m, change(dialogue(miltertest.Sendmail817, d.queueID())), verdicts)
		}})
	}
	frames := dialogue(miltertest.Sendmail817, "")
	mail := slices.IndexFunc(frames, func(f frame) bool { return f.name == "mail macros" })
	for i, f := range frames {
		if i == 0 {
			continue // what it has to do with order is a case of its own: OPTNEG again
		}
		add(f.name, "alone, then EOM", func(frames []frame) []frame {
			return append(slices.Clone(frames[:mail]), frames[i], frames[len(frames)-1])
		}, verdictsAlone(f)...)
		add(f.name, "too early", func(frames []frame) []frame { return slices.Insert(frames, mail, frames[i]) }, verdictsEarly(f)...)
		add(f.name, "too late", func(frames []frame) []frame { return slices.Insert(frames, len(frames)-2, frames[i]) }, verdictsLate(f)...)
		add(f.name, "twice", func(frames []frame) []frame { return slices.Insert(frames, i, frames[i]) }, verdictsTwice(f)...)
		add(f.name, "missing", func(frames []frame) []frame { return slices.Delete(frames, i, i+1) }, verdictsWithout(f)...)
	}
	return append(list, pieceCases()...)
}

// pieceCases write the whole dialogue but its negotiation in pieces of some size.
func pieceCases() []faultCase {
	var list []faultCase
	for _, size := range []int{1, 2, 3, 4, 5, 7, 64, 1 << 20} {
		list = append(list, faultCase{point: "all frames", fault: "in pieces", detail: fmt.Sprint(size), run: func(d *daemon) (*miltertest.MTA, error) {
			d.scanner.Handle(goodIfWhole)
			m, err := d.dial()
			if err != nil {
				return nil, err
			}
			frames := dialogue(miltertest.Sendmail817, d.queueID())
			err = play(m, frames[:1])
			var raw []byte
			for _, f := range frames[1:] {
				raw = append(raw, f.raw...)
			}
			for piece := range slices.Chunk(raw, size) {
				err = errors.Join(err, m.SendRaw(piece))
			}
			return m, errors.Join(err, wantVerdict(m, goodVerdict))
		}})
	}
	return list
}

func playOdd(m *miltertest.MTA, frames []frame, verdicts []string) (*miltertest.MTA, error) {
	for _, f := range frames {
		if err := play(m, []frame{f}); err != nil {
			m.Conn.Close()
			return nil, err
		}
		if f.code() != 'E' || len(verdicts) == 0 {
			continue
		}
		if err := wantVerdict(m, verdicts[0]); err != nil {
			m.Conn.Close()
			return nil, err
		}
		verdicts = verdicts[1:]
	}
	return m, nil
}

// verdictsAlone: what is no message is never taken for one.
func verdictsAlone(f frame) []string {
	if f.name == "EOM" {
		return []string{noMessageVerdict, noMessageVerdict}
	}
	return []string{noMessageVerdict}
}

// verdictsEarly: what comes before MAIL belongs to no message.
func verdictsEarly(f frame) []string {
	if f.name == "EOM" {
		return []string{noMessageVerdict, goodVerdict}
	}
	return []string{goodVerdict}
}

// verdictsLate: what comes behind the body and is no more of it ends the message.
func verdictsLate(f frame) []string {
	switch {
	case f.name == "EOM":
		return []string{goodVerdict, noMessageVerdict}
	case f.code() == 'B', f.name == "eom macros":
		return []string{goodVerdict}
	}
	return []string{noMessageVerdict}
}

// deleted are the changes by which a field is deleted or replaced, by the frame that
// brings it.
var deleted = map[string]string{
	"header 2": `chgheader 1 "X-Spam-Flag" ""`,
	"header 3": `chgheader 1 "X-Virus-Scanned" " by amavis-milter"`,
	"header 4": `chgheader 1 "X-Amavis-Milter-Unscanned" ""`,
}

// verdictsTwice: of a field that is there twice both are dealt with.
func verdictsTwice(f frame) []string {
	first := deleted[f.name]
	switch {
	case f.name == "EOM":
		return []string{goodVerdict, noMessageVerdict}
	case first != "":
		name := strings.Fields(first)[2]
		return []string{strings.Replace(goodVerdict, first, "chgheader 2 "+name+` ""`+"\n"+first, 1)}
	}
	return []string{goodVerdict}
}

// verdictsWithout: of a field that is not there nothing is deleted.
func verdictsWithout(f frame) []string {
	switch f.name {
	case "MAIL":
		return []string{noMessageVerdict}
	case "header":
		return []string{strings.Replace(goodVerdict, "chgheader 1 \"Subject\"", "addheader \"Subject\"", 1)}
	case "header 2", "header 4":
		return []string{strings.Replace(goodVerdict, deleted[f.name]+"\n", "", 1)}
	case "header 3":
		return []string{strings.Replace(goodVerdict, `chgheader 1 "X-Virus-Scanned"`, `addheader "X-Virus-Scanned"`, 1)}
	}
	return []string{goodVerdict}
}
