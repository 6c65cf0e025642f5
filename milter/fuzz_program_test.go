package milter

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/amavis-milter/amavis-milter/milter/miltertest"
)

// wireFrame is a frame on its way to the guard; claimed is what its length field
// says, whatever it holds.
type wireFrame struct {
	claimed uint32
	code    byte
	data    []byte
}

func newFrame(code byte, data string) wireFrame {
	return wireFrame{uint32(len(data) + 1), code, []byte(data)}
}

// dialogues are what the programs begin with: valid ones, each recorded from an MTA.
func dialogues() [][]wireFrame {
	noReplies := miltertest.Postfix37
	noReplies.Protocol &^= miltertest.NoReplies
	half := miltertest.Sendmail817 // an MTA that wants some answers
	half.Protocol &^= miltertest.NRMail | miltertest.NRBody | miltertest.HdrLeadSpc
	one := func(m *miltertest.MTA) { m.Greet(); m.SendMessage(plainMessage) }
	several := func(m *miltertest.MTA) {
		one(m)
		m.Helo("again.example.net")
		m.SendMessage(miltertest.Message{QueueID: "Q2", Sender: "<>", Recipients: []string{"d@example.org"}, Header: [][2]string{{"X-A", "\n folded"}}, Body: []byte("2\r\n")})
		m.Abort()
		m.SendMessage(miltertest.Message{Sender: "<e@example.net>", Recipients: []string{"<f@example.org>"}})
	}
	aborted := func(m *miltertest.MTA) {
		m.Greet()
		for _, stage := range []string{"rcpt", "data", "header", "eoh", "body", "eom"} {
			m.SendUpTo(plainMessage, stage)
			m.Abort()
		}
		m.SendMessage(plainMessage)
	}
	again := func(m *miltertest.MTA) { one(m); m.Abort(); m.Send('K', nil); one(m); m.Send('U', []byte("FOO\x00")) }
	tail := func(m *miltertest.MTA) {
		m.Greet()
		m.SendUpTo(plainMessage, "eom")
		m.Send('E', []byte("tail\r\n"))
		m.Answer()
		m.SendMessage(plainMessage)
	}
	var all [][]wireFrame
	for _, d := range []struct {
		offer    miltertest.Offer
		dialogue func(*miltertest.MTA)
	}{
		{miltertest.Sendmail817, one}, {miltertest.Postfix37, several}, {miltertest.Version2, one}, {miltertest.Version2, tail},
		{noReplies, several}, {half, aborted}, {miltertest.Sendmail817, again}, {noReplies, again},
		{miltertest.Offer{Version: 6}, one},
	} {
		all = append(all, parseWire(transcript(d.offer, d.dialogue)))
	}
	return all
}

// parseWire takes recorded bytes apart.
func parseWire(raw []byte) (frames []wireFrame) {
	for len(raw) > frameHeaderBytes {
		n := binary.BigEndian.Uint32(raw)
		frames = append(frames, wireFrame{n, raw[4], slices.Clone(raw[5 : 4+n])})
		raw = raw[4+n:]
	}
	return frames
}

// oddFrames can be put between others.
var oddFrames = []wireFrame{
	newFrame('M', "<x@example.com>\x00SIZE=9\x00"), newFrame('R', "<y@example.com>\x00"), newFrame('T', ""), newFrame('L', "A\x00 b\x00"),
	newFrame('N', ""), newFrame('B', "body\r"), newFrame('E', ""), newFrame('E', "\ntail"), newFrame('A', ""), newFrame('K', ""), newFrame('Q', ""),
	newFrame('U', "FOO\x00"), newFrame('H', "h\x00"), newFrame('H', ""), newFrame('C', "h\x004\x00\x19unknown\x00"), newFrame('C', "h\x00U"), newFrame('C', "h"),
	newFrame('D', ""), newFrame('D', "A"), newFrame('D', "Ei\x00id\x00"), newFrame('D', "C"), newFrame('D', "R{rcpt_addr}\x00z@example.com\x00"),
	newFrame('D', "Mi"), newFrame('D', "Zi\x00id\x00"), newFrame('D', "Ui\x00id\x00"), newFrame('O', "\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00\x00"),
	newFrame('M', ""), newFrame('L', "\x00\x00"), newFrame('L', "a\x00b\x00c\x00"), newFrame('L', panicField+"\x00 now\x00"), {0, 'B', nil}, newFrame('z', ""),
}

// oddLengths are what a length field may be made to say.
var oddLengths = []uint32{0, 1, 2, MaxFrameBytes - 1, MaxFrameBytes, MaxFrameBytes + 1, 1 << 24, 1<<31 - 1, 1 << 31, 1<<32 - 1, 0x16030102, 0x47455420}

