package milter

import (
	"bytes"
	"fmt"

	gomilter "github.com/d--j/go-milter"
)

// wantedActions are the changes that we may make to a message (SMFIF_*).
const wantedActions = gomilter.OptAddHeader | gomilter.OptChangeHeader |
	gomilter.OptAddRcpt | gomilter.OptRemoveRcpt | gomilter.OptQuarantine

// wantedProtocol is what we ask of the MTA (SMFIP_*): no wait for an answer before
// the end of the message, header values with their leading space, and no
// commands that it does not know itself. DATA is wanted: with it Postfix sends
// the queue id.
const wantedProtocol = gomilter.OptNoReplies | gomilter.OptHeaderLeadingSpace | gomilter.OptNoUnknown

// wantedMacros are all macros that are used, by the stage at which they are known
// at the latest. A list replaces the one that the MTA was configured with
// (SMFIF_SETSYMLIST), so nothing may be missing here.
var wantedMacros = map[gomilter.MacroStage][]gomilter.MacroName{
	gomilter.StageConnect: {"j", "{client_name}", "{client_port}", "{client_resolve}", "{daemon_name}"},
	gomilter.StageHelo:    {"{tls_version}", "{cipher}", "{cipher_bits}", "{verify}"},
	gomilter.StageMail: {"i", "r", "{auth_type}", "{auth_authen}", "{auth_ssf}",
		"{tls_version}", "{cipher}", "{cipher_bits}", "{verify}", "{mail_addr}"},
	gomilter.StageRcpt: {"{rcpt_addr}"},
	gomilter.StageData: {"i"},
	gomilter.StageEOH:  {"i"},
	gomilter.StageEOM:  {"i"},
}

// Limits of a macro's value. A longer one counts as not told.
const (
	// MaxMacroBytes is for {mail_addr} and {rcpt_addr}.
	MaxMacroBytes = 4 << 10
	// maxShortMacro is for all others. The library keeps them per command and connection.
	maxShortMacro = 512
)

// macroNames are the names of wantedMacros, and those of one letter with braces as
// well: libmilter's smfi_getsymval knows both. Each has a bit of its own.
var macroNames = func() map[string]uint64 {
	names := map[string]uint64{}
	add := func(name string) {
		if names[name] == 0 {
			names[name] = 1 << len(names)
		}
	}
	for _, list := range wantedMacros {
		for _, name := range list {
			add(name)
			if len(name) == 1 {
				add("{" + name + "}")
			}
		}
	}
	return names
}()

// keepMacros returns the data of an SMFIC_MACRO frame, the command and then names
// and values in turn, with nothing left but what is used, each name once: an MTA to which
// SETSYMLIST means nothing sends more, and the library keeps all of it as long as
// the connection lives. Of a name that comes again, which no MTA does, the first counts.
func keepMacros(data []byte) []byte {
	kept := []byte{data[0]}
	var seen uint64
	for rest := data[1:]; len(rest) > 0; {
		var name, value []byte
		name, rest, _ = bytes.Cut(rest, []byte{0})
		value, rest, _ = bytes.Cut(rest, []byte{0})
		bit := macroNames[string(name)]
		if bit == 0 || seen&bit != 0 || len(value) > maxMacro(string(name)) {
			continue
		}
		seen |= bit
		kept = append(append(kept, name...), 0)
		kept = append(append(kept, value...), 0)
	}
	return kept
}

// maxMacro returns how many bytes the value of a macro may have.
func maxMacro(name string) int {
	if name == "{mail_addr}" || name == "{rcpt_addr}" {
		return MaxMacroBytes
	}
	return maxShortMacro
}

// minVersion is the oldest protocol version spoken (sendmail 8.11).
const minVersion = 2

// negotiate accepts from the MTA's offer what we want and refuses nothing but a
// version older than any MTA in use: an action that is not offered is left out.
func negotiate(mtaVersion, ourVersion uint32, mtaActions, ourActions gomilter.OptAction,
	mtaProtocol, ourProtocol gomilter.OptProtocol, _ gomilter.DataSize,
) (uint32, gomilter.OptAction, gomilter.OptProtocol, gomilter.DataSize, error) {
	if mtaVersion < minVersion {
		return 0, 0, 0, 0, fmt.Errorf("milter protocol version %d is too old", mtaVersion)
	}
	return min(mtaVersion, ourVersion), mtaActions & ourActions, mtaProtocol & ourProtocol, gomilter.DataSize64K, nil
}

// libraryServer makes the library's server for one connection whose offer is
// known.
func libraryServer(o offer, s *session) *gomilter.Server {
	protocol := gomilter.OptProtocol(wantedProtocol)
	if s.refusing {
		protocol &^= gomilter.OptNoMailReply // there it is refused
	}
	options := []gomilter.Option{
		gomilter.WithActions(wantedActions),
		gomilter.WithProtocols(protocol),
		gomilter.WithNegotiationCallback(negotiate),
		gomilter.WithMilter(func() gomilter.Milter { return s }),
		// The guard has the deadlines.
		gomilter.WithReadTimeout(0),
		gomilter.WithWriteTimeout(0),
	}
	if gomilter.OptAction(o.actions)&gomilter.OptSetMacros != 0 {
		for stage, names := range wantedMacros {
			options = append(options, gomilter.WithMacroRequest(stage, names))
		}
	}
	return gomilter.NewServer(options...)
}

// missingActions names the wanted actions that the MTA does not offer.
func missingActions(o offer) []string {
	var missing []string
	for _, a := range []struct {
		bit  gomilter.OptAction
		name string
	}{
		{gomilter.OptAddHeader, "SMFIF_ADDHDRS"},
		{gomilter.OptChangeHeader, "SMFIF_CHGHDRS"},
		{gomilter.OptAddRcpt, "SMFIF_ADDRCPT"},
		{gomilter.OptRemoveRcpt, "SMFIF_DELRCPT"},
	} {
		if gomilter.OptAction(o.actions)&a.bit == 0 {
			missing = append(missing, a.name)
		}
	}
	return missing
}
