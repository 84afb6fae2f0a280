package data

import (
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// stream is the SplitMix64 generator (Steele, Lea and Flood 2014, figure 16) of one example.
type stream struct {
	state   uint64
	scratch []int32
	example example // the one that is written
	pieces  []piece
}

// start begins the numbers of an example: the state is FNV-64 of the task's bare name, the part in bits 60 and 61, the index
// below, joined by exclusive or. No two examples of a task begin alike.
func (s *stream) start(task uint64, part, index int) {
	s.state = task ^ uint64(part)<<60 ^ uint64(index)
}

// taskHash is the 64-bit FNV-1 hash of a name.
func taskHash(name string) uint64 {
	h := fnv.New64()
	_, _ = h.Write([]byte(name))
	return h.Sum64()
}

func (s *stream) next() uint64 {
	s.state += splitmix.Increment
	return splitmix.Mix(s.state)
}

// below draws from 0..n-1.
func (s *stream) below(n int) int { return below(s.next(), n) }

// choose draws k different numbers of 0..n-1, each order as likely (Fisher and Yates). The result is valid until the next call.
func (s *stream) choose(n, k int) []int32 {
	s.scratch = s.scratch[:0]
	for i := range n {
		s.scratch = append(s.scratch, int32(i))
	}
	for i := range k {
		j := i + s.below(n-i)
		s.scratch[i], s.scratch[j] = s.scratch[j], s.scratch[i]
	}
	return s.scratch[:k]
}

// words is the tokenizer of a task: groups of ids with a letter, numbered within the group.
type words struct {
	groups []wordGroup
	ids    map[string]int32
	names  []string
}

// wordGroup is n ids in a row: P0, P1, ... for the prefix P, or P alone if there is one id of a kind.
type wordGroup struct {
	prefix string
	n      int
}

var _ Tokenizer = (*words)(nil)

func newWords(groups ...wordGroup) *words {
	w := &words{groups: groups, ids: map[string]int32{}}
	for _, g := range groups {
		for i := range g.n {
			name := g.prefix
			if g.n > 1 {
				name += strconv.Itoa(i)
			}
			w.ids[name] = int32(len(w.names))
			w.names = append(w.names, name)
		}
	}
	return w
}

// Name returns "task".
func (w *words) Name() string { return "task" }

// VocabSize is the number of ids.
func (w *words) VocabSize() int { return len(w.names) }

// Encode returns the ids of words with spaces between them; what is none is left out.
func (w *words) Encode(text string) []int32 {
	var ids []int32
	for word := range strings.FieldsSeq(text) {
		if id, ok := w.ids[word]; ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// Decode returns the words, a space after each.
func (w *words) Decode(ids []int32) string {
	var s strings.Builder
	for _, id := range ids {
		if id >= 0 && int(id) < len(w.names) {
			s.WriteString(w.names[id] + " ")
		}
	}
	return s.String()
}
