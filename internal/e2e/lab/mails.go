package lab

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// gtube is SpamAssassin's test string for spam, put together at run time so that
// nobody's filter finds it in our files.
func gtube() string {
	return strings.Join([]string{"XJS*C4JDBQADN1.", "NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL", "*C.34X"}, "")
}

// Header returns the header of an ordinary mail, dated now so that no rule about
// dates applies, without the empty line.
func Header(from, to, subject string) string {
	now := time.Now()
	return strings.Join([]string{
		"Date: " + now.Format(time.RFC1123Z),
		"From: Some One <" + from + ">",
		"To: <" + to + ">",
		"Subject: " + subject,
		fmt.Sprintf("Message-ID: <%d@remote.test>", now.UnixNano()),
		"MIME-Version: 1.0", ""}, "\r\n")
}

// Text returns a plain text mail. Lines of the body end in LF or CR LF; they are
// sent with CR LF.
func Text(header, body string) []byte {
	body = strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\n", "\r\n")
	return []byte(header + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body)
}

// CleanBody is a text that nobody minds.
const CleanBody = "Good morning,\n\nthe minutes of yesterday's meeting are on the shared drive.\nPlease read them before Friday.\n\nYours, Some One\n"

// GTUBEBody is the text that every SpamAssassin takes for spam.
func GTUBEBody() string { return "This is a test of the spam filter:\n\n" + gtube() + "\n" }

// EICARBody is the text that every virus scanner takes for a virus.
func EICARBody() string { return eicar() + "\n" }

// EICARZip returns a mail whose attachment is a zip file with the EICAR test file
// in it.
func EICARZip(header string) ([]byte, error) {
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	f, err := w.Create("letter.txt")
	if err != nil {
		return nil, err
	}
	if _, err := f.Write([]byte(eicar())); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	const boundary = "the-next-part"
	var mail strings.Builder
	mail.WriteString(header)
	mail.WriteString("Content-Type: multipart/mixed; boundary=\"" + boundary + "\"\r\n\r\n")
	mail.WriteString("--" + boundary + "\r\nContent-Type: text/plain\r\n\r\nSee the attachment.\r\n")
	mail.WriteString("--" + boundary + "\r\nContent-Type: application/zip; name=\"letter.zip\"\r\n" +
		"Content-Disposition: attachment; filename=\"letter.zip\"\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	text := base64.StdEncoding.EncodeToString(packed.Bytes())
	for len(text) > 0 {
		n := min(76, len(text))
		mail.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	mail.WriteString("--" + boundary + "--\r\n")
	return []byte(mail.String()), nil
}
