package data

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// pairs is a tokenizer of two bytes a token, with ids beyond a byte.
type pairs struct{}

func (pairs) Name() string              { return "pairs" }
func (pairs) VocabSize() int            { return 1 << 16 }
func (pairs) Decode(ids []int32) string { return strings.Repeat("..", len(ids)) }
func (pairs) Encode(s string) []int32 {
	ids := make([]int32, (len(s)+1)/2)
	for i := range s {
		ids[i/2] = ids[i/2]<<8 | int32(s[i])
	}
	return ids
}

// partOf makes a part whose documents have the given sizes; no token occurs twice in a row, so that a shift cannot hide.
func partOf(tok Tokenizer, sizes ...int) *Part {
	var docs []document
	for d, size := range sizes {
		text := make([]byte, size)
		for i := range text {
			text[i] = byte(hash(uint64(d), uint64(i))%127) | byte(i&1)<<7
		}
		docs = append(docs, document{name: fmt.Sprint(d), text: text})
	}
	return newPart("made up", "train", tok, newVocabulary(tok), causalView{}, docs)
}

// documentOf is the document that holds token i.
func documentOf(p *Part, i int) int {
	d, found := slices.BinarySearch(p.bounds, i)
	if !found {
		d--
	}
	for p.bounds[d+1] == i {
		d++
	}
	return d
}

func TestPermutation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5000).Draw(t, "n")
		key := rapid.Uint64().Draw(t, "key")
		p := newPermutation(n, key)
		seen := make([]bool, n)
		for i := range n {
			x := p.at(i)
			require.False(t, seen[x], "%d twice", x)
			seen[x] = true
		}
	})
}

func TestPermutationLooksRandom(t *testing.T) {
	// Where element 0 of 11 goes over many keys: each place is as likely. 11 degrees less one: a chi-square of 40 is one in 50,000.
	const n, keys = 11, 11000
	for from := range n {
		count := make([]int, n)
		for key := range uint64(keys) {
			p := newPermutation(n, hash(key))
			count[p.at(from)]++
		}
		chi := 0.0
		for _, c := range count {
			chi += float64((c-keys/n)*(c-keys/n)) / (keys / n)
		}
		require.Less(t, chi, 40.0, "from %d: %v", from, count)
	}
}

// windowAt returns the first input and the last target of an example.
func windowAt(s *Sampler, position int64) (start, end int) {
	w := s.window(s.shuffled(position))
	return w.start, w.end
}

func TestEpochHoldsEveryExampleOnce(t *testing.T) {
	for _, tok := range []Tokenizer{Bytes{}, pairs{}} {
		p := partOf(tok, 1009, 13, 1, 0, 31, 30, 400)
		const length, seed = 29, 5
		s, err := p.Sampler(length, seed)
		require.NoError(t, err)
		n := s.PerEpoch()
		for epoch := range int64(3) {
			starts := map[int]int{}
			for i := range n {
				start, end := windowAt(s, epoch*int64(n)+int64(i))
				require.NotContains(t, starts, start)
				starts[start] = end
				require.Equal(t, documentOf(p, start), documentOf(p, end), "one document")
				require.LessOrEqual(t, end-start, length)
			}
			spans := make([]int, 0, n)
			for start := range starts {
				spans = append(spans, start)
			}
			slices.Sort(spans)
			for i := 1; i < n; i++ {
				require.LessOrEqual(t, starts[spans[i-1]], spans[i], "no target twice")
			}
		}
	}
	s, err := partOf(Bytes{}, 1009, 13, 1, 0, 31, 30, 400).Sampler(29, 5)
	require.NoError(t, err)
	// 1008/29 = 34 less one for the phase; 13, 31 and 30 give one each (13 padded); 399/29 = 13 less one.
	require.Equal(t, 33+1+1+1+12, s.PerEpoch())
}

func TestOffsetsVaryAndReachEverything(t *testing.T) {
	p := partOf(Bytes{}, 353)
	s, err := p.Sampler(17, 3)
	require.NoError(t, err)
	n := int64(s.PerEpoch())
	require.Equal(t, int64(19), n)
	phases, targets := map[int]bool{}, make([]bool, 353)
	for i := range 400 * n {
		start, end := windowAt(s, i)
		phases[start%17] = true
		for j := start + 1; j <= end; j++ {
			targets[j] = true
		}
	}
	require.Len(t, phases, 17)
	require.NotContains(t, targets[1:], false)
	require.False(t, targets[0])
}

func TestFill(t *testing.T) {
	p := partOf(Bytes{}, 101, 7)
	s, err := p.Sampler(11, 1)
	require.NoError(t, err)
	b := NewBatch(3, 11)
	short := 0
	for position := int64(0); position < 60; position += 3 {
		s.Fill(position, b)
		for r := range 3 {
			start, end := windowAt(s, position+int64(r))
			n := end - start
			require.Equal(t, int32(n), b.Lens[r])
			ids, targets := b.IDs[r*11:r*11+11], b.Targets[r*11:r*11+11]
			for i := range 11 {
				if i >= n {
					require.Equal(t, []int32{0, -1}, []int32{ids[i], targets[i]})
					continue
				}
				require.Equal(t, int32(p.tokens.small[start+i]), ids[i])
				require.Equal(t, int32(p.tokens.small[start+i+1]), targets[i])
			}
			if n < 11 {
				short++
				require.Equal(t, 6, n, "the document of 7")
			}
		}
	}
	require.NotZero(t, short)
}

