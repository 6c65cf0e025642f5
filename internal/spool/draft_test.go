package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDraftContent(t *testing.T) {
	tests := []struct {
		name  string
		write func(d *Draft)
		want  string
	}{
		{"nothing", func(d *Draft) {}, "\n"},
		{"only a header", func(d *Draft) { d.Header("A", " 1") }, "A: 1\n\n"},
		{"usual", func(d *Draft) {
			d.WriteRaw([]byte("Received: from x\n\tby y\n"))
			d.Header("From", " a@b")
			d.Header("Subject", "x")
			d.EndHeader()
			d.Body([]byte("one\r\ntwo\r\n"))
		}, "Received: from x\n\tby y\nFrom: a@b\nSubject:x\n\none\ntwo\n"},
		{"value kept to the byte", func(d *Draft) { d.Header("A", "  x \t ") }, "A:  x \t \n\n"},
		{"empty value", func(d *Draft) { d.Header("A", "") }, "A:\n\n"},
		{"folded with LF", func(d *Draft) { d.Header("A", "\n <1>\n\t<2>") }, "A:\n <1>\n\t<2>\n\n"},
		{"folded with CR LF", func(d *Draft) { d.Header("A", "\r\n <1>\r\n\t<2>") }, "A:\n <1>\n\t<2>\n\n"},
		{"value ends in CR", func(d *Draft) { d.Header("A", " x\r") }, "A: x\r\n\n"},
		{"value ends in CR LF", func(d *Draft) { d.Header("A", " x\r\n") }, "A: x\n\n\n"},
		{"CR CR LF in a value", func(d *Draft) { d.Header("A", " x\r\r\n y") }, "A: x\r\n y\n\n"},
		{"lone CR and NUL in a value", func(d *Draft) { d.Header("A", " x\ry\x00z") }, "A: x\ry\x00z\n\n"},
		{"header ended twice", func(d *Draft) { d.EndHeader(); d.EndHeader(); d.Body([]byte("x")) }, "\nx"},
		{"body ends the header", func(d *Draft) { d.Header("A", " 1"); d.Body([]byte("x")) }, "A: 1\n\nx"},
		{"empty body piece", func(d *Draft) { d.Body(nil); d.Body([]byte("x")) }, "\nx"},
		{"CR LF cut in two", func(d *Draft) { d.Body([]byte("x\r")); d.Body([]byte("\ny")) }, "\nx\ny"},
		{"body of one CR", func(d *Draft) { d.Body([]byte("\r")) }, "\n\r"},
		{"last CR", func(d *Draft) { d.Body([]byte("x\r\n\r")) }, "\nx\n\r"},
		{"NUL", func(d *Draft) { d.Body([]byte("\x00\r\n\x00")) }, "\n\x00\n\x00"},
		{"raw behind a held CR", func(d *Draft) { d.Body([]byte("x\r")); d.WriteRaw([]byte("\ny")) }, "\nx\r\ny"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, workDir(t))
			d := create(t, s, "Q")
			tt.write(d)
			m := seal(t, d)
			wantFile(t, m.File(), tt.want)
			if m.size != int64(len(tt.want)) {
				t.Errorf("size %d, want %d", m.size, len(tt.want))
			}
			must(t, m.Remove())
		})
	}
}

// Sizes around both buffers, so that every way of filling and emptying them is
// taken, for each of the writing methods.
func TestDraftSizes(t *testing.T) {
	s := open(t, workDir(t))
	for _, around := range []int{smallBuffer, largeBuffer, 2 * largeBuffer, 5*largeBuffer + 17} {
		for n := around - 2; n <= around+2; n++ {
			text := bytes.Repeat([]byte("0123456789abcde\n"), n/16+1)[:n]
			d := create(t, s, "Q")
			must(t, d.WriteRaw(text))
			must(t, d.Header("Long", string(text)))
			for piece := text; len(piece) > 0; {
				k := min(65535, len(piece))
				must(t, d.Body(piece[:k]))
				piece = piece[k:]
			}
			m := seal(t, d)
			want := string(text) + "Long:" + string(text) + "\n\n" + string(text)
			wantFile(t, m.File(), want)
			if m.size != int64(len(want)) {
				t.Errorf("size %d, want %d", m.size, len(want))
			}
			must(t, m.Remove())
		}
	}
}

func TestDraftHoldsNoMoreThanItsBuffer(t *testing.T) {
	s := open(t, workDir(t))
	d := create(t, s, "Q")
	defer d.Remove()
	b := &d.entry.buf
	if b.small != nil || b.large != nil {
		t.Error("a draft without content owns a buffer")
	}
	for range 100 {
		must(t, d.Body(make([]byte, 65535)))
		if b.n > largeBuffer || b.small != nil && b.large != nil {
			t.Fatal("more than one buffer is held")
		}
	}
	st, err := os.Stat(filepath.Join(d.entry.path, mailFile))
	must(t, err)
	if st.Size() < 99*65535 {
		t.Errorf("only %d bytes are on the disk", st.Size())
	}
	seal(t, d)
	if b.small != nil || b.large != nil {
		t.Error("a sealed draft owns a buffer")
	}
}

