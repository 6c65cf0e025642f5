package lab

import (
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
	return Whole(header, Part{Type: "text/plain; charset=utf-8", Encoding: "8bit", Content: []byte(body)})
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
	packed, err := Zip("letter.txt", []byte(eicar()))
	return Whole(header, Multipart("mixed", "the-next-part",
		Part{Type: "text/plain", Content: []byte("See the attachment.\n")},
		Part{Type: "application/zip", Encoding: "base64", Name: "letter.zip", Content: packed})), err
}
