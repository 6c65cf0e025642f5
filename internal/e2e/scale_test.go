package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp/ampdptest"
	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

const (
	openConnections = 4000
	busyConnections = 100
	largeMail       = 50 << 20 // bytes
	mostMemory      = 40 << 20 // bytes, resident, at the peak
	manyMessages    = 1000
	mostGrowth      = 8 << 20 // bytes, resident, over manyMessages
	milterChunk     = 65535   // bytes; the most in one body frame
)

// alone is the program with a scripted scanner and scripted MTAs: it needs no lab.
type alone struct {
	*lab.Milter
	socket string
	spool  string
}

func startAlone(t *testing.T) *alone {
	t.Helper()
	needProgram(t)
	dir, err := os.MkdirTemp("", "milter-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := lab.GiveToAmavis(dir); err != nil {
		t.Fatal(err)
	}
	scannerSocket := filepath.Join(dir, "amavisd.sock")
	scanner, err := ampdptest.Listen("unix", scannerSocket, ampdptest.Continue())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(scanner.Close)
	if err := os.Chmod(scannerSocket, 0o666); err != nil {
		t.Fatal(err)
	}
	a := &alone{socket: filepath.Join(dir, "milter.sock"), spool: filepath.Join(dir, "milter")}
	a.Milter, err = lab.StartForeground(binary, "unix", a.socket,
		"-p", "local:"+a.socket, "-S", "local:"+scannerSocket, "-w", dir, "--log-target", "stderr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("amavis-milter said:\n%s", a.Output())
		}
	})
	return a
}

// dial opens a milter connection as sendmail does.
func (a *alone) dial() (*miltertest.MTA, error) {
	conn, err := net.Dial("unix", a.socket)
	if err != nil {
		return nil, err
	}
	mta, err := miltertest.New(conn, miltertest.Sendmail817)
	if err != nil {
		conn.Close()
		return nil, err
	}
	mta.Timeout = time.Minute // the machine may be busy
	return mta, mta.Greet()
}

func message(i int) miltertest.Message {
	return miltertest.Message{
		QueueID: fmt.Sprintf("E2E%06d", i), Sender: "<someone@remote.test>", Recipients: []string{"<user@lab.test>"},
		Header: [][2]string{{"Subject", " scale"}}, Body: bytes.Repeat([]byte("a line of text\r\n"), 64),
	}
}

// mustAccept sends a message; it must be accepted.
func mustAccept(mta *miltertest.MTA, m miltertest.Message) error {
	answer, err := mta.SendMessage(m)
	if err == nil && answer.Code != 'a' && answer.Code != 'c' {
		err = fmt.Errorf("%s: the verdict was %q", m.QueueID, answer)
	}
	return err
}

// TestManyConnections: thousands of open connections, then mail on some of them.
func TestManyConnections(t *testing.T) {
	a := startAlone(t)
	mtas := make([]*miltertest.MTA, openConnections)
	for i := range mtas {
		mta, err := a.dial()
		if err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
		defer mta.Conn.Close()
		mtas[i] = mta
	}
	if n, err := a.Descriptors(); err != nil || n < openConnections {
		t.Fatalf("the program has %d descriptors, error %v; want at least %d", n, err, openConnections)
	}
	errs := make([]error, busyConnections)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = mustAccept(mtas[i*openConnections/busyConnections], message(i)) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// TestLargeMail: the memory does not grow with the mail.
func TestLargeMail(t *testing.T) {
	a := startAlone(t)
	mta, err := a.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer mta.Conn.Close()
	if err := mta.SendUpTo(message(1), "body"); err != nil {
		t.Fatal(err)
	}
	chunk := bytes.Repeat([]byte("0123456789abcde\n"), milterChunk/16+1)[:milterChunk]
	for sent := 0; sent < largeMail; sent += len(chunk) {
		if _, err := mta.Body(chunk); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(a.spool + "/*/email.txt")
	if err != nil || len(files) != 1 {
		t.Fatalf("mail files: %q, error %v; want one", files, err)
	}
	if answer, err := mta.EOM(); err != nil || answer.Code != 'a' && answer.Code != 'c' {
		t.Fatalf("the verdict was %q, error %v", answer, err)
	}
	peak, err := a.PeakMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MB in one mail: at most %.1f MB resident", largeMail>>20, float64(peak)/(1<<20))
	if peak >= mostMemory {
		t.Errorf("at the peak %d bytes were resident, want less than %d", peak, mostMemory)
	}
}

// TestManyMessages: a third of many messages is aborted, some by RSET, some by an
// MTA that goes away; descriptors and memory stay as they were.
func TestManyMessages(t *testing.T) {
	a := startAlone(t)
	round := func(from, to int) {
		t.Helper()
		mta, err := a.dial()
		if err != nil {
			t.Fatal(err)
		}
		for i := from; i < to; i++ {
			switch i % 6 {
			case 0:
				if err := mta.SendUpTo(message(i), "eom"); err != nil {
					t.Fatal(err)
				}
				if err := mta.Abort(); err != nil {
					t.Fatal(err)
				}
			case 3:
				if err := mta.SendUpTo(message(i), "body"); err != nil {
					t.Fatal(err)
				}
				mta.Conn.Close()
				if mta, err = a.dial(); err != nil {
					t.Fatal(err)
				}
			default:
				if err := mustAccept(mta, message(i)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := mta.Quit(); err != nil {
			t.Fatal(err)
		}
		mta.Conn.Close()
	}
	round(0, manyMessages/5) // until pools and buffers are there
	idle := a.settle(t, 0)
	memory, err := a.Memory()
	if err != nil {
		t.Fatal(err)
	}
	round(0, manyMessages)
	a.settle(t, idle)
	after, err := a.Memory()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages: resident memory from %.1f MB to %.1f MB, %d descriptors", manyMessages, float64(memory)/(1<<20), float64(after)/(1<<20), idle)
	if after > memory+mostGrowth {
		t.Errorf("resident memory grew from %d to %d bytes", memory, after)
	}
}

// settle waits until the spool is empty and the number of descriptors is the
// wanted one, or, if that is 0, the same twice; it returns that number.
func (a *alone) settle(t *testing.T, want int) int {
	t.Helper()
	last := -1
	err := lab.Poll(noticeTimeout, "the program to be idle again", func() error {
		directories, err := filepath.Glob(a.spool + "/amavis-milter-*")
		if err != nil || len(directories) > 0 {
			return fmt.Errorf("in the spool: %q, error %v", directories, err)
		}
		n, err := a.Descriptors()
		if err != nil {
			return err
		}
		same := n == last
		last = n
		if want == 0 && !same || want != 0 && n != want {
			return fmt.Errorf("%d descriptors are open, want %d", n, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}
