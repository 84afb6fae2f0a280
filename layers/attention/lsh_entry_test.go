package attention

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// What an entry refuses, by field.
func TestLSHEntryRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"lsh","num_hashes":2}`:                                                         "chunk",
		`{"type":"lsh","chunk":4}`:                                                              "num_hashes",
		`{"type":"lsh","chunk":0,"num_hashes":2}`:                                               "chunk",
		`{"type":"lsh","chunk":4,"num_hashes":0}`:                                               "num_hashes",
		`{"type":"lsh","chunk":4,"num_hashes":-1}`:                                              "num_hashes",
		`{"type":"lsh","chunk":4,"num_hashes":2,"bucket_factors":[4,3]}`:                        "bucket_factors[1]",
		`{"type":"lsh","chunk":4,"num_hashes":2,"bucket_factors":[]}`:                           "bucket_factors",
		`{"type":"lsh","chunk":4,"num_hashes":2,"bucket_factors":[65536,65536]}`:                "bucket_factors[1]",
		`{"type":"lsh","chunk":4,"num_hashes":2,"plan":"recent"}`:                               "plan",
		`{"type":"lsh","chunk":4,"num_hashes":2,"dup":"twice"}`:                                 "dup",
		`{"type":"lsh","chunk":4,"num_hashes":2,"wrap":"across"}`:                               "wrap",
		`{"type":"lsh","chunk":4,"num_hashes":2,"plan":"bucketRecent","chunks_before":1}`:       "chunks_before",
		`{"type":"lsh","chunk":4,"num_hashes":2,"plan":"bucketRecent","same_bucket_only":true}`: "same_bucket_only",
		`{"type":"local","chunk":0}`:                                                            "chunk",
		`{"type":"local","chunk":4,"chunks_before":-1}`:                                         "chunks_before",
	} {
		var e Entry
		err := json.Unmarshal([]byte(text), &e)
		require.ErrorContains(t, err, want, text)
	}
	var e Entry
	require.NoError(t, json.Unmarshal([]byte(`{"type":"lsh","chunk":4,"num_hashes":2,"plan":"bucketRecent"}`), &e))
	m, err := e.Mixer(Layer{Heads: 2, Decoder: true})
	require.NoError(t, err)
	require.Equal(t, LSH{Chunk: 4, Hashes: 2, Factors: []int{16, 16, 8}, Before: 1, Plan: BucketRecent, Causal: true}, m)
}

// A ring of chunks is the same set from both sides, and its ends meet.
func TestRingOfChunks(t *testing.T) {
	r := RingOfChunks{Size: 3, Before: 1, After: 0, Length: 12}
	for _, n := range []int{12, 10, 14} {
		viewsAgree(t, r, n)
	}
	require.Equal(t, []int{0, 1, 2, 9, 10, 11}, Keys(r, 0, 1, 12))
	require.Equal(t, []int{3, 4, 5, 6, 7, 8}, Keys(r, 0, 7, 12))
	wide := RingOfChunks{Size: 3, Before: 4, After: 4, Length: 12}
	viewsAgree(t, wide, 12)
	require.Len(t, Keys(wide, 0, 5, 12), 12)
}
