package milter

import (
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
