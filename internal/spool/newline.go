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
	for nSrc < len(src) {
		room := min(len(dst)-nDst, len(src)-nSrc)
		if room == 0 {
			break
		}
		if n.held {
			if src[nSrc] == '\n' {
				dst[nDst] = '\n'
				nSrc++
			} else {
				dst[nDst] = '\r'
			}
			nDst++
			n.held = false
			continue
		}
		part := src[nSrc : nSrc+room]
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
	return nDst, nSrc
}

// finish ends the stream: it reports whether a CR was held, which is then the last
// byte of the conversion.
func (n *newlines) finish() bool {
	held := n.held
	n.held = false
	return held
}
