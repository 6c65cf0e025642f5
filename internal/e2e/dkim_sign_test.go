package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// signing is how a message is signed (RFC 6376).
type signing struct {
	fields  []string // h=, in this order
	relaxed bool     // c=relaxed/relaxed instead of simple/simple

	// layout is the signature field with its CR LF; plainLayout if empty. Its tags c,
	// h, bh and b are given their values where nothing but ";" or the end follows.
	layout string
}

const plainLayout = "DKIM-Signature: v=1; a=rsa-sha256; c=; d=remote.test; s=lab;\r\n\tt=1700000000;\r\n\th=;\r\n\tbh=;\r\n\tb=\r\n"

// signer signs for every domain of the lab. It shares nothing with the verifier.
type signer struct{ key *rsa.PrivateKey }

// dkimKeyBits is what RFC 8301 section 3.2 asks for.
const dkimKeyBits = 2048

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, dkimKeyBits)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key}
}

// sign puts a signature field on top of a message with CR LF line ends.
func (k *signer) sign(t *testing.T, raw []byte, s signing) []byte {
	t.Helper()
	header, body := splitRaw(raw)
	canonical, canon := simpleField, "simple/simple"
	if s.relaxed {
		canonical, canon = relaxedField, "relaxed/relaxed"
	}
	bodyHash := sha256.Sum256(canonicalBody(body, s.relaxed))
	field := s.layout
	if field == "" {
		field = plainLayout
	}
	for tag, value := range map[string]string{
		"c": canon, "h": foldedNames(s.fields), "bh": base64.StdEncoding.EncodeToString(bodyHash[:]),
	} {
		field = setTag(field, tag, value)
	}
	hash := sha256.New()
	for _, f := range pick(header, s.fields) {
		hash.Write([]byte(canonical(f)))
	}
	hash.Write([]byte(strings.TrimSuffix(canonical(field), "\r\n"))) // section 3.7
	signature, err := rsa.SignPKCS1v15(rand.Reader, k.key, crypto.SHA256, hash.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(setTag(field, "b", foldedBase64(signature))), raw...)
}

// setTag gives a tag of a signature field that has none its value.
func setTag(field, tag, value string) string {
	empty := regexp.MustCompile(`([;:\s]` + tag + `=)(;|\r\n$)`)
	return empty.ReplaceAllString(field, "${1}"+value+"${2}")
}

// splitRaw splits a message into its fields, each with its line ends, and its body.
func splitRaw(raw []byte) (fields []string, body []byte) {
	header, body := lab.SplitMessage(raw)
	for _, f := range header {
		fields = append(fields, f.String()+"\r\n")
	}
	return fields, body
}

func fieldName(field string) string {
	name, _, _ := strings.Cut(field, ":")
	return strings.ToLower(strings.TrimRight(name, " \t"))
}

// pick returns the fields to be hashed: of several with one name the last one
// first, and nothing for a name of which none is left (section 5.4.2).
func pick(header, names []string) []string {
	left := slices.Clone(header)
	var picked []string
	for _, name := range names {
		for i := len(left) - 1; i >= 0; i-- {
			if fieldName(left[i]) == strings.ToLower(name) {
				picked = append(picked, left[i])
				left = slices.Delete(left, i, i+1)
				break
			}
		}
	}
	return picked
}

func simpleField(field string) string { return field } // section 3.4.1

var blanks = regexp.MustCompile(`[ \t]+`)

// relaxedField is section 3.4.2.
func relaxedField(field string) string {
	_, value, _ := strings.Cut(field, ":")
	value = blanks.ReplaceAllString(strings.ReplaceAll(value, "\r\n", ""), " ")
	return fieldName(field) + ":" + strings.Trim(value, " ") + "\r\n"
}

// canonicalBody is sections 3.4.3 and 3.4.4.
func canonicalBody(body []byte, relaxed bool) []byte {
	if relaxed {
		var out []byte
		for line := range bytes.Lines(body) {
			text := bytes.TrimSuffix(line, []byte("\r\n"))
			out = append(out, bytes.TrimRight(blanks.ReplaceAll(text, []byte(" ")), " ")...)
			out = append(out, "\r\n"...)
		}
		body = out
	}
	for bytes.HasSuffix(body, []byte("\r\n\r\n")) {
		body = body[:len(body)-len("\r\n")]
	}
	switch {
	case relaxed && string(body) == "\r\n":
		return nil
	case !relaxed && len(body) == 0:
		return []byte("\r\n")
	}
	return body
}

// foldedNames writes h=, some names in a line.
func foldedNames(names []string) string {
	const inLine = 8
	var lines []string
	for part := range slices.Chunk(names, inLine) {
		lines = append(lines, strings.Join(part, ":"))
	}
	return strings.Join(lines, ":\r\n\t ")
}

// foldedBase64 writes b=, 72 characters in a line.
func foldedBase64(signature []byte) string {
	const inLine = 72
	var b strings.Builder
	for text := base64.StdEncoding.EncodeToString(signature); text != ""; {
		n := min(inLine, len(text))
		b.WriteString(text[:n])
		if text = text[n:]; text != "" {
			b.WriteString("\r\n\t")
		}
	}
	return b.String()
}
