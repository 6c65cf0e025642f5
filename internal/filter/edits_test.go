package filter

import (
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

// Short names for the tables.
type (
	edits   = []ampdp.Edit
	changes = []milter.Change
)

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []string // the message's own fields
		edits  edits
		want   changes
	}{
		{"none", []string{"Subject"}, nil, nil},
		{
			"each kind, in the order given, indexes and values as they are", []string{"Subject"},
			edits{
				ampdp.DeleteRecipient{Address: "<a@example.org>"}, ampdp.AddRecipient{Address: "<a+spam@example.org>"},
				ampdp.ChangeHeader{Index: 1, Name: "Subject", Value: "***Spam*** x"},
				ampdp.InsertHeader{Index: 1, Name: "X-Spam-Flag", Value: "YES"}, ampdp.InsertHeader{Index: 0, Name: "X-Top", Value: ""},
				ampdp.AddHeader{Name: "X-Spam-Report", Value: "a\n\tb"}, ampdp.Quarantine{Reason: "why"},
			},
			changes{
				milter.DeleteRecipient{Recipient: milter.NewPath("<a@example.org>")}, milter.AddRecipient{Recipient: milter.NewPath("<a+spam@example.org>")},
				milter.ChangeHeader{Index: 1, Name: "Subject", Value: "***Spam*** x"},
				milter.InsertHeader{Index: 1, Name: "X-Spam-Flag", Value: "YES"}, milter.InsertHeader{Index: 0, Name: "X-Top", Value: ""},
				milter.AddHeader{Name: "X-Spam-Report", Value: "a\n\tb"}, milter.Quarantine{Reason: "why"},
			},
		},
		{
			"the order of another sender", nil,
			edits{ampdp.AddHeader{Name: "B", Value: "1"}, ampdp.AddRecipient{Address: "<x@y>"}, ampdp.AddHeader{Name: "A", Value: "2"}},
			changes{milter.AddHeader{Name: "B", Value: "1"}, milter.AddRecipient{Recipient: milter.NewPath("<x@y>")}, milter.AddHeader{Name: "A", Value: "2"}},
		},
		{
			"paths without brackets get them", nil,
			edits{ampdp.DeleteRecipient{Address: "a@b"}, ampdp.AddRecipient{Address: ""}},
			changes{milter.DeleteRecipient{Recipient: milter.NewPath("<a@b>")}, milter.AddRecipient{Recipient: milter.NewPath("<>")}},
		},
		{
			"names as the message spells them", []string{"SUBJECT", "X-spam-FLAG"},
			edits{ampdp.ChangeHeader{Index: 1, Name: "subject", Value: "v"}, ampdp.DeleteHeader{Index: 1, Name: "x-spam-flag"}},
			changes{milter.ChangeHeader{Index: 1, Name: "SUBJECT", Value: "v"}, milter.DeleteHeader{Index: 1, Name: "X-spam-FLAG"}},
		},
		{
			"a deletion takes every occurrence, from the last to the first", []string{"X-Spam-Flag", "Subject", "x-spam-flag", "X-SPAM-FLAG"},
			edits{ampdp.DeleteHeader{Index: 1, Name: "X-Spam-Flag"}},
			changes{milter.DeleteHeader{Index: 3, Name: "X-Spam-Flag"}, milter.DeleteHeader{Index: 2, Name: "X-Spam-Flag"}, milter.DeleteHeader{Index: 1, Name: "X-Spam-Flag"}},
		},
		{
			"whatever its index, and once", []string{"X-A", "X-A"},
			edits{ampdp.DeleteHeader{Index: 2, Name: "x-a"}, ampdp.DeleteHeader{Index: 1, Name: "X-A"}, ampdp.DeleteHeader{Index: 9, Name: "X-a"}},
			changes{milter.DeleteHeader{Index: 2, Name: "X-A"}, milter.DeleteHeader{Index: 1, Name: "X-A"}},
		},
		{
			"a deletion of what is not there is left out", []string{"Subject"},
			edits{ampdp.DeleteHeader{Index: 1, Name: "X-A"}}, nil,
		},
		{
			"one that was added stays so when it is deleted, one that was deleted when it is added", []string{"X-A"},
			edits{
				ampdp.AddHeader{Name: "X-B", Value: "1"}, ampdp.DeleteHeader{Index: 1, Name: "x-b"}, ampdp.AddHeader{Name: "X-B", Value: "2"},
				ampdp.DeleteHeader{Index: 1, Name: "X-A"}, ampdp.AddHeader{Name: "X-A", Value: "3"}, ampdp.ChangeHeader{Index: 1, Name: "X-A", Value: "4"},
			},
			changes{
				milter.AddHeader{Name: "X-B", Value: "1"}, milter.InsertHeader{Index: milter.AtEnd, Name: "X-B", Value: "2"},
				milter.DeleteHeader{Index: 1, Name: "X-A"}, milter.InsertHeader{Index: milter.AtEnd, Name: "X-A", Value: "3"}, milter.InsertHeader{Index: milter.AtEnd, Name: "X-A", Value: "4"},
			},
		},
		{
			"a field deleted and added again", []string{"X-A"},
			edits{ampdp.DeleteHeader{Index: 1, Name: "X-A"}, ampdp.AddHeader{Name: "X-A", Value: "n"}},
			changes{milter.DeleteHeader{Index: 1, Name: "X-A"}, milter.InsertHeader{Index: milter.AtEnd, Name: "X-A", Value: "n"}},
		},
		{
			"fields of one name stay in the order in which they are added, behind the message's", []string{"X-B"},
			edits{ampdp.AddHeader{Name: "X-A", Value: "1"}, ampdp.AddHeader{Name: "x-a", Value: "2"}, ampdp.AddHeader{Name: "X-B", Value: "3"}, ampdp.InsertHeader{Name: "X-C"}, ampdp.AddHeader{Name: "X-C", Value: "4"}},
			changes{
				milter.AddHeader{Name: "X-A", Value: "1"}, milter.InsertHeader{Index: milter.AtEnd, Name: "x-a", Value: "2"}, milter.InsertHeader{Index: milter.AtEnd, Name: "X-B", Value: "3"},
				milter.InsertHeader{Name: "X-C"}, milter.InsertHeader{Index: milter.AtEnd, Name: "X-C", Value: "4"},
			},
		},
		{
			"a change of the second of two", []string{"Subject", "Subject"},
			edits{ampdp.ChangeHeader{Index: 2, Name: "Subject", Value: "v"}},
			changes{milter.ChangeHeader{Index: 2, Name: "Subject", Value: "v"}},
		},
		{
			"a change of what is not there adds, like libmilter", []string{"Subject"},
			edits{ampdp.ChangeHeader{Index: 1, Name: "X-A", Value: "v"}, ampdp.ChangeHeader{Index: 2, Name: "subject", Value: "w"}},
			changes{milter.AddHeader{Name: "X-A", Value: "v"}, milter.InsertHeader{Index: milter.AtEnd, Name: "subject", Value: "w"}},
		},
		{
			"a change of what was deleted adds", []string{"X-A", "X-A"},
			edits{ampdp.DeleteHeader{Index: 1, Name: "X-A"}, ampdp.ChangeHeader{Index: 1, Name: "X-A", Value: "v"}},
			changes{milter.DeleteHeader{Index: 2, Name: "X-A"}, milter.DeleteHeader{Index: 1, Name: "X-A"}, milter.InsertHeader{Index: milter.AtEnd, Name: "X-A", Value: "v"}},
		},
		{
			"index 0 is the first", []string{"Subject"},
			edits{ampdp.ChangeHeader{Index: 0, Name: "Subject", Value: "v"}, ampdp.ChangeHeader{Index: 0, Name: "X-A", Value: "w"}},
			changes{milter.ChangeHeader{Index: 1, Name: "Subject", Value: "v"}, milter.AddHeader{Name: "X-A", Value: "w"}},
		},
		{
			"our Received field is not the MTA's: index 1 is dropped, the others are one lower", []string{"Received", "received", "Subject"},
			edits{
				ampdp.ChangeHeader{Index: 1, Name: "Received", Value: "ours"}, ampdp.ChangeHeader{Index: 2, Name: "received", Value: "first"},
				ampdp.DeleteHeader{Index: 1, Name: "Received"}, ampdp.DeleteHeader{Index: 3, Name: "received"},
			},
			changes{milter.ChangeHeader{Index: 1, Name: "Received", Value: "first"}, milter.DeleteHeader{Index: 2, Name: "Received"}},
		},
		{
			"Received beyond the message's", []string{"Received"},
			edits{ampdp.DeleteHeader{Index: 0, Name: "Received"}, ampdp.DeleteHeader{Index: 3, Name: "Received"}, ampdp.ChangeHeader{Index: 3, Name: "Received", Value: "new"}, ampdp.ChangeHeader{Index: 0, Name: "Received", Value: "zero"}},
			changes{milter.InsertHeader{Index: milter.AtEnd, Name: "Received", Value: "new"}},
		},
		{
			"Received of a message without any", nil,
			edits{ampdp.DeleteHeader{Index: 1, Name: "Received"}, ampdp.DeleteHeader{Index: 2, Name: "Received"}}, nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkChanges(t, mustPass(acceptChanges(c.edits, nil, headerOf(t, c.header...), HeaderField{})), c.want)
		})
	}
}

