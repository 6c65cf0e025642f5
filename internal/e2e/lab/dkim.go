package lab

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
)

//go:embed dkim_verify.pl
var dkimVerify string

// VerifyDKIM has Perl's Mail::DKIM, which amavisd uses as well, verify the DKIM
// signatures of messages with CR LF line ends, whoever they say signed them, with
// one key. It returns the results of each message's signatures, from the top: "pass",
// or words that begin otherwise. It works inside a lab only.
func VerifyDKIM(key *rsa.PublicKey, messages [][]byte) ([][]string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("verifying DKIM signatures: %w", err)
	}
	var in bytes.Buffer
	for _, m := range messages {
		fmt.Fprintf(&in, "%d\n%s", len(m), m)
	}
	cmd := exec.Command("perl", "-e", dkimVerify, base64.StdEncoding.EncodeToString(der))
	cmd.Dir = "/"
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("verifying DKIM signatures: %w: %s", err, lastLines(stderr.String(), 5))
	}
	var results [][]string
	for line := range strings.Lines(string(out)) {
		var result []string
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			result = strings.Split(line, "\t")
		}
		results = append(results, result)
	}
	if len(results) != len(messages) {
		return nil, fmt.Errorf("verifying DKIM signatures: %d results for %d messages: %s", len(results), len(messages), lastLines(stderr.String(), 5))
	}
	return results, nil
}
