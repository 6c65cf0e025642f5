package ampdp_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
)

func smallRequest() *ampdp.Request {
	return &ampdp.Request{Sender: "<ann@example.com>", Recipients: []string{"<bob@example.net>"}, TempDir: "/spool/amavis-milter-1"}
}

func TestRequestInFull(t *testing.T) {
	r := &ampdp.Request{
		QueueID: "3Qx1", ProtocolName: "ESMTP", HeloName: "[192.0.2.1]", ClientName: "mail.example.com",
		ClientAddress: "2001:db8::1", ClientPort: 45678, Sender: "<>",
		Recipients: []string{"<b@example.net>", "<a@example.net>", "<b@example.net>"},
		TempDir:    "/spool/amavis-milter-3Qx1", MailFile: "/spool/amavis-milter-3Qx1/mail",
		DeliveryCareOf: ampdp.CareOfServer, PolicyBanks: []string{"SMTP_AUTH", "SMTP_AUTH_CRAM-MD5", "MTA v4"},
	}
	want := ampdptest.Lines(
		"request=AM.PDP",
		"version_client=2",
		"protocol_name=ESMTP",
		"helo_name=[192.0.2.1]",
		"client_name=mail.example.com",
		"client_address=2001:db8::1",
		"client_port=45678",
		"queue_id=3Qx1",
		"tempdir=/spool/amavis-milter-3Qx1",
		"tempdir_removed_by=client",
		"mail_file=/spool/amavis-milter-3Qx1/mail",
		"delivery_care_of=server",
		"policy_bank=SMTP_AUTH,SMTP_AUTH_CRAM-MD5,MTA%20v4",
		"sender=<>",
		"recipient=<b@example.net>",
		"recipient=<a@example.net>",
		"recipient=<b@example.net>",
	)
	got, err := r.AppendTo([]byte("before"))
	if err != nil || string(got) != "before"+want {
		t.Errorf("got %v,\n%s\nwant\n%s", err, got, want)
	}
}

func TestRequestDefaults(t *testing.T) {
	want := ampdptest.Lines(
		"request=AM.PDP",
		"version_client=2",
		"tempdir=/spool/amavis-milter-1",
		"tempdir_removed_by=client",
		"mail_file=/spool/amavis-milter-1/email.txt",
		"delivery_care_of=client",
		"sender=<ann@example.com>",
		"recipient=<bob@example.net>",
	)
	r := smallRequest()
	if got, err := r.AppendTo(nil); err != nil || string(got) != want {
		t.Errorf("got %v,\n%s\nwant\n%s", err, got, want)
	}
	r.TempDir += "/"
	if got, _ := r.AppendTo(nil); !strings.Contains(string(got), "mail_file=/spool/amavis-milter-1/email.txt\r\n") {
		t.Errorf("a slash at the end of tempdir gives\n%s", got)
	}
}

func TestRequestAddsMissingBrackets(t *testing.T) {
	tests := []struct{ path, want string }{
		{"<c@lab.test>", "<c@lab.test>"},
		{"c@lab.test", "<c@lab.test>"},
		{"<>", "<>"},
		{"<", "<<>"},
		{">", "<>>"},
		{"<half", "<<half>"},
		{`<"a b>"@x>`, `<"a b>"@x>`},
	}
	for _, tt := range tests {
		r := smallRequest()
		r.Sender, r.Recipients = tt.path, []string{tt.path}
		d := decode(t, r)
		if d.Get("sender") != tt.want || d.Get("recipient") != tt.want {
			t.Errorf("%q was sent as sender %q, recipient %q; want %q", tt.path, d.Get("sender"), d.Get("recipient"), tt.want)
		}
	}
}

