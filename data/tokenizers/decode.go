package tokenizers

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder makes text of tokens: each step changes the list of pieces, which are joined at the end.
type decoder interface {
	decode(pieces []string) []string
}

type decoders []decoder

func (ds decoders) decode(p []string) []string {
	for _, d := range ds {
		p = d.decode(p)
	}
	return p
}

// bytesDecoder reads the letters of bytes. Of bytes that are no text a mark is left.
type bytesDecoder struct{}

func (bytesDecoder) decode(pieces []string) []string {
	var b strings.Builder
	for _, p := range pieces {
		if raw, ok := FromLetters(p); ok {
			b.WriteString(raw)
		} else {
			b.WriteString(p)
		}
	}
	return []string{valid(b.String())}
}

// valid puts U+FFFD in place of bytes that are no text, one for each longest beginning of a character.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			n = broken(s[i:])
		}
		b.WriteRune(r)
		i += n
	}
	return b.String()
}

// broken is the size of the longest beginning of a character that a text starts with, 1 if none.
func broken(s string) int {
	c := s[0]
	want, lo, hi := 0, byte(0x80), byte(0xbf)
	switch {
	case c >= 0xc2 && c <= 0xdf:
		want = 2
	case c >= 0xe0 && c <= 0xef:
		want = 3
		if c == 0xe0 {
			lo = 0xa0
		} else if c == 0xed {
			hi = 0x9f
		}
	case c >= 0xf0 && c <= 0xf4:
		want = 4
		if c == 0xf0 {
			lo = 0x90
		} else if c == 0xf4 {
			hi = 0x8f
		}
	}
	n := 1
	for n < want && n < len(s) && s[n] >= lo && s[n] <= hi {
		n, lo, hi = n+1, 0x80, 0xbf
	}
	return n
}

// wordPieceDecoder puts blanks between words.
type wordPieceDecoder struct {
	prefix  string
	cleanup bool
}

// cleaned takes the blanks before punctuation away, one rule after the other.
func cleaned(s string) string {
	if !strings.ContainsAny(s, ".?!,'n") {
		return s
	}
	for _, r := range [][2]string{{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"}, {" do not", " don't"},
		{" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}} {
		s = strings.ReplaceAll(s, r[0], r[1])
	}
	return s
}

func (d wordPieceDecoder) decode(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		if i > 0 {
			if strings.HasPrefix(p, d.prefix) {
				p = p[len(d.prefix):]
			} else {
				p = " " + p
			}
		}
		if d.cleanup {
			p = cleaned(p)
		}
		out[i] = p
	}
	return out
}

// metaspaceDecoder makes blanks of marks; the one before the text goes.
type metaspaceDecoder struct {
	mark  string
	first string
}

func (d metaspaceDecoder) decode(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		if i == 0 && d.first != "never" {
			p = strings.TrimPrefix(p, d.mark)
		}
		out[i] = strings.ReplaceAll(p, d.mark, " ")
	}
	return out
}

// replaceDecoder replaces in every piece.
type replaceDecoder struct{ what, with string }

func (d replaceDecoder) decode(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		out[i] = strings.ReplaceAll(p, d.what, d.with)
	}
	return out
}

// stripDecoder takes a character away at the ends of every piece, so many times at most.
type stripDecoder struct {
	what        string
	start, stop int
}

func (d stripDecoder) decode(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		for range d.start {
			p = strings.TrimPrefix(p, d.what)
		}
		for range d.stop {
			p = strings.TrimSuffix(p, d.what)
		}
		out[i] = p
	}
	return out
}

// fuse joins all pieces.
type fuse struct{}

func (fuse) decode(pieces []string) []string { return []string{strings.Join(pieces, "")} }

// byteFallback makes characters of runs of <0x..>; of bytes that are none a mark each.
type byteFallback struct{}

func (byteFallback) decode(pieces []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if len(run) == 0 {
			return
		}
		if utf8.Valid(run) {
			out = append(out, string(run))
		} else {
			for range run {
				out = append(out, "\ufffd")
			}
		}
		run = run[:0]
	}
	for _, p := range pieces {
		if len(p) == 6 && strings.HasPrefix(p, "<0x") && p[5] == '>' {
			if c, err := strconv.ParseUint(p[3:5], 16, 8); err == nil {
				run = append(run, byte(c))
				continue
			}
		}
		flush()
		out = append(out, p)
	}
	flush()
	return out
}

// spaced joins with blanks: what is done where a file names no decoder.
type spaced struct{}

func (spaced) decode(pieces []string) []string { return []string{strings.Join(pieces, " ")} }

// bpeDecoder makes blanks of the ends of words.
type bpeDecoder struct{ suffix string }

func (d bpeDecoder) decode(pieces []string) []string {
	out := make([]string, len(pieces))
	for i, p := range pieces {
		with := " "
		if i == len(pieces)-1 {
			with = ""
		}
		out[i] = strings.ReplaceAll(p, d.suffix, with)
	}
	return out
}
