package filter_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/amavis-milter/amavis-milter/ampdp"
	"github.com/amavis-milter/amavis-milter/internal/filter"
	"github.com/amavis-milter/amavis-milter/internal/logging"
	"github.com/amavis-milter/amavis-milter/internal/spool"
	"github.com/amavis-milter/amavis-milter/milter"
	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// One whole message from MAIL to the answer, in one process with an MTA that waits
// once a message and a scanner that answers at once, both over local sockets. The time
// and allocations of all three count; those of MTA and scanner are few.
func BenchmarkWholeMessage(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, conns := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dKB/conns=%d", size>>10, conns), func(b *testing.B) { benchmarkWhole(b, size, conns) })
		}
	}
}

func benchmarkWhole(b *testing.B, size, conns int) {
	address := serveWhole(b, wholeDir(b))
	message := wholeMessage(size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var begun atomic.Int64
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			mta, err := net.Dial("unix", address)
			if err != nil {
				b.Error(err)
				return
			}
			defer mta.Close()
			in := bufio.NewReader(mta)
			mta.Write(wholeOffer())
			awaitFrame(b, in, 'O')
			mta.Write(wholeGreeting())
			for begun.Add(1) <= int64(b.N) {
				if _, err := mta.Write(message); err != nil {
					b.Error(err)
					return
				}
				awaitFrame(b, in, 'a')
			}
		})
	}
	wg.Wait()
}

// wholeDir is on a tmpfs where there is one: a disk would drown the rest.
func wholeDir(b *testing.B) string {
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "filterbench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o750); err != nil {
		b.Fatal(err)
	}
	return dir
}

// serveWhole starts the rooms as the program's main does, and a scanner.
func serveWhole(b *testing.B, dir string) (address string) {
	scanner := filepath.Join(dir, "amavisd.sock")
	startScanner(b, scanner)
	log := slog.New(logging.NewStderr(io.Discard, slog.LevelInfo))
	store, err := spool.Open(dir, spool.Options{MinFree: 8 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	f := filter.New(filter.Options{
		Spool: store, Log: log, Hostname: "mx.example.org", XHeader: filter.DefaultXHeader,
		Scanners: []*ampdp.Client{{Network: "unix", Address: scanner, Timeout: 300 * time.Second}},
		MaxWait:  300 * time.Second, RetryTime: 30 * time.Second,
	})
	b.Cleanup(f.Close)
	server := milter.NewServer(f, log, milter.DefaultTimes())
	server.Limit(milter.Limits{Sessions: 5000, SessionsPerAddress: 4000})
	address = filepath.Join(dir, "milter.sock")
	ln, err := net.Listen("unix", address)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	b.Cleanup(func() {
		server.Close()
		ln.Close()
		<-done
	})
	return address
}

// startScanner starts an amavisd that answers each request at once with two edits.
func startScanner(b *testing.B, address string) {
	ln, err := net.Listen("unix", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	const reply = "version_server=2\r\nlog_id=4F1D2C3B5A-01\r\n" +
		"addheader=X-Spam-Flag NO\r\naddheader=X-Spam-Score -1.9\r\n" +
		"setreply=250 2.6.0 Ok\r\nreturn_value=continue\r\nexit_code=0\r\n\r\n"
	serve := func() {
		buffer := make([]byte, 64<<10)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			for n := 0; ; {
				more, err := conn.Read(buffer[n:])
				n += more
				if err != nil || strings.HasSuffix(string(buffer[:n]), "\r\n\r\n") {
					break
				}
			}
			io.WriteString(conn, reply)
			conn.Close()
		}
	}
	for range 4 {
		go serve()
	}
}

// awaitFrame reads up to a frame with that code.
func awaitFrame(b *testing.B, in *bufio.Reader, code byte) {
	for {
		head, err := in.Peek(5)
		if err != nil {
			b.Error(err)
			return
		}
		got := head[4]
		if _, err := in.Discard(4 + int(binary.BigEndian.Uint32(head))); err != nil {
			b.Error(err)
			return
		}
		switch got {
		case code:
			return
		case 'a', 'c', 't', 'r', 'd', 'y':
			b.Errorf("answered %q", got)
			return
		}
	}
}

// wholeOffer is what both MTAs offer: version 6, all actions, all of the protocol but
// larger packets.
func wholeOffer() []byte {
	var data []byte
	for _, v := range []uint32{6, 0x1ff, 0x1fffff} {
		data = binary.BigEndian.AppendUint32(data, v)
	}
	return miltertest.Frame('O', data)
}

func wholeGreeting() []byte {
	p := miltertest.Frame('D', []byte("Cj\x00mx.example.org\x00{client_name}\x00mail.example.com\x00{daemon_name}\x00MTA\x00"))
	p = append(p, miltertest.Frame('C', []byte("mail.example.com\x004\xb2\x6e192.0.2.1\x00"))...)
	return append(p, miltertest.Frame('H', []byte("mail.example.com\x00"))...)
}

// wholeMessage is a message with 25 header fields, from MAIL to its end and the ABORT
// that follows, as an MTA sends it that waits for no answer before.
func wholeMessage(size int) []byte {
	frames := miltertest.Frame('D', []byte("Mi\x004F1D2C3B5A\x00{mail_addr}\x00ann@example.com\x00"))
	add := func(code byte, data string) { frames = append(frames, miltertest.Frame(code, []byte(data))...) }
	add('M', "<ann@example.com>\x00SIZE=4096\x00")
	add('D', "R{rcpt_addr}\x00bob@example.org\x00")
	add('R', "<bob@example.org>\x00")
	add('T', "")
	for i := range 25 {
		add('L', fmt.Sprintf("X-Field-%d\x00 a value of the length that header fields have\x00", i))
	}
	add('N', "")
	line := "A line of text as it stands in a mail, with some words in it\r\n"
	body := strings.Repeat(line, size/len(line))
	for len(body) > 0 {
		n := min(len(body), 65535)
		add('B', body[:n])
		body = body[n:]
	}
	add('E', "")
	add('A', "")
	return frames
}
