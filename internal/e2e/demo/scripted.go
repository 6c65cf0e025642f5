package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

const scriptedIntro = `
******************************************************************************
*  NO REAL MAIL SERVERS HERE. This is the small demonstration: amavis-milter
*  itself is real, but the MTA and the scanner are the scripts of the tests.
*  Why: %s.
*  The whole one needs Linux, root, apt and a Debian archive: make demo
******************************************************************************
`

// verdicts is what the scripted scanner answers to the mails, in order.
var verdicts = []ampdptest.Handler{
	ampdptest.Continue(ampdptest.Line("insheader", "0", "X-Spam-Flag", "NO")),
	ampdptest.Continue(ampdptest.Line("chgheader", "1", "subject", "***SPAM*** Special offer"), ampdptest.Line("insheader", "0", "X-Spam-Flag", "YES")),
	ampdptest.Verdict("reject", "554", "5.7.0", "Reject, id=3 - INFECTED: Eicar-Signature"),
	ampdptest.Verdict("reject", "554", "5.7.0", "Reject, id=4 - INFECTED: Eicar-Signature"),
	ampdptest.Continue(ampdptest.Line("delrcpt", "<"+bob+">"), ampdptest.Line("insheader", "0", "X-Spam-Flag", "YES")),
}

// runScripted shows the program between a scripted MTA and a scripted amavisd.
func runScripted(binary, why string) (err error) {
	fmt.Printf(scriptedIntro, why)
	dir, err := os.MkdirTemp("", "milter-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Whoever interrupts us, or stops reading, is to find nothing left either.
	signal.Ignore(syscall.SIGPIPE)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	if err := errors.Join(os.Chmod(dir, 0o750), lab.GiveToAmavis(dir)); err != nil {
		return err
	}
	socket, scannerSocket := filepath.Join(dir, "milter.sock"), filepath.Join(dir, "amavisd.sock")
	scanner, err := ampdptest.Listen("unix", scannerSocket, ampdptest.Script(verdicts...))
	if err != nil {
		return err
	}
	defer scanner.Close()
	if err := os.Chmod(scannerSocket, 0o666); err != nil {
		return err
	}
	milter, err := lab.StartForeground(binary, "unix", socket, "-p", "local:"+socket, "-S", "local:"+scannerSocket, "-w", dir, "--log-target", "stderr")
	if err != nil {
		return err
	}
	all, err := mails()
	if err == nil {
		err = sendScripted(socket, all, interrupted)
	}
	err = errors.Join(err, milter.Stop())
	title("What amavis-milter logged")
	block("(on stderr)", strings.Split(strings.TrimSpace(milter.Output()), "\n"))
	if err == nil {
		fmt.Print(outro)
	}
	return err
}

// sendScripted plays the MTA for every mail, over one connection.
func sendScripted(socket string, all []mail, interrupted <-chan os.Signal) error {
	conn, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	mta, err := miltertest.New(conn, miltertest.Sendmail817)
	if err != nil {
		return err
	}
	if err := mta.Greet(); err != nil {
		return err
	}
	for i, m := range all {
		select {
		case s := <-interrupted:
			return fmt.Errorf("ended by signal: %v", s)
		default:
		}
		title(fmt.Sprintf("%d. %s", i+1, m.title))
		fields, body := lab.SplitMessage(m.raw)
		message := miltertest.Message{QueueID: fmt.Sprintf("DEMO%d", i+1), Sender: "<" + sender + ">", Body: body}
		for _, recipient := range m.recipients {
			message.Recipients = append(message.Recipients, "<"+recipient+">")
		}
		for _, field := range fields {
			message.Header = append(message.Header, [2]string{field.Name, field.Value})
		}
		answer, err := mta.SendMessage(message)
		if err != nil {
			return err
		}
		block("amavis-milter told the MTA:", []string{answer.String()})
		refused := answer.Code == 'y' || answer.Code == 'r'
		if refused != (m.code != 250) {
			return fmt.Errorf("%q: the verdict was %q", m.title, answer)
		}
	}
	return mta.Quit()
}
