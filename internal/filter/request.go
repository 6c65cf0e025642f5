package filter

import (
	"slices"

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
		PolicyBanks:    f.policyBanks(env),
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

// policyBanks returns the policy banks to load, each once. amavisd loads them in
// this order, and what a later one sets counts: the name of the MTA's listener
// (option -B); what the client's authentication gives, from the general to the
// special; those of the administrator's rules that fit, in his order. A name that
// comes twice keeps its last place, since the last loading is the one that shows.
func (f *Filter) policyBanks(env *milter.Envelope) []string {
	var banks []string
	add := func(name string) {
		if !ampdp.ValidPolicyBank(name) {
			return
		}
		banks = slices.DeleteFunc(banks, func(b string) bool { return b == name })
		banks = append(banks, name)
	}
	if f.opt.DaemonPolicyBank {
		add(env.DaemonName)
	}
	for _, name := range authBanks(env) {
		add(name)
	}
	for _, b := range f.opt.PolicyBanks {
		// The size is 0 for every bank: the request is about a whole message.
		if b.Match.fits(env, 0) {
			add(b.Name)
		}
	}
	return banks
}

// authBanks returns the names SMTP_AUTH, SMTP_AUTH_<MECH> and
// SMTP_AUTH_<MECH>_<BITS> for a client that has authenticated.
func authBanks(env *milter.Envelope) []string {
	const auth = "SMTP_AUTH"
	mech := auth + "_" + env.Auth.Type
	switch {
	case !authenticated(env):
		return nil
	case !ampdp.ValidPolicyBank(env.Auth.Type):
		return []string{auth}
	case !isNumber(env.Auth.SSF):
		return []string{auth, mech}
	}
	return []string{auth, mech, mech + "_" + env.Auth.SSF}
}
