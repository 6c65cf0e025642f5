package spool

import "bytes"

// newlines turns CR LF into LF in a stream that comes in pieces. Everything else
// stays: a lone CR, a CR at the very end, NUL. The result does not depend on where
// the stream was cut: it is bytes.ReplaceAll(whole, "\r\n", "\n"). The zero value
// is ready at the beginning of a stream.
type newlines struct {
	// held says that the last byte taken was a CR that has not been given out,
	// since an LF may follow.
	held bool
}

// convert takes bytes from src and gives their conversion out to dst, until src is
// used up or dst is full. It returns how many bytes it gave and took; either may
// be less than there was. One CR may stay held.
func (n *newlines) convert(dst, src []byte) (nDst, nSrc int) {
	for nSrc < len(src) && nDst < len(dst) {
		if !n.held {
			part := src[nSrc:]
			part = part[:min(len(part), len(dst)-nDst)]
			cr := bytes.IndexByte(part, '\r')
			if cr < 0 {
				cr = len(part)
			} else {
				n.held = true
				nSrc++
			}
			nDst += copy(dst[nDst:], part[:cr])
			nSrc += cr
		}
		// Byte by byte as long as there is one CR after the other: a search for each
		// would make a body of nothing but line ends far dearer than any other.
		for n.held && nSrc < len(src) && nDst < len(dst) {
			dst[nDst] = '\r'
			switch src[nSrc] {
			case '\n':
				dst[nDst] = '\n'
				nSrc++
				if n.held = nSrc < len(src) && src[nSrc] == '\r'; n.held {
					nSrc++
				}
			case '\r':
				nSrc++
			default:
				n.held = false
			}
			nDst++
		}
	}
	return nDst, nSrc
}

// finish ends the stream: it reports whether a CR was held, which is then the last
// byte of the conversion.
func (n *newlines) finish() bool {
	held := n.held
	n.held = false
	return held
}
