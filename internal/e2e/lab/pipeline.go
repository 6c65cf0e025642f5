package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Where things are inside the lab.
const (
	MilterSocket = "/var/amavis/amavis-milter.sock" // as in contrib/sendmail
	RelaySocket  = AmavisHome + "/relay.sock"       // the recording relay to amavisd
	SpoolDir     = AmavisHome + "/milter"           // where the milter keeps mail
)

// Pipeline is the whole way of a mail: sendmail, the milter, the recording
// relay, amavisd with SpamAssassin and clamd, and the sink where sendmail
// delivers.
type Pipeline struct {
	Syslog   *Syslog
	Sink     *Sink
	Clamd    *Process
	Amavisd  *Amavisd
	Relay    *Relay
	Milter   *Milter
	Sendmail *Process

	contrib, binary string
}

// StartPipeline starts everything and returns when sendmail takes mail. The
// configurations that an administrator would install come from the folder
// contrib; binary is the program under test, installed
// as an administrator would install it. It works inside a lab only.
func StartPipeline(contrib, binary string, profile Profile) (*Pipeline, error) {
	p := &Pipeline{contrib: contrib, binary: binary}
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
	_, port, err := net.SplitHostPort(p.Sink.Address())
	if err != nil {
		return err
	}
	p.Sendmail, err = StartSendmail(filepath.Join(p.contrib, "sendmail/amavis-milter.m4"), port)
	return err
}

// UseProfile restarts amavisd with another profile.
func (p *Pipeline) UseProfile(profile Profile) (err error) {
	if err := p.Amavisd.Stop(); err != nil {
		return err
	}
	p.Amavisd, err = StartAmavisd(filepath.Join(p.contrib, "amavisd/amavisd.conf-milter"), profile)
	return err
}

func (p *Pipeline) startService() (*Milter, error) {
	return StartService(p.contrib, p.binary, "-S local:"+RelaySocket+" -w "+AmavisHome)
}

// RestartMilter runs the milter as a service again, whatever it runs as now.
func (p *Pipeline) RestartMilter() (err error) {
	if err := p.Milter.Stop(); err != nil {
		return err
	}
	p.Milter, err = p.startService()
	return err
}

// UseForeground runs the milter in the foreground on the same socket, without the
// relay between it and amavisd, and with these options besides.
func (p *Pipeline) UseForeground(binary string, args ...string) (err error) {
	if err := p.Milter.Stop(); err != nil {
		return err
	}
	args = append([]string{"-p", "local:" + MilterSocket, "-S", "local:" + AmavisdSocket, "-w", AmavisHome}, args...)
	p.Milter, err = StartForeground(binary, "unix", MilterSocket, args...)
	return err
}

// Flush returns when sendmail has delivered all that it has taken.
func (p *Pipeline) Flush() error {
	return Poll(startTimeout, "sendmail's queue to be empty", func() error {
		names, err := filepath.Glob("/var/spool/mqueue/*")
		if err != nil || len(names) == 0 {
			return err
		}
		return fmt.Errorf("%d files in it", len(names))
	})
}

// Spool lists what lies in the milter's spool, its lock left out.
func (p *Pipeline) Spool() ([]string, error) {
	entries, err := os.ReadDir(SpoolDir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.Name() != ".lock" {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// Close stops everything, the MTA first.
func (p *Pipeline) Close() error {
	var errs []error
	errs = append(errs, p.Sendmail.Stop(), p.Milter.Stop())
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
