package data

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// A plain text is read in pieces of leastPiece bytes and what is left of the line, at most mostPiece.
const (
	leastPiece = 1 << 12
	mostPiece  = 1 << 16
)

// pieceRecords reads a plain text in pieces, which together are one document. A piece ends where a line does, one that has text at its end and is
// followed by text, if there is such a line: the words of a byte-level BPE are the same there in pieces as in the whole. Else it ends with any line or, in
// a line of mostPiece bytes, between two characters.
type pieceRecords struct {
	path string
	in   *input
	text *bufio.Reader
	at   place
}

// openPieces opens a text at a place.
//
// Errors: those of a file; ErrEmpty, if nothing is in it.
func openPieces(path string, from place, left *int64) (*pieceRecords, error) {
	in, err := openInput(path, from.Offset, left)
	if err != nil {
		return nil, err
	}
	p := &pieceRecords{path: path, in: in, text: bufio.NewReaderSize(in, mostPiece+utf8.UTFMax), at: from}
	if from.Offset > 0 {
		return p, nil
	}
	start, err := p.text.Peek(mostPiece)
	if err == nil || errors.Is(err, io.EOF) {
		err = checkText(path, start)
	} else {
		err = fileError(path, err)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return p, nil
}

func (p *pieceRecords) next() (document, bool, error) {
	ahead, err := p.text.Peek(mostPiece + utf8.UTFMax)
	if err != nil && !errors.Is(err, io.EOF) {
		return document{}, false, fileError(p.path, err)
	}
	if len(ahead) == 0 {
		return document{}, false, io.EOF
	}
	n := pieceEnd(ahead, err != nil)
	if i := bytes.IndexByte(ahead[:n], 0); i >= 0 {
		return document{}, false, &Error{Kind: ErrBinary, Path: p.path, What: fmt.Sprintf("binary file (byte %d is 0)", p.at.Offset+int64(i)), Fix: "give text in UTF-8"}
	}
	doc := document{name: p.path, text: bytes.Clone(ahead[:n])}
	p.at.Record++
	p.at.Offset += int64(n)
	p.at.Line += bytes.Count(doc.text, []byte("\n"))
	_, err = p.text.Discard(n)
	return doc, true, err
}

// pieceEnd is how many bytes of a text the next piece has: of the first mostPiece, or of all if nothing comes after them.
func pieceEnd(text []byte, ended bool) int {
	line, most := 0, min(len(text), mostPiece)
	for at := leastPiece - 1; at < most; at++ {
		i := bytes.IndexByte(text[at:most], '\n')
		if i < 0 {
			break
		}
		at += i
		if line == 0 {
			line = at + 1
		}
		before, _ := utf8.DecodeLastRune(text[:at])
		after, _ := utf8.DecodeRune(text[at+1:])
		if !unicode.IsSpace(before) && !unicode.IsSpace(after) && at+1 < len(text) {
			return at + 1
		}
	}
	switch {
	case ended && len(text) <= mostPiece:
		return len(text)
	case line > 0:
		return line
	}
	for n := most; n > most-utf8.UTFMax; n-- {
		if utf8.RuneStart(text[n]) {
			return n
		}
	}
	return most
}

func (p *pieceRecords) place() place  { return p.at }
func (p *pieceRecords) wants() string { return "give files with text" }
func (p *pieceRecords) close()        { p.in.close() }
