package milter

// Envelope is what the MTA said about a message before its content.
type Envelope struct {
	Client     Client
	TLS        TLS
	Auth       Auth
	Hostname   string // the MTA's own name, macro {j}; empty if not told
	DaemonName string // macro {daemon_name}: the MTA's listener; empty if not told
	Protocol   string // macro {r}: SMTP, ESMTP, …; empty if not told (Postfix never does)
	QueueID    string // macro {i}, unchecked bytes of the MTA; empty if not told
	Sender     Path   // reverse-path
	Recipients []Path // forward-paths, in the order of the RCPT commands
	// UTF8 says that the message may hold UTF-8 in addresses and header: MAIL had the
	// keyword SMTPUTF8 (RFC 6531).
	UTF8 bool
	// CanQuarantine says that the MTA offers a quarantine of its own
	// (SMFIF_QUARANTINE): without it a Quarantine change cannot be made.
	CanQuarantine bool
}

// Client is the SMTP client of a connection as the MTA sees it. All of it but
// the address comes from outside and is unchecked.
type Client struct {
	Helo string // the last HELO or EHLO name; empty if there was none
	Name string // verified name (FCrDNS), or "unknown"; empty if not told
	// Address is a valid IPv4 or IPv6 address in its usual text form, without
	// brackets or a prefix "IPv6:"; empty for a local client.
	Address string
	Port    uint16 // 0 if not told
}

// TLS is what the MTA told about the encryption of a connection; empty strings
// where there is none.
type TLS struct {
	Version    string // macro {tls_version}
	Cipher     string // macro {cipher}
	CipherBits string // macro {cipher_bits}
	Verify     string // macro {verify}
}

// Auth is what the MTA told about SMTP AUTH for one message; empty strings where
// there was none.
type Auth struct {
	Type   string // macro {auth_type}: the SASL mechanism
	Authen string // macro {auth_authen}: the user
	SSF    string // macro {auth_ssf}: bits of the security layer
}
