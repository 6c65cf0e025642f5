package milter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Limits of the milter protocol as this package admits it.
const (
	// MaxFrameBytes is the largest frame admitted from an MTA: the command byte
	// and at most 1 MiB of data, the most that the protocol can negotiate
	// (SMFIP_MDS_1M).
	MaxFrameBytes = 1<<20 + 1

	frameHeaderBytes = 4 // length of what follows, big endian
)

// Commands of the MTA (libmilter mfdef.h, SMFIC_*).
const (
	cmdOptNeg  = 'O' // SMFIC_OPTNEG
	cmdMacro   = 'D' // SMFIC_MACRO
	cmdConnect = 'C' // SMFIC_CONNECT
	cmdHelo    = 'H' // SMFIC_HELO
	cmdMail    = 'M' // SMFIC_MAIL
	cmdRcpt    = 'R' // SMFIC_RCPT
	cmdData    = 'T' // SMFIC_DATA
	cmdHeader  = 'L' // SMFIC_HEADER
	cmdEOH     = 'N' // SMFIC_EOH
	cmdBody    = 'B' // SMFIC_BODY
	cmdBodyEOB = 'E' // SMFIC_BODYEOB
	cmdAbort   = 'A' // SMFIC_ABORT
	cmdQuit    = 'Q' // SMFIC_QUIT
	cmdQuitNC  = 'K' // SMFIC_QUIT_NC
	cmdUnknown = 'U' // SMFIC_UNKNOWN
)

// What is wrong with a frame that the guard refuses.
var (
	errFrameEmpty    = errors.New("frame of length 0")
	errFrameTooLarge = fmt.Errorf("frame over %d bytes", MaxFrameBytes)
	errFrameCommand  = errors.New("unknown command")
	errFrameData     = errors.New("malformed data")
	errFrameOrder    = errors.New("option negotiation out of order")
)

// A frameError is a frame that was refused. It shows the command, which is one
// byte, but never the bytes behind it.
type frameError struct {
	command byte
	err     error
}

func (e *frameError) Error() string {
	if e.command == 0 {
		return e.err.Error()
	}
	return fmt.Sprintf("%v (command %q)", e.err, e.command)
}

func (e *frameError) Unwrap() error { return e.err }

// checkLength checks the length field of a frame.
func checkLength(length uint32) error {
	switch {
	case length == 0:
		return &frameError{err: errFrameEmpty}
	case length > MaxFrameBytes:
		return &frameError{err: errFrameTooLarge}
	}
	return nil
}

// checkFrame checks the command and the form of the data of a frame that comes
// after the negotiation. The library indexes behind NULs that it takes for
// granted, so every one of them is looked for here.
func checkFrame(command byte, data []byte) error {
	ok := true
	switch command {
	case cmdConnect:
		ok = wellFormedConnect(data)
	case cmdHelo:
		ok = len(data) > 0
	case cmdMail, cmdRcpt:
		ok = bytes.IndexByte(data, 0) >= 0
	case cmdHeader:
		ok = wellFormedHeader(data)
	case cmdMacro:
		ok = len(data) > 0
	case cmdData, cmdEOH, cmdBody, cmdBodyEOB, cmdAbort, cmdQuit, cmdQuitNC, cmdUnknown:
	case cmdOptNeg:
		return &frameError{command, errFrameOrder}
	default:
		return &frameError{command, errFrameCommand}
	}
	if !ok {
		return &frameError{command, errFrameData}
	}
	return nil
}

// wellFormedConnect wants host NUL family, and for the families that have an
// address a port of two bytes and the address.
func wellFormedConnect(data []byte) bool {
	_, rest, found := bytes.Cut(data, []byte{0})
	if !found || len(rest) == 0 {
		return false
	}
	switch rest[0] {
	case 'U':
		return true
	case 'L', '4', '6':
		return len(rest) > 3
	}
	return false
}

// readableConnect returns well-formed data of a CONNECT as the library can read it.
// For an address that does not parse it would drop the connection; Postfix sends
// "unknown" in family 4 for a client whose address a proxy hides (XCLIENT). That is
// family U, which has neither port nor address.
func readableConnect(data []byte) []byte {
	end := bytes.IndexByte(data, 0) + 1 // of the host
	if family := data[end]; family != '4' && family != '6' {
		return data
	}
	if address := cString(data[end+3:]); isReadable(data[end], address) {
		return data
	}
	return append(data[:end:end], 'U')
}

// isReadable reports whether the library reads an address of family 4 or 6, by its
// own rules.
func isReadable(family byte, address string) bool {
	if family == '4' {
		return net.ParseIP(address).To4() != nil
	}
	address = strings.TrimPrefix(address, "IPv6:")
	if inner, ok := strings.CutPrefix(address, "["); ok && strings.HasSuffix(inner, "]") {
		address = strings.TrimSuffix(inner, "]")
	}
	return net.ParseIP(address) != nil
}

// wellFormedHeader wants exactly two strings: name NUL value NUL.
func wellFormedHeader(data []byte) bool {
	return len(data) > 2 && data[len(data)-1] == 0 && data[0] != 0 && bytes.Count(data, []byte{0}) == 2
}

// isMacroStage reports whether the library knows macros for that command; those
// for others are of no use and left out. So are those for ABORT: the library takes
// them for the ABORT itself and passes over the one that follows.
func isMacroStage(command byte) bool {
	return bytes.IndexByte([]byte("CHMRTNEULB"), command) >= 0
}

// beginsMessage reports whether the command belongs to the content of a message:
// from here on the MTA has accepted DATA.
func beginsMessage(command byte) bool {
	return bytes.IndexByte([]byte("TLNBE"), command) >= 0
}

// appendFrame appends one frame to dst.
func appendFrame(dst []byte, command byte, data []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(data)+1))
	dst = append(dst, command)
	return append(dst, data...)
}

// offer is what an MTA offers in its first frame.
type offer struct {
	version, actions, protocol uint32
}

// parseOffer reads an SMFIC_OPTNEG frame without its length.
func parseOffer(frame []byte) (offer, error) {
	if frame[0] != cmdOptNeg {
		return offer{}, &frameError{frame[0], errFrameOrder}
	}
	data := frame[1:]
	if len(data) < 12 {
		return offer{}, &frameError{cmdOptNeg, errFrameData}
	}
	return offer{
		version:  binary.BigEndian.Uint32(data),
		actions:  binary.BigEndian.Uint32(data[4:]),
		protocol: binary.BigEndian.Uint32(data[8:]),
	}, nil
}

// frame returns the SMFIC_OPTNEG frame of an offer.
func (o offer) frame() []byte {
	data := binary.BigEndian.AppendUint32(nil, o.version)
	data = binary.BigEndian.AppendUint32(data, o.actions)
	data = binary.BigEndian.AppendUint32(data, o.protocol)
	return appendFrame(nil, cmdOptNeg, data)
}
