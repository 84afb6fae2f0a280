package attention

import "fmt"

// localEntry is {"type": "local", "chunk": 64}: the sequence is cut into chunks, the last may be short; a query reads its own chunk,
// chunks_before before it (1) and chunks_after behind it (as many as before, in a decoder none). It is Reformer's local layer, whose
// queries, keys and values are projected apart.
type localEntry struct {
	kind
	Chunk        *int `json:"chunk"`
	ChunksBefore *int `json:"chunks_before,omitempty"`
	ChunksAfter  *int `json:"chunks_after,omitempty"`
}

func (e *localEntry) check() []error {
	return checkSide(checkSide(checkPositive(nil, "chunk", e.Chunk), "chunks_before", e.ChunksBefore, false), "chunks_after", e.ChunksAfter, false)
}

func (e *localEntry) pattern(at Layer) (Pattern, error) {
	before := 1
	if e.ChunksBefore != nil {
		before = *e.ChunksBefore
	}
	after := right(e.ChunksAfter, before, at.Decoder)
	return Blocks{Size: *e.Chunk, Left: wide(before, *e.Chunk), Right: wide(after, *e.Chunk)}, nil
}

// wide is so many chunks in tokens.
func wide(chunks, chunk int) int {
	if chunks > maxNumber/chunk {
		return maxNumber
	}
	return chunks * chunk
}

// RingOfChunks is Blocks whose ends meet, for sequences of Length positions, a multiple of Size: a query of chunk c reads the chunks c - Before to
// c + After, counted round. It is the local layer of transformers' Reformer.
type RingOfChunks struct {
	alike
	Size, Before, After, Length int
}

func (r RingOfChunks) String() string {
	return fmt.Sprintf("ring-of-chunks(%d,%d,%d,%d)", r.Size, r.Before, r.After, r.Length)
}

// Sees is false beyond Length.
func (r RingOfChunks) Sees(_, i, j, n int) bool {
	n = min(n, r.Length)
	if !inside(i, j, n) {
		return false
	}
	chunks := r.Length / r.Size
	d := (j/r.Size - i/r.Size + chunks) % chunks // ahead
	return d <= r.After || chunks-d <= r.Before
}

// Row lists chunk by chunk.
func (r RingOfChunks) Row(_, i, n int, dst []Run) []Run {
	return r.around(i, n, r.Before, r.After, dst)
}

// Col is Row the other way round.
func (r RingOfChunks) Col(_, j, n int, dst []Run) []Run {
	return r.around(j, n, r.After, r.Before, dst)
}

func (r RingOfChunks) around(i, n, before, after int, dst []Run) []Run {
	if n = min(n, r.Length); i >= n {
		return dst
	}
	chunks := r.Length / r.Size
	for c := range chunks {
		if d := (c - i/r.Size + chunks) % chunks; d <= after || chunks-d <= before {
			dst = appendRun(dst, c*r.Size, min(n, (c+1)*r.Size), 1)
		}
	}
	return dst
}

// NNZ counts row by row.
func (r RingOfChunks) NNZ(h, n int) int64 { return countRows(r, h, n) }