// TestLargeBuffersInAll holds the bound on large buffers at one below, at, and above; beyond
// it a message is stored all the same, and whoever ends makes room.
func TestLargeBuffersInAll(t *testing.T) {
	s := open(t, workDir(t))
	text := bytes.Repeat([]byte("0123456789abcde\n"), 3*largeBuffer/16)
	for _, c := range []struct {
		others int64
		large  bool
	}{{maxLargeInAll - largeBuffer - 1, true}, {maxLargeInAll - largeBuffer, true}, {maxLargeInAll - largeBuffer + 1, false}} {
		s.limits.large.Store(c.others)
		d := create(t, s, "Q")
		must(t, d.Body(text))
		if got := d.entry.buf.large != nil; got != c.large {
			t.Errorf("others have %d bytes: a large buffer: %t", c.others, got)
		}
		m := seal(t, d)
		wantFile(t, m.File(), "\n"+string(text))
		must(t, m.Remove())
		if got := s.limits.large.Load(); got != c.others {
			t.Errorf("%d bytes are left counted", got-c.others)
		}
	}
	s.limits.large.Store(0)
}

func TestSmallMessageIsOneWrite(t *testing.T) {
	s := open(t, workDir(t))
	writes := 0
	s.disk.write = func(fd int, p []byte) (int, error) {
		writes++
		return unix.Write(fd, p)
	}
	d := create(t, s, "Q")
	for range 25 {
		must(t, d.Header("X-Field", " value"))
	}
	must(t, d.Body(make([]byte, 40000)))
	must(t, seal(t, d).Remove())
	if writes != 1 {
		t.Errorf("%d writes, want 1", writes)
	}
}

func TestDraftWritesGoOn(t *testing.T) {
	s := open(t, workDir(t))
	calls := 0
	s.disk.write = func(fd int, p []byte) (int, error) { // interrupted and short in turns
		if calls++; calls%2 == 1 {
			return -1, unix.EINTR
		}
		return unix.Write(fd, p[:min(len(p), 1000)])
	}
	d := create(t, s, "Q")
	text := strings.Repeat("0123456789", 30000)
	must(t, d.Body([]byte(text)))
	m := seal(t, d)
	wantFile(t, m.File(), "\n"+text)
	must(t, m.Remove())
}

// A disk that fails at the n-th write, in mid-message or at the end.
func TestDraftWriteErrors(t *testing.T) {
	for _, cause := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EFBIG, unix.EROFS} {
		for failAt := 1; failAt <= 4; failAt++ {
			dir := workDir(t)
			s := open(t, dir)
			calls := 0
			s.disk.write = func(fd int, p []byte) (int, error) {
				if calls++; calls >= failAt {
					return -1, cause
				}
				return unix.Write(fd, p)
			}
			d := create(t, s, "Q")
			for range 4 * largeBuffer / 1024 {
				d.Body(make([]byte, 1024))
			}
			m, err := d.Seal()
			if m != nil || !errors.Is(err, cause) {
				t.Fatalf("Seal: %v, %v; want nil, %v", m, err, cause)
			}
			if want := cause == unix.ENOSPC || cause == unix.EDQUOT; IsNoSpace(err) != want {
				t.Errorf("IsNoSpace(%v) = %v", err, !want)
			}
			if !strings.Contains(err.Error(), d.entry.path+"/email.txt") || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error does not name the file in one line: %q", err)
			}
			if calls != failAt {
				t.Errorf("%d writes, though number %d failed", calls, failAt)
			}
			wantDead(t, d, cause)
			wantNames(t, dir) // the space is given back at once
			must(t, d.Remove())
		}
	}
}