// Bounds of what a program may make, for speed.
const (
	maxSteps      = 24
	maxDialogue   = 64 << 10 // bytes; a socket takes them in before anybody reads
	maxDataGrowth = 16 << 10 // bytes
)

// program is what the bytes of an input say: a dialogue, how it is sent, and steps of
// four bytes each that change it.
type program struct {
	frames []wireFrame
	cut    int   // bytes that are sent; all if negative
	splits []int // where writes end; positions count from the start
	mode   byte
}

// The bits of program.mode.
const (
	modeHangUp  = 1 << iota // close at once, never reading an answer
	modeLate                // verdicts wait until all is sent
	modeDrip                // small writes from one end to the other
	modeRefused             // there are too many connections already
)

func readProgram(valid [][]wireFrame, input []byte) program {
	p := program{cut: -1}
	if len(input) < 2 {
		return p
	}
	for _, f := range valid[int(input[0])%len(valid)] {
		f.data = slices.Clone(f.data)
		p.frames = append(p.frames, f)
	}
	p.mode = input[1]
	for step := range slices.Chunk(input[2:], 4) {
		if len(step) == 4 && len(input) <= 2+4*maxSteps && len(p.frames) > 0 {
			p.step(valid, step[0], step[1], step[2], step[3])
		}
	}
	return p
}

// step changes the dialogue: op says how, at names the frame, a and b the rest.
func (p *program) step(valid [][]wireFrame, op, at, a, b byte) {
	i := int(at) % len(p.frames)
	f := &p.frames[i]
	switch op % 15 {
	case 0:
		p.frames = slices.Delete(p.frames, i, i+1)
	case 1:
		p.insert(i, *f)
	case 2:
		j := int(a) % len(p.frames)
		p.frames[i], p.frames[j] = p.frames[j], p.frames[i]
	case 3:
		f.claimed = oddLengths[int(a)%len(oddLengths)]
	case 4:
		f.claimed += uint32(int8(a))
	case 5:
		p.cut = p.position(i) + int(a)
	case 6:
		if len(f.data) > 0 {
			f.data[int(a)%len(f.data)] ^= b
		}
	case 7:
		f.code = a
	case 8: // a bit of the negotiation
		if first := &p.frames[0]; len(first.data) >= 12 {
			first.data[int(a)%12] ^= 1 << (b % 8)
		}
	case 9:
		p.insert(i, oddFrames[int(a)%len(oddFrames)])
	case 10:
		f.setData(append(f.data, bytes.Repeat([]byte{a}, min(int(b)<<6, maxDataGrowth))...))
	case 11:
		f.setData(f.data[:int(a)%(len(f.data)+1)])
	case 12:
		p.splits = append(p.splits, p.position(i)+int(a))
	case 13:
		f.setData(slices.Insert(f.data, int(a)%(len(f.data)+1), b))
	case 14: // go on in another dialogue
		other := valid[int(a)%len(valid)]
		p.frames = append(p.frames[:i+1], other[int(b)%len(other):]...)
		for j := i + 1; j < len(p.frames); j++ {
			p.frames[j].data = slices.Clone(p.frames[j].data)
		}
	}
}

func (p *program) insert(i int, f wireFrame) {
	f.data = slices.Clone(f.data)
	p.frames = slices.Insert(p.frames, i, f)
}

// setData changes the data of a frame and its length by as much.
func (f *wireFrame) setData(data []byte) {
	f.claimed += uint32(len(data) - len(f.data))
	f.data = data
}

// position is where a frame begins on the wire.
func (p *program) position(i int) int {
	n := 0
	for _, f := range p.frames[:i] {
		n += frameHeaderBytes + 1 + len(f.data)
	}
	return n
}

// wire is what is sent.
func (p *program) wire() []byte {
	var raw []byte
	for _, f := range p.frames {
		raw = binary.BigEndian.AppendUint32(raw, f.claimed)
		raw = append(append(raw, f.code), f.data...)
	}
	if p.cut >= 0 {
		raw = raw[:min(p.cut, len(raw))]
	}
	return raw[:min(len(raw), maxDialogue)]
}

// pieces are the writes in which raw is sent.
func (p *program) pieces(raw []byte) [][]byte {
	splits := slices.Clone(p.splits)
	if p.mode&modeDrip != 0 {
		for at := 0; at < len(raw); at += len(raw)/maxPieces + 1 {
			splits = append(splits, at)
		}
	}
	slices.Sort(splits)
	var pieces [][]byte
	from := 0
	for _, to := range append(splits, len(raw)) {
		if to = min(to, len(raw)); to > from {
			pieces = append(pieces, raw[from:to])
			from = to
		}
	}
	return pieces
}