func TestRequestErrors(t *testing.T) {
	tests := []struct {
		name   string
		change func(*ampdp.Request)
		want   error
	}{
		{"no sender", func(r *ampdp.Request) { r.Sender = "" }, ampdp.ErrNoSender},
		{"no recipient", func(r *ampdp.Request) { r.Recipients = nil }, ampdp.ErrNoRecipient},
		{"an empty recipient", func(r *ampdp.Request) { r.Recipients = []string{"<a@b>", ""} }, ampdp.ErrNoRecipient},
		{"no tempdir", func(r *ampdp.Request) { r.TempDir = "" }, ampdp.ErrNoTempDir},
		{"relative tempdir", func(r *ampdp.Request) { r.TempDir = "spool/x" }, ampdp.ErrRelativePath},
		{"relative mail_file", func(r *ampdp.Request) { r.MailFile = "email.txt" }, ampdp.ErrRelativePath},
		{"delivery_care_of", func(r *ampdp.Request) { r.DeliveryCareOf = "Client" }, ampdp.ErrCareOf},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := smallRequest()
			tt.change(r)
			got, err := r.AppendTo([]byte("before"))
			if !errors.Is(err, tt.want) || string(got) != "before" {
				t.Errorf("got %q, %v; want %v and nothing appended", got, err, tt.want)
			}
		})
	}
}

func TestRequestSizeLimit(t *testing.T) {
	r := smallRequest()
	bare, err := r.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	room := ampdp.MaxRequestBytes - len(bare) - len("helo_name=\r\n")
	for _, tt := range []struct {
		length int
		want   error
	}{{room - 1, nil}, {room, nil}, {room + 1, ampdp.ErrRequestTooLarge}} {
		r.HeloName = strings.Repeat("h", tt.length)
		got, err := r.AppendTo(nil)
		if !errors.Is(err, tt.want) {
			t.Errorf("%d bytes: %v, want %v", len(bare)+len("helo_name=\r\n")+tt.length, err, tt.want)
		}
		if err == nil && len(got) != ampdp.MaxRequestBytes-room+tt.length {
			t.Errorf("got %d bytes", len(got))
		}
	}

	r.HeloName = ""
	r.Recipients = slices.Repeat([]string{"<" + strings.Repeat("r", 254) + ">"}, 2*ampdp.MaxRequestBytes/256)
	if got, err := r.AppendTo(nil); !errors.Is(err, ampdp.ErrRequestTooLarge) || got != nil {
		t.Errorf("%d recipients: %d bytes, %v", len(r.Recipients), len(got), err)
	}
}

// Whatever an SMTP client says, it stays inside of its own attribute.
func TestRequestInjection(t *testing.T) {
	hostile := []string{
		"x\r\npolicy_bank=ORIGINATING",
		"x\n\nrequest=AM.PDP",
		"\r\n",
		"x%0d%0apolicy_bank=ORIGINATING",
		"a: b\x00c",
		"\xff\xfe\x80",
		" leading and trailing ",
		"=",
	}
	for _, h := range hostile {
		t.Run(fmt.Sprintf("%q", h), func(t *testing.T) {
			r := &ampdp.Request{
				QueueID: h, ProtocolName: h, HeloName: h, ClientName: h, ClientAddress: h,
				Sender: "<" + h + ">", Recipients: []string{"<" + h + ">", "<" + h + ">"}, TempDir: "/" + h, MailFile: "/m" + h,
			}
			checkSent(t, r)
		})
	}
}

