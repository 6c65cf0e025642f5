package ampdp_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

func read(raw string) (*ampdp.Reply, error) {
	return ampdp.ReadReply(strings.NewReader(raw), ampdp.Limits{})
}

// The files were encoded by amavisd's own Amavis::Util::proto_encode.
var amavisdReplies = map[string]ampdp.Reply{
	"clean.txt": {
		VersionServer: 2, LogID: "3Qx1-01", ReturnValue: ampdp.Continue,
		SetReply: &ampdp.SetReply{Code: 250, Enhanced: "2.6.0", Text: "Ok, id=3Qx1-01, continue delivery"},
		Edits:    []ampdp.Edit{ampdp.InsertHeader{Index: 1, Name: "X-Virus-Scanned", Value: "Debian amavis at lab.test"}},
	},
	"tagged.txt": {
		VersionServer: 2, LogID: "3Qx2-02", ReturnValue: ampdp.Continue,
		SetReply: &ampdp.SetReply{Code: 250, Enhanced: "2.6.0", Text: "Ok, id=3Qx2-02, continue delivery"},
		Edits: []ampdp.Edit{
			ampdp.DeleteRecipient{Address: "<bob@example.net>"},
			ampdp.AddRecipient{Address: "<bob+spam@example.net>"},
			ampdp.DeleteRecipient{Address: `<"a b%"@example.net>`},
			ampdp.DeleteHeader{Index: 1, Name: "x-spam-flag"},
			ampdp.ChangeHeader{Index: 1, Name: "subject", Value: "***SPAM*** café 100%\n\tsecond line"},
			ampdp.InsertHeader{Index: 1, Name: "X-Quarantine-ID", Value: "<abc>"},
			ampdp.AddHeader{Name: "X-Spam-Status", Value: "Yes, score=12.3 tagged_above=-999 required=6.31\n\ttests=[BAYES_99=3.5,\n\tGTUBE=1000] autolearn=no"},
			ampdp.AddHeader{Name: "X-Empty", Value: ""},
		},
	},
	"rejected.txt": {
		VersionServer: 2, LogID: "3Qx3-03", ReturnValue: ampdp.Reject,
		SetReply: &ampdp.SetReply{Code: 554, Enhanced: "5.7.0", Text: "Reject, id=3Qx3-03 - INFECTED: Eicar-Test-Signature"},
	},
	"discarded.txt": {
		VersionServer: 2, LogID: "3Qx4-04", ReturnValue: ampdp.Discard,
		SetReply: &ampdp.SetReply{Code: 250, Enhanced: "2.7.0", Text: "Ok, discarded, id=3Qx4-04 - spam"},
	},
	"failure.txt": { // an error inside of amavisd: neither version_server nor log_id
		VersionServer: 1, ReturnValue: ampdp.TempFail,
		SetReply: &ampdp.SetReply{Code: 450, Enhanced: "4.5.0", Text: "Failure: Suspicious temporary directory name '/tmp/x' at /usr/share/perl5/Amavis/In/AMPDP.pm line 271, <GEN30> line 12."},
	},
}

func TestReadReplyOfAmavisd(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) != len(amavisdReplies) {
		t.Fatalf("%d files for %d replies, %v", len(files), len(amavisdReplies), err)
	}
	for name, want := range amavisdReplies {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			for how, r := range chunked(string(raw)) {
				if got, err := ampdp.ReadReply(r, ampdp.Limits{}); err != nil || !reflect.DeepEqual(*got, want) {
					t.Errorf("%s: got %+v, %v\nwant %+v", how, got, err, want)
				}
			}
		})
	}
}

// chunked gives the same bytes in several ways.
func chunked(raw string) map[string]io.Reader {
	return map[string]io.Reader{
		"at once":              strings.NewReader(raw),
		"byte by byte":         iotest.OneByteReader(strings.NewReader(raw)),
		"in halves":            iotest.HalfReader(strings.NewReader(raw)),
		"with EOF in the data": iotest.DataErrReader(strings.NewReader(raw)),
		"from a tiny buffer":   bufio.NewReaderSize(strings.NewReader(raw), 16),
		"from a large buffer":  bufio.NewReaderSize(strings.NewReader(raw), 1<<20),
	}
}

