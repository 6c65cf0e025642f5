package e2e

import (
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

var (
	plainPart = lab.Part{Type: "text/plain; charset=utf-8", Encoding: "quoted-printable", Content: []byte("Schöne Grüße = viele Grüße\n")}
	htmlPart  = lab.Part{Type: "text/html; charset=utf-8", Encoding: "base64", Content: []byte("<html><body><p>Schöne Grüße</p></body></html>\n")}
	imagePart = lab.Part{Type: "image/png", Encoding: "base64", Name: "dot.png", Content: []byte(bytesFrom(0))}
)

// mimeCases are mails that nobody minds, of several parts.
func mimeCases() []testCase {
	c := func(name string, part lab.Part) testCase {
		return mail(name, lab.Whole(head(name), part), clean(want{}, user))
	}
	ill := func(name string, part lab.Part) testCase {
		return mail(name, lab.Whole(head(name), part), badHeader(`MIME error`, user))
	}
	inner := lab.Part{Type: "message/rfc822", Content: lab.Whole(lab.Header("other@remote.test", sender, "within"), plainPart)}
	report := lab.Part{Type: "message/delivery-status", Content: []byte("Reporting-MTA: dns; remote.test\n\nFinal-Recipient: rfc822; user@remote.test\nAction: failed\nStatus: 5.1.1\n")}
	unclosed := lab.Multipart("mixed", "open", plainPart, htmlPart)
	unclosed.Content = []byte(strings.TrimSuffix(string(unclosed.Content), "--open--\r\n"))
	return []testCase{
		c("quoted-printable", plainPart),
		c("base64", htmlPart),
		c("alternatives", lab.Multipart("alternative", "alt", plainPart, htmlPart)),
		c("nested parts", lab.Multipart("mixed", "outer", lab.Multipart("related", "middle", lab.Multipart("alternative", "inner", plainPart, htmlPart), imagePart), imagePart)),
		c("forwarded mail", lab.Multipart("mixed", "fwd", plainPart, inner)),
		c("bounce", lab.Multipart("report; report-type=delivery-status", "dsn", plainPart, report, inner)).from(""),
		c("binary attachment", lab.Multipart("mixed", "bin", plainPart, lab.Part{Type: "application/octet-stream", Encoding: "base64", Name: "data", Content: []byte(strings.Repeat(bytesFrom(0), 1000))})),
		c("large", lab.Part{Type: "application/octet-stream", Encoding: "base64", Content: []byte(strings.Repeat(bytesFrom(0), 4000))}),
		ill("unclosed boundary", unclosed),
		ill("no boundary", lab.Part{Type: "multipart/mixed", Content: []byte("--what\nContent-Type: text/plain\n\ntext\n")}),
		c("signed", lab.Multipart("signed; micalg=pgp-sha256; protocol=\"application/pgp-signature\"", "pgp", plainPart,
			lab.Part{Type: "application/pgp-signature", Name: "signature.asc", Content: []byte("-----BEGIN PGP SIGNATURE-----\n\niQEz\n-----END PGP SIGNATURE-----\n")})),
	}
}