func TestXHeader(t *testing.T) {
	x := HeaderField{"X-Virus-Scanned", "by amavis-milter"}
	add := milter.AddHeader{Name: x.Name, Value: x.Value}
	for _, c := range []struct {
		name    string
		xHeader HeaderField
		header  []string
		edits   edits
		want    changes
	}{
		{"added", x, []string{"Subject"}, nil, changes{add}},
		{"turned off", HeaderField{}, []string{"X-Virus-Scanned"}, nil, nil},
		{"behind amavisd's edits", x, nil, edits{ampdp.AddHeader{Name: "X-A", Value: "1"}}, changes{milter.AddHeader{Name: "X-A", Value: "1"}, add}},
		{
			"replaces a forged one", x, []string{"x-virus-scanned"}, nil,
			changes{milter.ChangeHeader{Index: 1, Name: "x-virus-scanned", Value: x.Value}},
		},
		{
			"one is left of three", x, []string{"X-VIRUS-Scanned", "x-virus-scanned", "X-Virus-Scanned"}, nil,
			changes{
				milter.DeleteHeader{Index: 3, Name: "X-VIRUS-Scanned"}, milter.DeleteHeader{Index: 2, Name: "X-VIRUS-Scanned"},
				milter.ChangeHeader{Index: 1, Name: "X-VIRUS-Scanned", Value: x.Value},
			},
		},
		{
			"amavisd deleted the forged ones", x, []string{"X-Virus-Scanned", "X-Virus-Scanned"},
			edits{ampdp.DeleteHeader{Index: 1, Name: "x-virus-scanned"}},
			changes{milter.DeleteHeader{Index: 2, Name: "X-Virus-Scanned"}, milter.DeleteHeader{Index: 1, Name: "X-Virus-Scanned"}, add},
		},
		{
			"amavisd adds its own", x, []string{"X-Virus-Scanned"},
			edits{ampdp.AddHeader{Name: "X-VIRUS-SCANNED", Value: "amavisd"}},
			changes{milter.InsertHeader{Index: milter.AtEnd, Name: "X-VIRUS-SCANNED", Value: "amavisd"}},
		},
		{
			"amavisd inserts its own", x, nil,
			edits{ampdp.InsertHeader{Index: 1, Name: "X-Virus-Scanned", Value: "amavisd"}},
			changes{milter.InsertHeader{Index: 1, Name: "X-Virus-Scanned", Value: "amavisd"}},
		},
		{
			"amavisd changes one", x, []string{"X-Virus-Scanned"},
			edits{ampdp.ChangeHeader{Index: 1, Name: "x-virus-scanned", Value: "amavisd"}},
			changes{milter.ChangeHeader{Index: 1, Name: "X-Virus-Scanned", Value: "amavisd"}},
		},
		{
			"a forged mark of an unscanned message goes", x, []string{"X-Amavis-Milter-Unscanned", "x-amavis-milter-unscanned"}, nil,
			changes{milter.DeleteHeader{Index: 2, Name: "X-Amavis-Milter-Unscanned"}, milter.DeleteHeader{Index: 1, Name: "X-Amavis-Milter-Unscanned"}, add},
		},
		{
			"also without an X-header, and once", HeaderField{}, []string{"x-amavis-milter-unscanned"},
			edits{ampdp.DeleteHeader{Index: 1, Name: "x-amavis-milter-unscanned"}},
			changes{milter.DeleteHeader{Index: 1, Name: "x-amavis-milter-unscanned"}},
		},
		{"another name", HeaderField{"X-Site", "s"}, []string{"X-Virus-Scanned"}, nil, changes{milter.AddHeader{Name: "X-Site", Value: "s"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkChanges(t, mustPass(acceptChanges(c.edits, nil, headerOf(t, c.header...), c.xHeader)), c.want)
		})
	}
}

// mta is a message's header at an MTA, with what sendmail and Postfix have in
// common: names compare without case, indexes count one name.
type mta struct {
	names   []string
	shifts  bool // deletions move later indexes up, as in Postfix
	deleted []bool
}

// at returns the position of the index-th field of a name, or -1.
func (m *mta) at(name string, index int) int {
	for i, n := range m.names {
		if strings.EqualFold(n, name) && !(m.shifts && m.deleted[i]) {
			if index--; index == 0 {
				return i
			}
		}
	}
	return -1
}

func (m *mta) count(name string) (n int) {
	for i := range m.names {
		if strings.EqualFold(m.names[i], name) && !m.deleted[i] {
			n++
		}
	}
	return n
}

func (m *mta) apply(t *testing.T, c milter.Change) {
	switch c := c.(type) {
	case milter.AddHeader:
		m.names, m.deleted = append(m.names, c.Name), append(m.deleted, false)
	case milter.DeleteHeader:
		i := m.at(c.Name, c.Index)
		if i < 0 || m.deleted[i] {
			t.Fatalf("%+v meets no field in %q", c, m.names)
		}
		m.deleted[i] = true
	case milter.ChangeHeader:
		if i := m.at(c.Name, c.Index); i < 0 || m.deleted[i] {
			t.Fatalf("%+v meets no field in %q", c, m.names)
		}
	}
}

// Whatever the edits, the changes fit the message on both kinds of MTA, exactly
// one X-header stands in the end unless amavisd set it, and no forged mark.
func FuzzEdits(f *testing.F) {
	f.Add("X-Virus-Scanned,Subject,x-virus-scanned", []byte("d\x01\x00c\x01\x01"))
	f.Add("Received,Received,X-Amavis-Milter-Unscanned", []byte("d\x02\x02c\x01\x02d\x01\x03"))
	f.Add("Subject", []byte("a\x00\x00i\x00\x00c\x05\x01"))
	f.Add("", []byte("d\x01\x00d\x01\x00"))
	f.Add("Subject", []byte("c\x00\x04"))
	names := []string{"X-VIRUS-scanned", "subject", "received", "x-amavis-milter-unscanned", "X-New"}
	f.Fuzz(func(t *testing.T, header string, script []byte) {
		var own []string
		if header != "" {
			own = strings.Split(header, ",")
		}
		if len(own) > 100 || len(script) > 300 {
			return
		}
		fields := headerOf(t, own...)
		var list edits
		set, deleteUnscanned := false, false
		for ; len(script) >= 3; script = script[3:] {
			index, name := int(script[1]), names[int(script[2])%len(names)]
			switch script[0] {
			case 'd':
				list = append(list, ampdp.DeleteHeader{Index: index, Name: name})
				continue
			case 'c':
				list = append(list, ampdp.ChangeHeader{Index: index, Name: name, Value: "v"})
			case 'a':
				list = append(list, ampdp.AddHeader{Name: name, Value: "v"})
			default:
				continue
			}
			set = set || name == names[0]
			deleteUnscanned = deleteUnscanned || name == names[3]
		}
		if receivedDeletedBeforeUse(list) {
			return // the MTAs differ there, and amavisd never sends it
		}
		for _, shifts := range []bool{false, true} {
			m := &mta{names: append([]string(nil), own...), deleted: make([]bool, len(own)), shifts: shifts}
			for _, c := range mustPass(acceptChanges(list, nil, fields, DefaultXHeader)) {
				m.apply(t, c)
			}
			if n := m.count("X-Virus-Scanned"); !set && n != 1 {
				t.Errorf("%d X-headers", n)
			}
			if n := m.count(UnscannedHeader); !deleteUnscanned && n != 0 {
				t.Errorf("%d forged marks are left", n)
			}
		}
	})
}

// receivedDeletedBeforeUse reports whether a Received field is named again after
// one was deleted.
func receivedDeletedBeforeUse(list edits) bool {
	deleted := false
	for _, e := range list {
		switch e := e.(type) {
		case ampdp.DeleteHeader:
			if e.Name == "received" {
				if deleted {
					return true
				}
				deleted = true
			}
		case ampdp.ChangeHeader:
			if e.Name == "received" && deleted {
				return true
			}
		}
	}
	return false
}

func BenchmarkAcceptChanges(b *testing.B) {
	fields := headerOf(b, "Received", "Received", "From", "To", "Subject", "Date", "Message-ID", "X-Virus-Scanned", "DKIM-Signature")
	list := edits{
		ampdp.ChangeHeader{Index: 1, Name: "subject", Value: "v"}, ampdp.DeleteHeader{Index: 1, Name: "x-spam-flag"},
		ampdp.InsertHeader{Index: 1, Name: "X-Spam-Flag", Value: "NO"}, ampdp.InsertHeader{Index: 1, Name: "X-Spam-Score", Value: "1.2"},
		ampdp.InsertHeader{Index: 1, Name: "X-Spam-Level", Value: "*"}, ampdp.InsertHeader{Index: 1, Name: "X-Spam-Status", Value: "No"},
	}
	b.ReportAllocs()
	for b.Loop() {
		acceptChanges(list, nil, fields, DefaultXHeader)
	}
}