// wantDead checks that every call on a draft is legal and returns the first error.
func wantDead(t *testing.T, d *Draft, want error) {
	t.Helper()
	_, sealErr := d.Seal()
	for i, err := range []error{
		d.WriteRaw([]byte("x")), d.Header("A", " x"), d.EndHeader(), d.Body(make([]byte, 2*largeBuffer)), sealErr, d.err,
	} {
		if !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	if d.entry.buf != (buffer{}) {
		t.Error("a dead draft owns a buffer")
	}
}

func TestDraftCloseError(t *testing.T) {
	dir := workDir(t)
	s := open(t, dir)
	s.disk.close = func(fd int) error {
		unix.Close(fd)
		return unix.EDQUOT
	}
	d := create(t, s, "Q")
	if _, err := d.Seal(); !IsNoSpace(err) {
		t.Errorf("Seal: %v, want an error of the quota", err)
	}
	wantNames(t, dir)
}

func TestDraftZeroWrite(t *testing.T) {
	s := open(t, workDir(t))
	s.disk.write = func(int, []byte) (int, error) { return 0, nil }
	d := create(t, s, "Q")
	if _, err := d.Seal(); !errors.Is(err, unix.EIO) {
		t.Errorf("Seal: %v, want EIO", err)
	}
}

func TestHeaderAfterBody(t *testing.T) {
	s := open(t, workDir(t))
	d := create(t, s, "Q")
	must(t, d.Body([]byte("x")))
	if err := d.Header("A", " 1"); !errors.Is(err, ErrHeaderClosed) {
		t.Errorf("Header: %v", err)
	}
	wantDead(t, d, ErrHeaderClosed)
}

func TestDraftAfterItsTime(t *testing.T) {
	s := open(t, workDir(t))
	d := create(t, s, "Q")
	m := seal(t, d)
	if _, err := d.Seal(); !errors.Is(err, ErrSealed) {
		t.Errorf("second Seal: %v", err)
	}
	if err := d.Body([]byte("x")); !errors.Is(err, ErrSealed) {
		t.Errorf("Body after Seal: %v", err)
	}
	wantFile(t, m.File(), "\n")
	must(t, d.Remove())
	wantGone(t, m.Dir())
	must(t, m.Remove())
	if err := m.Clean(); !errors.Is(err, ErrRemoved) {
		t.Errorf("Clean after Remove: %v", err)
	}

	d = create(t, s, "Q")
	must(t, d.Body([]byte("x")))
	must(t, d.Remove())
	wantDead(t, d, ErrRemoved)
}

// Somebody who can write to the directory puts a link where the mail file is to be.
func TestMailFileIsNeverALink(t *testing.T) {
	for _, target := range []string{"existing", "missing"} {
		t.Run(target, func(t *testing.T) {
			dir := workDir(t)
			s := open(t, dir)
			must(t, os.WriteFile(filepath.Join(dir, "existing"), []byte("precious"), 0o600))
			d := create(t, s, "Q")
			must(t, os.Symlink(filepath.Join(dir, target), filepath.Join(d.entry.path, mailFile)))
			must(t, d.Body([]byte("mail")))
			if _, err := d.Seal(); !errors.Is(err, unix.EEXIST) {
				t.Errorf("Seal: %v, want EEXIST", err)
			}
			must(t, d.Remove())
			wantFile(t, filepath.Join(dir, "existing"), "precious")
			wantGone(t, filepath.Join(dir, "missing"))
			wantNames(t, dir)
		})
	}
}

func TestDirectoryRemovedUnderOurFeet(t *testing.T) {
	for name, size := range map[string]int{"nothing written yet": 10, "in mid-message": 3 * largeBuffer} {
		t.Run(name, func(t *testing.T) {
			dir := workDir(t)
			s := open(t, dir)
			d := create(t, s, "Q")
			must(t, d.Body(make([]byte, size)))
			must(t, os.RemoveAll(d.entry.path))
			d.Body(make([]byte, size))
			m, err := d.Seal()
			if m != nil || err == nil {
				t.Fatalf("Seal: %v, %v; want an error", m, err)
			}
			if size > largeBuffer && !errors.Is(err, ErrTampered) {
				t.Errorf("Seal: %v, want ErrTampered", err)
			}
			must(t, d.Remove())
			must(t, d.Remove())
			if live(s) != 0 {
				t.Errorf("%d directories live", live(s))
			}
		})
	}
}

// Somebody truncates the mail file, or adds to it, before it is sealed.
func TestSealFindsAnotherSize(t *testing.T) {
	for name, change := range map[string]int64{"shorter": -1, "longer": 1, "as written": 0} {
		t.Run(name, func(t *testing.T) {
			work := workDir(t)
			s := open(t, work)
			d := create(t, s, "Q")
			path := d.entry.path + "/" + mailFile
			s.disk.write = func(fd int, p []byte) (int, error) {
				n, err := unix.Write(fd, p)
				must(t, os.Truncate(path, int64(n)+change)) // the one write of a small message
				return n, err
			}
			must(t, d.Body([]byte("mail")))
			m, err := d.Seal()
			if change == 0 {
				must(t, err)
				must(t, m.Remove())
			} else if m != nil || !errors.Is(err, ErrTampered) {
				t.Errorf("Seal: %v, %v; want ErrTampered", m, err)
			}
			wantNames(t, work)
		})
	}
}

func FuzzDraft(f *testing.F) {
	f.Add("Subject", " a\r\n b\r", []byte("x\r\ny\r"), []byte{1, 2, 1})
	f.Add("", "", []byte("\r"), []byte{})
	f.Add("A", "\r\r\n", bytes.Repeat([]byte("line\r\n"), 3000), []byte{255, 0, 7})
	s := open(f, workDir(f))
	f.Fuzz(func(t *testing.T, name, value string, body, cuts []byte) {
		d := create(t, s, name)
		must(t, d.Header(name, value))
		rest := body
		for _, cut := range cuts {
			at := min(int(cut), len(rest))
			must(t, d.Body(rest[:at]))
			rest = rest[at:]
		}
		must(t, d.Body(rest))
		m := seal(t, d)
		want := name + ":" + strings.ReplaceAll(value, "\r\n", "\n") + "\n\n" + strings.ReplaceAll(string(body), "\r\n", "\n")
		wantFile(t, m.File(), want)
		must(t, m.Remove())
	})
}
