package tokenizers

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rivo/uniseg"
)

// charsMap is SentencePiece's compiled table of what stands for which characters: a double array with the places of texts.
// Source: the format of darts-clone, as SentencePiece writes it into normalizer_spec.precompiled_charsmap.
type charsMap struct {
	units []uint32
	texts string // each ends with a 0
}

func newCharsMap(raw []byte) (*charsMap, error) {
	if len(raw) < 4 {
		return nil, fmt.Errorf("the table of characters is cut off")
	}
	n := binary.LittleEndian.Uint32(raw)
	raw = raw[4:]
	if n%4 != 0 || int64(n) > int64(len(raw)) || n == 0 {
		return nil, fmt.Errorf("the table of characters is damaged")
	}
	m := &charsMap{units: make([]uint32, n/4), texts: string(raw[n:])}
	for i := range m.units {
		m.units[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return m, nil
}

// prefixes calls f with the size and the replacement of each entry that s begins with, the shortest first, until it returns false.
func (m *charsMap) prefixes(s string, f func(size int, with string) bool) {
	offset := func(u uint32) uint32 { return u >> 10 << (u & (1 << 9) >> 6) }
	at := offset(m.units[0])
	for i := range len(s) {
		c := uint32(s[i])
		if c == 0 {
			return
		}
		if at ^= c; int64(at) >= int64(len(m.units)) {
			return
		}
		u := m.units[at]
		if u&(1<<31|0xff) != c {
			return
		}
		at ^= offset(u)
		if u>>8&1 == 1 {
			if int64(at) >= int64(len(m.units)) {
				return
			}
			if !f(i+1, m.textAt(m.units[at]&(1<<31-1))) {
				return
			}
		}
	}
}

func (m *charsMap) textAt(at uint32) string {
	if int64(at) >= int64(len(m.texts)) {
		return ""
	}
	s, _, _ := strings.Cut(m.texts[at:], "\x00")
	return s
}

// longest is the longest entry that s begins with, as SentencePiece takes it.
func (m *charsMap) longest(s string) (size int, with string) {
	m.prefixes(s, func(n int, w string) bool {
		size, with = n, w
		return true
	})
	return size, with
}

// precompiled is the table as the chain of a tokenizer.json applies it, which is not as SentencePiece does: to a cluster of characters as
// a whole if it is shorter than six bytes, else to each of them, and of several entries the shortest counts.
type precompiled struct{ *charsMap }

func (m precompiled) normalize(t text) text {
	w := newRewriter(t)
	changed := false
	one := func(part string, at int) bool {
		with, ok := "", false
		m.prefixes(part, func(_ int, w string) bool {
			with, ok = w, true
			return false
		})
		if !ok {
			return false
		}
		changed = true
		// What is added comes from the last of the characters replaced, the others from one each.
		var from []span
		for i := range part {
			from = append(from, t.span(at+i, at+i+runeLen(part, i)))
		}
		k := 0
		for _, r := range with {
			w.put(r, from[min(k, len(from)-1)])
			k++
		}
		return true
	}
	for at := 0; at < len(t.s); {
		n := cluster(t.s[at:])
		if n >= 6 || !one(t.s[at:at+n], at) {
			for i := at; i < at+n; {
				size := runeLen(t.s, i)
				if !one(t.s[i:i+size], i) {
					w.puts(t.s[i:i+size], t.span(i, i+size))
				}
				i += size
			}
		}
		at += n
	}
	if !changed {
		return t
	}
	return w.text(t)
}

// cluster is the size of the first cluster of characters.
func cluster(s string) int {
	if len(s) > 1 && s[0] < utf8.RuneSelf && s[1] < utf8.RuneSelf && s[0] != '\r' {
		return 1
	}
	first, _, _, _ := uniseg.FirstGraphemeClusterInString(s, -1)
	return len(first)
}
