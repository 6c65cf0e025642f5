package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Where things are inside the lab.
const (
	MilterSocket = "/var/amavis/amavis-milter.sock" // as in contrib/sendmail
	RelaySocket  = AmavisHome + "/relay.sock"       // the recording relay to amavisd
	SpoolDir     = AmavisHome + "/milter"           // where the milter keeps mail
)

// Pipeline is the whole way of a mail: an MTA, the milter, the recording relay,
// amavisd with SpamAssassin and clamd, and the sink where the MTA delivers.
type Pipeline struct {
	Syslog  *Syslog
	Sink    *Sink
	Clamd   *Process
	Amavisd *Amavisd
	Relay   *Relay
	Milter  *Milter
	MTA     *MTA // whose milter Milter is; see UseMTA

	contrib, binary string
	running         map[*MTA]*Process
}

// StartPipeline starts everything and returns when the MTA takes mail. The
// configurations that an administrator would install come from the folder
// contrib; binary is the program under test, installed
// as an administrator would install it. It works inside a lab only.
func StartPipeline(contrib, binary string, mta *MTA, profile Profile) (*Pipeline, error) {
	p := &Pipeline{contrib: contrib, binary: binary, MTA: mta, running: map[*MTA]*Process{}}
	if err := p.start(profile); err != nil {
		err = errors.Join(err, p.Close())
		return nil, err
	}
	return p, nil
}

func (p *Pipeline) start(profile Profile) (err error) {
	if p.Syslog, err = StartSyslog(); err != nil {
		return err
	}
	if p.Sink, err = StartSink("127.0.0.1:0"); err != nil {
		return err
	}
	if p.Clamd, err = StartClamd(); err != nil {
		return err
	}
	if p.Amavisd, err = StartAmavisd(filepath.Join(p.contrib, "amavisd/amavisd.conf-milter"), profile); err != nil {
		return err
	}
	if p.Relay, err = StartRelay(RelaySocket, AmavisdSocket); err != nil {
		return err
	}
	if p.Milter, err = p.startService(); err != nil {
		return err
	}
	return p.startMTA(p.MTA)
}

// startMTA runs an MTA unless it runs already.
func (p *Pipeline) startMTA(mta *MTA) error {
	if p.running[mta] != nil {
		return nil
	}
	_, port, err := net.SplitHostPort(p.Sink.Address())
	if err != nil {
		return err
	}
	process, err := mta.start(p.contrib, port, answers("tcp", mta.Address))
	if err != nil {
		return err
	}
	p.running[mta] = process
	return nil
}

// UseMTA runs the milter for another MTA. The one before runs on, without a milter.
func (p *Pipeline) UseMTA(mta *MTA) error {
	if p.MTA == mta {
		return nil
	}
	p.MTA = mta
	if err := p.RestartMilter(); err != nil {
		return err
	}
	return p.startMTA(mta)
}

// UseProfile restarts amavisd with another profile.
func (p *Pipeline) UseProfile(profile Profile) (err error) {
	if err := p.Amavisd.Stop(); err != nil {
		return err
	}
	p.Amavisd, err = StartAmavisd(filepath.Join(p.contrib, "amavisd/amavisd.conf-milter"), profile)
	return err
}

func (p *Pipeline) startService(flags ...string) (*Milter, error) {
	flags = append([]string{"-S local:" + RelaySocket, "-w " + AmavisHome}, flags...)
	if group := p.MTA.socketGroup; group != "" {
		flags = append(flags, "-g "+group)
	}
	return StartService(p.contrib, p.binary, p.MTA.MilterSocket, strings.Join(flags, " "))
}

// RestartMilter runs the milter as a service again, whatever it runs as now, with
// these flags besides the usual ones.
func (p *Pipeline) RestartMilter(flags ...string) (err error) {
	if err := p.Milter.Stop(); err != nil {
		return err
	}
	p.Milter, err = p.startService(flags...)
	return err
}

// UseForeground runs the milter in the foreground on the MTA's socket, without the
// relay between it and amavisd, and with these options besides.
func (p *Pipeline) UseForeground(binary string, args ...string) error {
	return p.UseProgram("amavis-milter", foreground(p.MTA, binary, args))
}

// StartBeside runs one more milter, as UseForeground does, for another MTA than that
// of the pipeline, and that MTA unless it runs. The milter is the caller's to stop.
func (p *Pipeline) StartBeside(mta *MTA, binary string, args ...string) (*Milter, error) {
	milter, err := startMilter("amavis-milter", foreground(mta, binary, args), "unix", mta.MilterSocket)
	if err != nil {
		return nil, err
	}
	return milter, p.startMTA(mta)
}

// foreground is the program for one MTA.
func foreground(mta *MTA, binary string, args []string) *exec.Cmd {
	all := []string{"-f", "-p", "local:" + mta.MilterSocket, "-S", "local:" + AmavisdSocket, "-w", AmavisHome}
	if mta.socketGroup != "" {
		all = append(all, "-g", mta.socketGroup)
	}
	return exec.Command(binary, append(all, args...)...)
}

// UseProgram runs a milter as account amavis in the foreground, which must serve
// the MTA's socket, instead of the one that runs now.
func (p *Pipeline) UseProgram(name string, cmd *exec.Cmd) (err error) {
	if err := p.Milter.Stop(); err != nil {
		return err
	}
	if err := os.Remove(p.MTA.MilterSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	p.Milter, err = startMilter(name, cmd, "unix", p.MTA.MilterSocket)
	return err
}

// Flush returns when the MTAs have delivered all that they have taken.
func (p *Pipeline) Flush() error {
	return Poll(startTimeout, "the MTAs' queues to be empty", func() error {
		for mta := range p.running {
			names, err := mta.Queued()
			if err != nil {
				return err
			}
			if len(names) > 0 {
				return fmt.Errorf("%d files in that of %s", len(names), mta.Name)
			}
		}
		return nil
	})
}

// FlushMessage returns when the MTA has delivered the message with this queue id.
func (p *Pipeline) FlushMessage(queueID string) error {
	return Poll(startTimeout, p.MTA.Name+" to deliver "+queueID, func() error {
		names, err := p.MTA.Queued()
		for _, name := range names {
			if strings.Contains(filepath.Base(name), queueID) {
				return fmt.Errorf("%s is in its queue", name)
			}
		}
		return err
	})
}

// Spool lists what lies in the milter's spool, its lock left out.
func (p *Pipeline) Spool() ([]string, error) { return SpoolOf(AmavisHome) }

// Close stops everything, the MTA first.
func (p *Pipeline) Close() error {
	var errs []error
	for _, process := range p.running {
		errs = append(errs, process.Stop())
	}
	errs = append(errs, p.Milter.Stop())
	if p.Relay != nil {
		errs = append(errs, p.Relay.Close())
	}
	if p.Amavisd != nil {
		errs = append(errs, p.Amavisd.Stop())
	}
	errs = append(errs, p.Clamd.Stop())
	if p.Sink != nil {
		errs = append(errs, p.Sink.Close())
	}
	if p.Syslog != nil {
		errs = append(errs, p.Syslog.Close())
	}
	return errors.Join(errs...)
}