func TestResumeIsTheSameOrder(t *testing.T) {
	p := partOf(Bytes{}, 997, 313)
	straight, err := p.Sampler(23, 42)
	require.NoError(t, err)
	a, b := NewBatch(2, 23), NewBatch(2, 23)
	for i := range int64(100) {
		straight.Fill(2*i, a)
		if i%7 == 3 { // across the ends of epochs too
			fresh, err := p.Sampler(23, 42)
			require.NoError(t, err)
			fresh.Fill(2*i, b)
			require.Equal(t, a, b)
		}
	}
	other, err := p.Sampler(23, 43)
	require.NoError(t, err)
	straight.Fill(0, a)
	other.Fill(0, b)
	require.NotEqual(t, a.IDs, b.IDs, "another seed")
	straight.Fill(int64(straight.PerEpoch()), b)
	require.NotEqual(t, a.IDs, b.IDs, "another epoch")
}

func TestFillAllocatesNothing(t *testing.T) {
	s, err := partOf(Bytes{}, 997, 313).Sampler(23, 42)
	require.NoError(t, err)
	b := NewBatch(5, 23)
	position := int64(0)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		s.Fill(position, b)
		position += 5
	}))
}

func TestTooShortNamesTheLargest(t *testing.T) {
	p := partOf(Bytes{}, 31, 57, 3)
	_, err := p.Sampler(57, 0)
	requireError(t, err, ErrTooShort, "57", "sequence_length 57", "at most 56")
	require.Equal(t, 56, err.(*Error).Largest)
	_, err = p.Sampler(56, 0)
	require.NoError(t, err, "what the message says works")
	_, err = p.Sampler(0, 0)
	requireError(t, err, ErrTooShort, "0", "sequence_length is 0")
}

func TestStridedWindowsScoreEveryTokenOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 90), 1, 5).Draw(t, "sizes")
		length := rapid.IntRange(1, 40).Draw(t, "T")
		stride := rapid.IntRange(1, length).Draw(t, "stride")
		rows := rapid.IntRange(1, 4).Draw(t, "B")
		p := partOf(Bytes{}, sizes...)
		w := p.StridedWindows(length, stride)
		count := make([]int, p.Tokens())
		b := NewBatch(rows, length)
		total := 0
		for first := 0; first < w.Len(); first += rows {
			w.Fill(first, b)
			total += b.Scored()
			for r := range rows {
				if first+r >= w.Len() {
					require.Zero(t, b.Lens[r])
					continue
				}
				s := w.spans[first+r]
				doc := p.bounds[documentOf(p, s.start)]
				for i := range length {
					if target := b.Targets[r*length+i]; target >= 0 {
						at := s.start + 1 + i
						require.Equal(t, int32(p.tokens.small[at]), target)
						require.Equal(t, documentOf(p, s.start), documentOf(p, at))
						require.GreaterOrEqual(t, i+1, min(length-stride+1, at-doc), "context")
						count[at]++
					}
				}
			}
		}
		for d := range p.Documents() {
			for i := p.bounds[d]; i < p.bounds[d+1]; i++ {
				want := 1
				if i == p.bounds[d] {
					want = 0
				}
				require.Equal(t, want, count[i], "token %d", i)
			}
		}
		require.Equal(t, int64(total), w.Scored())
		require.Equal(t, p.readable(), total)
	})
}

func TestFromTokens(t *testing.T) {
	p := FromTokens("random", []int32{70000, 1, 2}, []int32{3, 4})
	require.Equal(t, []int{2, 5, 5}, []int{p.Documents(), p.Tokens(), int(p.Bytes())})
	b := NewBatch(2, 2)
	p.PlainWindows(2).Fill(0, b)
	require.Equal(t, &Batch{B: 2, T: 2, IDs: []int32{70000, 1, 3, 0}, Targets: []int32{1, 2, 4, -1}, Lens: []int32{2, 1}, Bytes: 3}, b)
}

func TestPlainWindows(t *testing.T) {
	w := partOf(Bytes{}, 25, 9).PlainWindows(8)
	require.Equal(t, []span{{0, 0, 8, 0}, {0, 8, 16, 8}, {0, 16, 24, 16}, {1, 25, 33, 25}}, w.spans)
	require.Equal(t, 32.0, w.Bytes())
	w = partOf(Bytes{}, 26).PlainWindows(8)
	require.Equal(t, span{0, 24, 25, 24}, w.spans[3], "the rest")
	require.Equal(t, 25*2.0, partOf(pairs{}, 52).PlainWindows(8).Bytes())
}