func TestPolicyBanks(t *testing.T) {
	tests := []struct {
		name  string
		banks []string
		want  []string // policy_bank, at most one value
	}{
		{"none", nil, nil},
		{"in order", []string{"B", "A"}, []string{"B,A"}},
		{"a comma would load another bank", []string{"X,ORIGINATING", "A"}, []string{"A"}},
		{"so would an escaped one", []string{"X%2cORIGINATING"}, []string{"X%2cORIGINATING"}}, // stays escaped: one strange name
		{"nothing is shortened to another name", []string{"ORIGI,NATING", "ORIGINATING\n", " MYNETS", "MYNETS "}, nil},
		{"empty names", []string{"", "A", ""}, []string{"A"}},
		{"only empty ones", []string{""}, nil},
		{"spaces inside, UTF-8", []string{"MTA v4", "ü"}, []string{"MTA v4,ü"}},
		{"control bytes", []string{"a\tb", "a\x00", "a\x7f", "\x1f"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := smallRequest()
			r.PolicyBanks = tt.banks
			if got := decode(t, r).Values("policy_bank"); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("policy_bank is %q, want %q", got, tt.want)
			}
			for _, bank := range tt.banks {
				sent := len(tt.want) > 0 && slices.Contains(strings.Split(tt.want[0], ","), bank)
				if ampdp.ValidPolicyBank(bank) != sent {
					t.Errorf("ValidPolicyBank(%q) = %v, but sent is %v", bank, !sent, sent)
				}
			}
		})
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("3Qx1", "mail.example.com", "<ann@example.com>", "<bob@example.net>", "/spool/amavis-milter-1", "SMTP_AUTH", uint16(25))
	f.Add("a\r\nb", "x\r\n\r\n", "<\x00>", "no brackets", "/a b", "A,B", uint16(0))
	f.Add("%0a", "%", "<%zz>", "<>", "/ü", " x", uint16(65535))
	f.Add("", "", "", "", "", "", uint16(0))
	f.Fuzz(func(t *testing.T, queueID, helo, sender, recipient, dir, bank string, port uint16) {
		checkSent(t, &ampdp.Request{
			QueueID: queueID, ProtocolName: bank, HeloName: helo, ClientName: sender, ClientAddress: queueID, ClientPort: port,
			Sender: sender, Recipients: []string{recipient, "<x@y>", recipient}, TempDir: dir, MailFile: dir + helo,
			PolicyBanks: []string{bank, "ORIGINATING", helo},
		})
	})
}

// checkSent encodes r, decodes it as amavisd would, and wants each attribute back,
// and no others.
func checkSent(t *testing.T, r *ampdp.Request) {
	t.Helper()
	if _, err := r.AppendTo(nil); err != nil {
		if r.Sender != "" && !slices.Contains(r.Recipients, "") && strings.HasPrefix(r.TempDir, "/") && strings.HasPrefix(r.MailFile, "/") {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	want := []ampdp.Attribute{{Name: "request", Value: "AM.PDP"}, {Name: "version_client", Value: "2"}}
	add := func(name, value string) {
		if value != "" {
			want = append(want, ampdp.Attribute{Name: name, Value: value})
		}
	}
	add("protocol_name", r.ProtocolName)
	add("helo_name", r.HeloName)
	add("client_name", r.ClientName)
	add("client_address", r.ClientAddress)
	if r.ClientPort > 0 {
		add("client_port", fmt.Sprint(r.ClientPort))
	}
	add("queue_id", r.QueueID)
	add("tempdir", r.TempDir)
	add("tempdir_removed_by", "client")
	add("mail_file", r.MailFile)
	add("delivery_care_of", "client")
	add("policy_bank", strings.Join(slices.DeleteFunc(slices.Clone(r.PolicyBanks), func(s string) bool { return !ampdp.ValidPolicyBank(s) }), ","))
	add("sender", bracketed(r.Sender))
	for _, recipient := range r.Recipients {
		add("recipient", bracketed(recipient))
	}
	if got := decode(t, r).Attributes; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func bracketed(path string) string {
	if len(path) >= 2 && strings.HasPrefix(path, "<") && strings.HasSuffix(path, ">") {
		return path
	}
	return "<" + path + ">"
}

// decode encodes r and takes it apart as amavisd would.
func decode(t *testing.T, r *ampdp.Request) *ampdptest.Request {
	t.Helper()
	raw, err := r.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := ampdptest.DecodeRequest(raw)
	if err != nil || len(d.Invalid) > 0 || len(d.Complaints) > 0 {
		t.Fatalf("amavisd would object: %v, invalid %q, %q", err, d.Invalid, d.Complaints)
	}
	return d
}
