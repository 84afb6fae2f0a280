package tokenizers

import (
	"math"
	"unicode/utf8"
)

// unigram takes the most probable way of cutting a text into tokens, whose probabilities are independent (Viterbi).
// Source: Kudo 2018, arXiv 1804.10959, section 3.2.
type unigram struct {
	names   []string
	ids     map[string]int32
	scores  []float64 // logarithms of probabilities
	trie    trie
	unknown int32   // negative: none
	worst   float64 // score of what is unknown
	bytes   bool    // an unknown part becomes the tokens <0x00> to <0xFF> of its bytes, if there are all of them
	fuse    bool    // unknown parts in a row are one
	single  bool    // the scores of ways are kept in single precision, as SentencePiece does
}

// unknownPenalty lies between the worst token and an unknown character.
const unknownPenalty = 10

// newUnigram makes the model of tokens with scores. usable says of each whether text may become it; nil: of all.
func newUnigram(names []string, scores []float64, unknown int32, usable func(id int) bool) *unigram {
	m := &unigram{names: names, ids: make(map[string]int32, len(names)), scores: scores, unknown: unknown, fuse: true, worst: math.Inf(1)}
	for id, name := range names {
		if _, twice := m.ids[name]; name == "" || twice || usable != nil && !usable(id) {
			continue
		}
		m.ids[name] = int32(id)
		m.trie.add(name, int32(id))
	}
	m.trie.ready()
	for _, s := range scores {
		m.worst = min(m.worst, s)
	}
	m.worst -= unknownPenalty
	return m
}

func (m *unigram) vocabulary() []string { return m.names }

// step is the best way to a place in the text: its score, its last token, and where that begins.
type step struct {
	score float64
	id    int32
	from  int32 // negative: no way yet
}

func (m *unigram) tokens(s string, dst []token) []token {
	ways := make([]step, len(s)+1)
	for i := range ways {
		ways[i].from = -1
	}
	reach := func(from, to int, id int32, score float64) {
		if m.single {
			score = float64(float32(score))
		}
		if w := &ways[to]; w.from < 0 || score > w.score {
			*w = step{score, id, int32(from)}
		}
	}
	for from := 0; from < len(s); {
		n, so, whole := runeLen(s, from), ways[from].score, false
		m.trie.prefixes(s[from:], func(size int, id int32) {
			reach(from, from+size, id, so+m.scores[id])
			whole = whole || size == n
		})
		if !whole {
			reach(from, from+n, m.unknown, so+m.worst)
		}
		from += n
	}
	begun := len(dst)
	for to := int32(len(s)); to > 0; {
		w := ways[to]
		if last := len(dst) - 1; m.fuse && w.id == m.unknown && last >= begun && dst[last].id == m.unknown {
			dst[last].from = w.from
		} else {
			dst = append(dst, token{w.id, w.from, to})
		}
		to = w.from
	}
	for i, j := begun, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return m.known(s, dst, begun)
}

// known puts the tokens of bytes in place of what is unknown, if there are such.
func (m *unigram) known(s string, dst []token, begun int) []token {
	for i := begun; i < len(dst); i++ {
		t := dst[i]
		if t.id != m.unknown {
			continue
		}
		if id, ok := m.ids[s[t.from:t.to]]; ok { // fused parts may be a token by chance
			dst[i].id = id
		} else if m.bytes {
			if ids := byteTokens(m.ids, s[t.from:t.to]); ids != nil {
				var all []token
				for _, id := range ids {
					all = append(all, token{id, t.from, t.to})
				}
				dst = append(dst[:i], append(all, dst[i+1:]...)...)
				i += len(all) - 1
				continue
			}
		}
	}
	if m.unknown >= 0 {
		return dst
	}
	kept := dst[:begun]
	for _, t := range dst[begun:] {
		if t.id >= 0 {
			kept = append(kept, t)
		}
	}
	return kept
}

const hexDigits = "0123456789ABCDEF"

// byteToken is the name of the token of a byte.
func byteToken(c byte) string { return "<0x" + string([]byte{hexDigits[c>>4], hexDigits[c&15]}) + ">" }

// byteTokens are the tokens of the bytes of a text; nil if one is missing.
func byteTokens(ids map[string]int32, s string) []int32 {
	out := make([]int32, 0, len(s))
	for i := range len(s) {
		id, ok := ids[byteToken(s[i])]
		if !ok {
			return nil
		}
		out = append(out, id)
	}
	return out
}

// trie finds all tokens that a text begins with.
type trie struct {
	nodes []trieNode
	edges []trieEdge // those of a node stand together, by byte
	build []map[byte]int32
	root  [256]int32 // child of the root for each byte, 0: none
}

type trieNode struct {
	id       int32 // of the token that ends here, -1: none
	from, to int32 // edges
}

type trieEdge struct {
	c    byte
	node int32
}

func (t *trie) add(name string, id int32) {
	if t.nodes == nil {
		t.nodes, t.build = []trieNode{{id: -1}}, []map[byte]int32{{}}
	}
	at := int32(0)
	for i := range len(name) {
		next, ok := t.build[at][name[i]]
		if !ok {
			next = int32(len(t.nodes))
			t.nodes, t.build = append(t.nodes, trieNode{id: -1}), append(t.build, map[byte]int32{})
			t.build[at][name[i]] = next
		}
		at = next
	}
	t.nodes[at].id = id
}

// ready lays the edges out.
func (t *trie) ready() {
	for n := range t.nodes {
		from := len(t.edges)
		for c := range 256 {
			if next, ok := t.build[n][byte(c)]; ok {
				t.edges = append(t.edges, trieEdge{byte(c), next})
				if n == 0 {
					t.root[c] = next
				}
			}
		}
		t.nodes[n].from, t.nodes[n].to = int32(from), int32(len(t.edges))
	}
	t.build = nil
}

// prefixes calls f for each token that s begins with, the shortest first.
func (t *trie) prefixes(s string, f func(size int, id int32)) {
	at := t.root[s[0]]
	for i := 1; at > 0; i++ {
		if n := t.nodes[at]; n.id >= 0 {
			f(i, n.id)
		}
		if i == len(s) {
			return
		}
		at = t.child(at, s[i])
	}
}

func (t *trie) child(at int32, c byte) int32 {
	edges := t.edges[t.nodes[at].from:t.nodes[at].to]
	lo, hi := 0, len(edges)
	for lo < hi {
		if mid := (lo + hi) / 2; edges[mid].c < c {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(edges) && edges[lo].c == c {
		return edges[lo].node
	}
	return 0
}

// longest is the size and the id of the longest token that s begins with; 0 if there is none.
func (t *trie) longest(s string) (size int, id int32) {
	if s == "" || len(t.nodes) == 0 {
		return 0, -1
	}
	t.prefixes(s, func(n int, token int32) { size, id = n, token })
	return size, id
}

// validRune reports whether a text begins with a character.
func validRune(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return r != utf8.RuneError || n > 1
}
