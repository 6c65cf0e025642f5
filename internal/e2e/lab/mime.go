package lab

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"mime/quotedprintable"
	"strings"
)

// Part is one part of a MIME mail (RFC 2046).
type Part struct {
	Type     string // Content-Type, with its parameters
	Encoding string // "base64", "quoted-printable"; anything else is sent as it is
	Name     string // of the file that it is; empty if it is none
	Content  []byte // not yet encoded
}

// String returns the part with its header, its lines ended by CR LF.
func (p Part) String() string {
	var text strings.Builder
	text.WriteString("Content-Type: " + p.Type + "\r\n")
	if p.Encoding != "" {
		text.WriteString("Content-Transfer-Encoding: " + p.Encoding + "\r\n")
	}
	if p.Name != "" {
		text.WriteString("Content-Disposition: attachment; filename=\"" + p.Name + "\"\r\n")
	}
	text.WriteString("\r\n")
	text.Write(p.encoded())
	return text.String()
}

func (p Part) encoded() []byte {
	switch p.Encoding {
	case "base64":
		return Base64(p.Content)
	case "quoted-printable":
		var coded bytes.Buffer
		w := quotedprintable.NewWriter(&coded)
		w.Write(p.Content) // to memory: nothing can fail
		w.Close()
		return append(coded.Bytes(), "\r\n"...)
	default:
		return crlf(p.Content)
	}
}

// Whole returns a mail that is one part.
func Whole(header string, p Part) []byte { return []byte(header + p.String()) }

// Multipart returns a part of a multipart type, such as "mixed", made of parts. Its
// boundary must not be that of any part within.
func Multipart(subtype, boundary string, parts ...Part) Part {
	var content strings.Builder
	for _, part := range parts {
		content.WriteString("--" + boundary + "\r\n" + part.String())
	}
	content.WriteString("--" + boundary + "--\r\n")
	return Part{Type: "multipart/" + subtype + "; boundary=\"" + boundary + "\"", Content: []byte(content.String())}
}

// Base64 encodes as MIME has it: in lines of 76 characters.
func Base64(content []byte) []byte {
	const width = 76 // characters, RFC 2045 section 6.8
	text := base64.StdEncoding.EncodeToString(content)
	var lines bytes.Buffer
	for len(text) > 0 {
		n := min(width, len(text))
		lines.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return lines.Bytes()
}

// Zip returns a zip file with one file in it.
func Zip(name string, content []byte) ([]byte, error) {
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	f, err := w.Create(name)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(content)
	err = errors.Join(err, w.Close())
	return packed.Bytes(), err
}

// TarGz returns a compressed tar file with one file in it.
func TarGz(name string, content []byte) ([]byte, error) {
	var packed bytes.Buffer
	squeezed := gzip.NewWriter(&packed)
	w := tar.NewWriter(squeezed)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	err = errors.Join(err, w.Close(), squeezed.Close())
	return packed.Bytes(), err
}

// crlf ends lines in CR LF that end in LF or CR LF.
func crlf(text []byte) []byte {
	return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
}
