package e2e

import (
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// badCases are mails with viruses, spam, both, or attachments that are banned.
func badCases(t *testing.T) []testCase {
	t.Helper()
	packed := func(archive []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return archive
	}
	zip := func(name string, content []byte) []byte { return packed(lab.Zip(name, content)) }
	eicar := []byte(lab.EICARBody())
	attached := func(kind, name string, content []byte) lab.Part {
		return lab.Multipart("mixed", "parts", plainPart, lab.Part{Type: kind, Encoding: "base64", Name: name, Content: content})
	}
	ill := func(name string, part lab.Part) testCase {
		to := []string{user, victim, lover}
		return mail(name, lab.Whole(head("a virus"), part), virus(`^Subject: \*\*\*INFECTED\*\*\* a virus$`, notSpam, to...)).to(to...)
	}
	bad := func(name string, part lab.Part) testCase {
		to := []string{user, extended, lover}
		return mail(name, lab.Whole(head("buy"), part), spam(`^Subject: \*\*\*SPAM\*\*\* buy$`, to...)).to(to...)
	}
	forbidden := func(name, what string, part lab.Part) testCase {
		return mail(name, lab.Whole(head("a program"), part), banned(what))
	}
	inner := lab.Part{Type: "message/rfc822", Content: lab.Whole(head("within"), attached("application/octet-stream", "a", eicar))}
	return []testCase{
		mail("virus", lab.Text(head("a virus"), lab.EICARBody()), virus("", nil, user)),
		ill("virus in text for the good and the bad", lab.Part{Type: "text/plain", Content: eicar}),
		ill("virus in base64", attached("application/octet-stream", "letter", eicar)),
		ill("virus in quoted-printable", lab.Part{Type: "text/plain", Encoding: "quoted-printable", Content: []byte(strings.Repeat("=", 40) + lab.EICARBody())}),
		ill("virus in a zip file", attached("application/zip", "letter.zip", zip("letter.txt", eicar))),
		ill("virus in a zip file in a zip file", attached("application/zip", "l.zip", zip("letter.zip", zip("letter.txt", eicar)))),
		ill("virus in a compressed tar file", attached("application/gzip", "l.tgz", packed(lab.TarGz("letter.txt", eicar)))),
		ill("virus in a forwarded mail", lab.Multipart("mixed", "fwd", plainPart, inner)),
		ill("virus behind a megabyte", attached("application/octet-stream", "data", []byte(strings.Repeat(bytesFrom(0), 4000)+lab.EICARBody()))),
		mail("spam", lab.Text(head("buy"), lab.GTUBEBody()), spam(`^Subject: \*\*\*SPAM\*\*\* buy$`, user)),
		mail("spam from nobody", lab.Text(head("buy"), lab.GTUBEBody()), spam(`^Subject: \*\*\*SPAM\*\*\* buy$`, user, lover)).from("").to(user, lover),
		bad("spam in base64", lab.Part{Type: "text/plain", Encoding: "base64", Content: []byte(lab.GTUBEBody())}),
		bad("spam in an alternative", lab.Multipart("alternative", "alt", plainPart, lab.Part{Type: "text/html", Content: []byte("<p>" + lab.GTUBEBody() + "</p>\n")})),
		mail("spam with a virus", lab.Whole(head("both"), lab.Multipart("mixed", "both", lab.Part{Type: "text/plain", Content: []byte(lab.GTUBEBody())}, lab.Part{Type: "text/plain", Encoding: "base64", Content: eicar})),
			virus(`^Subject: \*\*\*INFECTED\*\*\* both$`, isSpam, user, extended, lover)).to(user, victim, extended, lover), // victim takes viruses, but no spam
		forbidden("program", `.*`, attached("application/octet-stream", "setup.exe", []byte("a program\n"))),
		forbidden("program in a zip file", `.*`, attached("application/zip", "setup.zip", zip("setup.exe", []byte("a program\n")))),
		forbidden("program by its type", `.*`, attached("application/x-msdownload", "setup", []byte("a program\n"))),
		forbidden("program with two extensions", `.*`, attached("text/plain", "letter.txt.vbs", []byte("a program\n"))),
	}
}