func TestReadReplyAccepts(t *testing.T) {
	const end = "return_value=continue\r\n\r\n"
	tests := []struct {
		name string
		raw  string
		want ampdp.Reply // ReturnValue and VersionServer are filled in if empty
	}{
		{"the least", end, ampdp.Reply{}},
		{"bare LF", "log_id=a\nreturn_value=reject\n\n", ampdp.Reply{LogID: "a", ReturnValue: ampdp.Reject}},
		{"CR LF and LF mixed", "log_id=a\nreturn_value=reject\r\n\n", ampdp.Reply{LogID: "a", ReturnValue: ampdp.Reject}},
		{"accept", "return_value=accept\r\n\r\n", ampdp.Reply{ReturnValue: ampdp.Accept}},
		{"data behind the end", end + "return_value=reject\r\n\r\n", ampdp.Reply{}},
		{"garbage behind the end", end + "garbage", ampdp.Reply{}},
		{"upper case hex", "log_id=%C3%BC\r\n" + end, ampdp.Reply{LogID: "ü"}},
		{"lower case hex", "log_id=%c3%bc\r\n" + end, ampdp.Reply{LogID: "ü"}},
		{"escaped attribute name", "log%5fid=a\r\n" + end, ampdp.Reply{LogID: "a"}},
		{"= in a value", "log_id=a=b\r\n" + end, ampdp.Reply{LogID: "a=b"}},
		{"version 1 is not told", "exit_code=0\r\n" + end, ampdp.Reply{VersionServer: 1}},
		{"a later version", "version_server=3\r\n" + end, ampdp.Reply{VersionServer: 3}},
		{"a version of another kind", "version_server=3.1\r\n" + end, ampdp.Reply{Unknown: []ampdp.Attribute{{Name: "version_server", Value: "3.1"}}}},
		{"return_value first", "return_value=continue\r\naddheader=X-A b\r\n\r\n", ampdp.Reply{Edits: []ampdp.Edit{ampdp.AddHeader{Name: "X-A", Value: "b"}}}},
		{"legacy exit_code of any kind", "exit_code=x y\r\n" + end, ampdp.Reply{}},
		{"split first, decode second", "addheader=X-A a%20b%20%20c\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.AddHeader{Name: "X-A", Value: "a b  c"}}}},
		{"folded value", "addheader=X-A a%0a%09b%0a%20c\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.AddHeader{Name: "X-A", Value: "a\n\tb\n c"}}}},
		{"raw bytes of all kinds", "addheader=X-A a\tb\x00\x80\r\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.AddHeader{Name: "X-A", Value: "a\tb\x00\x80\r"}}}},
		{"empty value of chgheader", "chgheader=2 Subject \r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.ChangeHeader{Index: 2, Name: "Subject"}}}},
		{"empty value of insheader", "insheader=0 X-A \r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.InsertHeader{Index: 0, Name: "X-A"}}}},
		{"the largest index", "insheader=2147483647 X-A b\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.InsertHeader{Index: 1<<31 - 1, Name: "X-A", Value: "b"}}}},
		{"index with zeros", "delheader=0001 X-A\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.DeleteHeader{Index: 1, Name: "X-A"}}}},
		{"every printable name", "addheader=!#$%25&'*+-./09;<=>?@AZ[\\]^_`az{|}~ v\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.AddHeader{Name: "!#$%&'*+-./09;<=>?@AZ[\\]^_`az{|}~", Value: "v"}}}},
		{"address without brackets", "delrcpt=a@b\r\naddrcpt=c@d\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.DeleteRecipient{Address: "<a@b>"}, ampdp.AddRecipient{Address: "<c@d>"}}}},
		{"quarantine", "quarantine=looks%20bad\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.Quarantine{Reason: "looks bad"}}}},
		{"quarantine without a reason", "quarantine=\r\n" + end, ampdp.Reply{Edits: []ampdp.Edit{ampdp.Quarantine{}}}},
		{"setreply without text", "setreply=250 2.5.0 \r\n" + end, ampdp.Reply{SetReply: &ampdp.SetReply{Code: 250, Enhanced: "2.5.0"}}},
		{"setreply without enhanced code", "setreply=550  no\r\n" + end, ampdp.Reply{SetReply: &ampdp.SetReply{Code: 550, Text: "no"}}},
		{"the last setreply", "setreply=550 5.0.0 a\r\nsetreply=554 5.7.1 b\r\n" + end, ampdp.Reply{SetReply: &ampdp.SetReply{Code: 554, Enhanced: "5.7.1", Text: "b"}}},
		{"replacebody is unknown", "replacebody=a b%20c\r\n" + end, ampdp.Reply{Unknown: []ampdp.Attribute{{Name: "replacebody", Value: "a b c"}}}},
		{"names and values of many sizes do not mix", "a=" + strings.Repeat("v", 300) + "\r\n" + strings.Repeat("n", 100) + "=w\r\nb=" + strings.Repeat("u", 40) + "\r\n" + end, ampdp.Reply{Unknown: []ampdp.Attribute{
			{Name: "a", Value: strings.Repeat("v", 300)}, {Name: strings.Repeat("n", 100), Value: "w"}, {Name: "b", Value: strings.Repeat("u", 40)},
		}}},
		{"the first name is longer than there is room for", strings.Repeat("n", 100) + "=" + strings.Repeat("v", 100) + "\r\n" + end, ampdp.Reply{Unknown: []ampdp.Attribute{
			{Name: strings.Repeat("n", 100), Value: strings.Repeat("v", 100)},
		}}},
		{"names are exact", "Return_Value=reject\r\n=nameless\r\n" + end, ampdp.Reply{Unknown: []ampdp.Attribute{{Name: "Return_Value", Value: "reject"}, {Value: "nameless"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want.ReturnValue == "" {
				tt.want.ReturnValue = ampdp.Continue
			}
			if tt.want.VersionServer == 0 {
				tt.want.VersionServer = 1
			}
			for how, r := range chunked(tt.raw) {
				if got, err := ampdp.ReadReply(r, ampdp.Limits{}); err != nil || !reflect.DeepEqual(*got, tt.want) {
					t.Errorf("%s: got %+v, %v\nwant %+v", how, got, err, tt.want)
				}
			}
		})
	}
}

func TestReadReplyRefuses(t *testing.T) {
	const ok = "return_value=continue"
	malformed := map[string][]string{
		"no =":                          {ok, "garbage"},
		"only blanks":                   {ok, " "},
		"a lone CR":                     {ok, "\r"},
		"% at the end":                  {ok, "log_id=a%"},
		"% with one digit":              {ok, "log_id=a%4"},
		"% with no digit":               {ok, "log_id=a%zz"},
		"% in an attribute name":        {ok, "log%id=a"},
		"% in an unknown attribute":     {ok, "future=100%"},
		"% in exit_code":                {ok, "exit_code=%"},
		"% in version_server":           {ok, "version_server=%"},
		"% in an address":               {ok, "delrcpt=<a%@b>"},
		"% in a field":                  {ok, "addheader=X-A 100%"},
		"% in quarantine":               {ok, "quarantine=100%"},
		"no return_value":               {"log_id=a"},
		"nothing at all":                {},
		"return_value twice":            {ok, ok},
		"two return_values":             {ok, "return_value=reject"},
		"return_value unknown":          {"return_value=whatever"},
		"return_value empty":            {"return_value="},
		"return_value in upper case":    {"return_value=CONTINUE"},
		"return_value with a blank":     {"return_value=continue "},
		"return_value with CR":          {"return_value=continue\r"},
		"return_value with NUL":         {"return_value=continue%00"},
		"setreply of one field":         {ok, "setreply=250"},
		"setreply of two fields":        {ok, "setreply=250 2.0.0"},
		"setreply of four fields":       {ok, "setreply=250 2.0.0 Ok then"},
		"setreply without a number":     {ok, "setreply=abc 2.0.0 Ok"},
		"setreply with a sign":          {ok, "setreply=+250 2.0.0 Ok"},
		"setreply with 99":              {ok, "setreply=99 2.0.0 Ok"},
		"setreply with 600":             {ok, "setreply=600 2.0.0 Ok"},
		"delrcpt of two fields":         {ok, "delrcpt=<a b>"},
		"delrcpt empty":                 {ok, "delrcpt="},
		"addrcpt of two fields":         {ok, "addrcpt=<a@b> <c@d>"},
		"addrcpt empty":                 {ok, "addrcpt="},
		"addrcpt with the null path":    {ok, "addrcpt=<>"},
		"delheader of one field":        {ok, "delheader=1"},
		"delheader of three fields":     {ok, "delheader=1 Subject x"},
		"chgheader of two fields":       {ok, "chgheader=1 Subject"},
		"chgheader of four fields":      {ok, "chgheader=1 Subject a b"},
		"insheader of two fields":       {ok, "insheader=1 Subject"},
		"insheader of four fields":      {ok, "insheader=1 Subject  b"},
		"addheader of one field":        {ok, "addheader=Subject"},
		"addheader of three fields":     {ok, "addheader=Subject a b"},
		"addheader with two spaces":     {ok, "addheader=Subject  a"},
		"addheader with a tab":          {ok, "addheader=Subject\ta"},
		"quarantine of two fields":      {ok, "quarantine=looks bad"},
		"index empty":                   {ok, "delheader= Subject"},
		"index negative":                {ok, "delheader=-1 Subject"},
		"index with plus":               {ok, "delheader=+1 Subject"},
		"index in hex":                  {ok, "delheader=0x1 Subject"},
		"index with underscore":         {ok, "delheader=1_0 Subject"},
		"index with an escaped blank":   {ok, "delheader=%201 Subject"},
		"index of 2^31":                 {ok, "insheader=2147483648 X-A b"},
		"index beyond 64 bits":          {ok, "chgheader=99999999999999999999 X-A b"},
		"index no number":               {ok, "chgheader=one X-A b"},
		"field name empty":              {ok, "addheader= b"},
		"field name with a colon":       {ok, "addheader=X-A: b"},
		"field name with LF":            {ok, "insheader=0 X-A%0aX-B b"},
		"field name with a blank":       {ok, "chgheader=1 X%20A b"},
		"field name with 8-bit bytes":   {ok, "delheader=1 %c3%bc"},
		"field name with NUL":           {ok, "delheader=1 X%00"},
		"field name with DEL":           {ok, "delheader=1 X%7f"},
		"a header in the reply's lines": {ok, "X-Spam: yes"},
	}
	for name, lines := range malformed {
		t.Run(name, func(t *testing.T) { checkRefused(t, ampdptest.Lines(lines...), ampdp.ErrMalformed) })
	}
	truncated := map[string]string{
		"in a line":                    "version_server=2\r\nreturn_val",
		"behind a line":                "return_value=continue\r\n",
		"behind all but the last byte": "return_value=continue\r\n\r",
		"one byte":                     "v",
		"only CR":                      "\r",
	}
	for name, raw := range truncated {
		t.Run("broken off "+name, func(t *testing.T) { checkRefused(t, raw, ampdp.ErrTruncated) })
	}
	t.Run("no byte", func(t *testing.T) { checkRefused(t, "", ampdp.ErrNoReply) })
}

func checkRefused(t *testing.T, raw string, want error) {
	t.Helper()
	for how, r := range chunked(raw) {
		got, err := ampdp.ReadReply(r, ampdp.Limits{})
		if !errors.Is(err, want) || got != nil {
			t.Errorf("%s: got %+v, %v; want %v", how, got, err, want)
		}
		for _, other := range []error{ampdp.ErrMalformed, ampdp.ErrTruncated, ampdp.ErrNoReply, ampdp.ErrTooLarge} {
			if other != want && errors.Is(err, other) {
				t.Errorf("%s: %v is %v as well", how, err, other)
			}
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n\x00") {
			t.Errorf("%s: the error is not one line: %q", how, err)
		}
	}
}

// Every proper prefix of a reply is refused: nothing of it may be applied.
func TestReadReplyPrefixes(t *testing.T) {
	raw, err := os.ReadFile("testdata/tagged.txt")
	if err != nil {
		t.Fatal(err)
	}
	for n := range raw {
		want := ampdp.ErrTruncated
		if n == 0 {
			want = ampdp.ErrNoReply
		}
		if got, err := read(string(raw[:n])); !errors.Is(err, want) || got != nil {
			t.Errorf("the first %d bytes: got %+v, %v", n, got, err)
		}
	}
}

func TestReadReplyErrorsNameTheLine(t *testing.T) {
	_, err := read("version_server=2\r\nlog_id=a\r\ndelheader=x Subject\r\n\r\n")
	const want = `reading the reply: line 3: "delheader": malformed reply: index "x" is no decimal number below 2^31`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if _, err := read(strings.Repeat("x", 1<<20) + "\r\n"); err == nil || len(err.Error()) > 200 {
		t.Errorf("an error of %d bytes repeats what the peer sent", len(fmt.Sprint(err)))
	}
}

func TestReadReplyLeavesTheRest(t *testing.T) {
	b := bufio.NewReader(strings.NewReader("return_value=accept\r\n\r\nreturn_value=reject\r\n\r\nrest"))
	for _, want := range []ampdp.ReturnValue{ampdp.Accept, ampdp.Reject} {
		if got, err := ampdp.ReadReply(b, ampdp.Limits{}); err != nil || got.ReturnValue != want {
			t.Fatalf("got %+v, %v; want %s", got, err, want)
		}
	}
	if rest, err := io.ReadAll(b); err != nil || string(rest) != "rest" {
		t.Errorf("what is left is %q, %v", rest, err)
	}
}

func TestReadReplyPassesReadErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	for _, before := range []string{"", "log_", "log_id=a\r\n"} {
		r := io.MultiReader(strings.NewReader(before), iotest.ErrReader(broken))
		if got, err := ampdp.ReadReply(r, ampdp.Limits{}); !errors.Is(err, broken) || got != nil {
			t.Errorf("behind %q: got %+v, %v", before, got, err)
		}
	}
}
