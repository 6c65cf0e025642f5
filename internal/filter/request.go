package filter

import (
	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/milter"
)

// request puts together what amavisd is asked about a message whose file is file
// in the directory dir. The attributes tell the same about the client as the
// Received field does.
func (f *Filter) request(env *milter.Envelope, dir, file string) *ampdp.Request {
	r := &ampdp.Request{
		QueueID:        env.QueueID,
		ProtocolName:   protocol(env),
		HeloName:       env.Client.Helo,
		Sender:         env.Sender.String(),
		Recipients:     make([]string, len(env.Recipients)),
		TempDir:        dir,
		MailFile:       file,
		DeliveryCareOf: f.opt.DeliveryCareOf,
		PolicyBanks:    policyBanks(env, f.opt.DaemonPolicyBank),
	}
	for i, recipient := range env.Recipients {
		r.Recipients[i] = recipient.String()
	}
	if addr, ok := clientAddr(env); ok {
		r.ClientAddress = addr.String()
		r.ClientName = clientName(env)
		r.ClientPort = env.Client.Port
	}
	return r
}

// policyBanks returns the policy banks to load, from the general to the special:
// SMTP_AUTH, SMTP_AUTH_<MECH> and SMTP_AUTH_<MECH>_<BITS> for a client that has
// authenticated, and with the option -B the name of the MTA's listener.
func policyBanks(env *milter.Envelope, daemonName bool) []string {
	var banks []string
	if daemonName && ampdp.ValidPolicyBank(env.DaemonName) {
		banks = append(banks, env.DaemonName)
	}
	if !authenticated(env) {
		return banks
	}
	const auth = "SMTP_AUTH"
	banks = append(banks, auth)
	if mech := env.Auth.Type; ampdp.ValidPolicyBank(mech) {
		banks = append(banks, auth+"_"+mech)
		if isNumber(env.Auth.SSF) {
			banks = append(banks, auth+"_"+mech+"_"+env.Auth.SSF)
		}
	}
	return banks
}
