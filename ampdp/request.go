package ampdp

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What keeps a request from being encoded.
var (
	ErrNoSender        = errors.New("the request has no sender (the null sender is <>)")
	ErrNoRecipient     = errors.New("the request has no recipient")
	ErrNoTempDir       = errors.New("the request has no temporary directory")
	ErrRelativePath    = errors.New("the path is not absolute")
	ErrCareOf          = errors.New(`delivery_care_of is neither "client" nor "server"`)
	ErrRequestTooLarge = errors.New("the request is too large")
)

// The values of Request.DeliveryCareOf.
const (
	// CareOfClient: amavisd only gives its opinion, the client acts on it.
	CareOfClient = "client"

	// CareOfServer: amavisd itself forwards the mail that it lets pass. A request
	// that was sent whole must then not be sent again: the mail may be on its way.
	CareOfServer = "server"
)

// Request asks for a verdict on one message. An empty field is an attribute that
// is not sent, unless its comment says otherwise. Values may hold any bytes: they
// are escaped, never refused.
type Request struct {
	QueueID       string // "queue_id": the MTA's
	ProtocolName  string // "protocol_name": ESMTP, SMTP, LMTP, …
	HeloName      string // "helo_name": argument of HELO, EHLO or LHLO
	ClientName    string // "client_name": verified DNS name of the SMTP client
	ClientAddress string // "client_address": IPv4 or IPv6 address of the SMTP client
	ClientPort    uint16 // "client_port"; 0 is not sent

	// Sender is the reverse-path ("sender", RFC 5321 section 4.1.2) with its
	// angle brackets, and required; the null sender is "<>".
	Sender string

	// Recipients are the forward-paths ("recipient") in the order of the RCPT
	// commands, at least one. amavisd names them in delrcpt as they are given here.
	// Brackets that Sender or a recipient lacks are added, nothing else is changed.
	Recipients []string

	// TempDir is the absolute path of the directory in which amavisd unpacks
	// ("tempdir"), required. amavisd refuses one that is not below its $TEMPBASE or
	// $MYHOME, or whose components have bytes other than A-Z a-z 0-9 _ . -.
	TempDir string

	// MailFile is the absolute path of the message, with LF line ends
	// ("mail_file"). Empty stands for email.txt in TempDir; it is always sent.
	MailFile string

	// DeliveryCareOf is CareOfClient, CareOfServer, or empty for CareOfClient
	// ("delivery_care_of"); it is always sent.
	DeliveryCareOf string

	// PolicyBanks are the policy banks to load, in this order ("policy_bank"). A
	// name that ValidPolicyBank refuses is left out as a whole: amavisd takes the
	// value apart at commas after decoding it, so a comma in a name, even an
	// escaped one, would load another bank, and so might a name that is shortened.
	PolicyBanks []string
}

// ValidPolicyBank reports whether name can be sent as the name of a policy bank:
// it is not empty, has neither a comma nor a control byte, and no space at either
// end (amavisd would take that off).
func ValidPolicyBank(name string) bool {
	if name == "" || name[0] == ' ' || name[len(name)-1] == ' ' {
		return false
	}
	for i := range len(name) {
		if b := name[i]; b < ' ' || b == 0x7f || b == ',' {
			return false
		}
	}
	return true
}

// AppendTo appends the whole encoded request, its empty line included, and returns
// the extended slice. On an error dst is returned as it was. The errors are those
// of this file: ErrNoSender, ErrNoRecipient, ErrNoTempDir, ErrRelativePath,
// ErrCareOf, and ErrRequestTooLarge beyond MaxRequestBytes.
func (r *Request) AppendTo(dst []byte) ([]byte, error) {
	if err := r.check(); err != nil {
		return dst, err
	}
	start := len(dst)
	// request must come first; the order of the others is free. amavisd ignores
	// version_client, but it is the protocol's way to tell what we understand.
	b := appendAttribute(dst, "request", "AM.PDP")
	b = appendAttribute(b, "version_client", "2")
	b = appendOptional(b, "protocol_name", r.ProtocolName)
	b = appendOptional(b, "helo_name", r.HeloName)
	b = appendOptional(b, "client_name", r.ClientName)
	b = appendOptional(b, "client_address", r.ClientAddress)
	if r.ClientPort != 0 {
		b = appendAttribute(b, "client_port", strconv.Itoa(int(r.ClientPort)))
	}
	b = appendOptional(b, "queue_id", r.QueueID)
	b = appendAttribute(b, "tempdir", r.TempDir)
	// The server's default would be to remove the directory under our feet.
	b = appendAttribute(b, "tempdir_removed_by", "client")
	b = appendAttribute(b, "mail_file", r.mailFile())
	b = appendAttribute(b, "delivery_care_of", r.careOf())
	b = appendPolicyBanks(b, r.PolicyBanks)
	b = appendAttribute(b, "sender", withBrackets(r.Sender))
	for _, recipient := range r.Recipients {
		b = appendAttribute(b, "recipient", withBrackets(recipient))
		if len(b)-start > MaxRequestBytes {
			break
		}
	}
	b = append(b, '\r', '\n')
	if len(b)-start > MaxRequestBytes {
		return dst, fmt.Errorf("%w: more than %d bytes for %d recipients", ErrRequestTooLarge, MaxRequestBytes, len(r.Recipients))
	}
	return b, nil
}

func (r *Request) check() error {
	switch {
	case r.Sender == "":
		return ErrNoSender
	case len(r.Recipients) == 0:
		return ErrNoRecipient
	case r.TempDir == "":
		return ErrNoTempDir
	case r.TempDir[0] != '/':
		return fmt.Errorf("tempdir %q: %w", r.TempDir, ErrRelativePath)
	case r.MailFile != "" && r.MailFile[0] != '/':
		return fmt.Errorf("mail_file %q: %w", r.MailFile, ErrRelativePath)
	case r.careOf() != CareOfClient && r.careOf() != CareOfServer:
		return fmt.Errorf("%w: %q", ErrCareOf, r.DeliveryCareOf)
	}
	for i, recipient := range r.Recipients {
		if recipient == "" {
			return fmt.Errorf("%w: number %d of %d is empty", ErrNoRecipient, i+1, len(r.Recipients))
		}
	}
	return nil
}

func (r *Request) mailFile() string {
	if r.MailFile == "" {
		return strings.TrimSuffix(r.TempDir, "/") + "/email.txt"
	}
	return r.MailFile
}

func (r *Request) careOf() string {
	if r.DeliveryCareOf == "" {
		return CareOfClient
	}
	return r.DeliveryCareOf
}

func appendOptional(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendAttribute(dst, name, value)
}

// appendPolicyBanks appends policy_bank with the valid ones of names, or nothing
// if there are none. The commas between the names stay literal.
func appendPolicyBanks(dst []byte, names []string) []byte {
	if len(names) == 0 {
		return dst
	}
	valid := make([]string, 0, len(names))
	for _, name := range names {
		if ValidPolicyBank(name) {
			valid = append(valid, name)
		}
	}
	return appendOptional(dst, "policy_bank", strings.Join(valid, ","))
}

// withBrackets adds the angle brackets of a path where they are missing: amavisd
// does the same, but delrcpt has to match what was sent.
func withBrackets(path string) string {
	if len(path) > 1 && path[0] == '<' && path[len(path)-1] == '>' {
		return path
	}
	return "<" + path + ">"
}
