package data

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// wordPieceFolder is a folder with the tokenizer of a BERT.
func wordPieceFolder(t testing.TB) string {
	t.Helper()
	f, err := os.Open(filepath.Join("tokenizers", "testdata", "wordpiece.json.gz"))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	raw, err := io.ReadAll(z)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, TokenizerFile), raw, 0o666))
	return dir
}

func TestPretrained(t *testing.T) {
	dir := wordPieceFolder(t)
	tok, found, err := LoadTokenizer(dir)
	require.NoError(t, err)
	require.True(t, found)
	require.IsType(t, &Pretrained{}, tok)
	require.Equal(t, 30522, tok.VocabSize())
	ids := tok.Encode("Unbelievable whales!")
	require.Equal(t, " unbelievable whales!", tok.Decode(ids))
	for name, want := range map[string]int32{"[PAD]": 0, "[MASK]": 103, "[CLS]": 101, "[SEP]": 102} {
		id, ok := Special(tok, name)
		require.True(t, ok)
		require.Equal(t, want, id)
	}

	// What is saved beside a checkpoint is the same tokenizer.
	other := t.TempDir()
	for name, raw := range TokenizerFiles(tok) {
		require.NoError(t, os.WriteFile(filepath.Join(other, name), raw, 0o666))
	}
	again, found, err := LoadTokenizer(other)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, ids, again.Encode("Unbelievable whales!"))
	require.Equal(t, tok.(*Pretrained).digest, again.(*Pretrained).digest)

	v := newVocabulary(tok)
	sea, _ := tok.(*Pretrained).tok.ID("sea")
	ing, _ := tok.(*Pretrained).tok.ID("##ing")
	require.Equal(t, 4, v.size(sea), "with the blank before it")
	require.Equal(t, 3, v.size(ing))
	require.True(t, v.joined(sea, ing))
	require.False(t, v.joined(ing, sea))
	for h := range uint64(200) {
		id := v.ordinary(hash(h))
		require.NotContains(t, []int32{0, 101, 102, 103}, id)
	}
}

// Tasks that classify texts begin with the tokenizer's own [CLS], and part two texts by its [SEP].
func TestPretrainedTasks(t *testing.T) {
	dir := wordPieceFolder(t)
	lines := strings.Repeat(`{"text": "the whale is white", "label": "a", "target": "a white whale", "g": "1"}`+"\n"+`{"text": "the sea is blue", "label": "b", "target": "a blue sea", "g": "2"}`+"\n"+`{"text": "the sky is wide", "label": "b", "target": "a wide sky", "g": "3"}`+"\n", 30)
	path := write(t, t.TempDir(), "a.jsonl", []byte(lines))
	sentences := write(t, t.TempDir(), "b.txt", []byte(strings.Repeat("The whale is white. The sea is blue. The sky is wide.\n", 60)))
	for _, c := range []Config{{Task: "excerpt(length=4,test=3)"}, {Task: "shuffled(length=4,piece=1,test=3)"}, {Task: "matching(length=10,test=3)"},
		{Task: "section_order(length=9,sections=4,test=3)"}, {Task: "cpc(length=8,sections=4,hide=50,mask=0,test=3)"}} {
		c.Path, c.Tokenizer = path, dir
		if strings.Contains(c.Task, "sections=") {
			c.Path = sentences
		}
		corpus, err := Load(c)
		require.NoError(t, err, c.Task)
		length := corpus.Test.Length()
		b := corpus.Test.Shape(length).NewBatch(3, length)
		corpus.Test.PlainWindows(length).Fill(0, b)
		require.NotContains(t, b.More["packed_ids"], int32(padID), c.Task)
		for r := range 3 {
			for s, id := range rowOf(b, b.More["global_ids"], r) {
				require.Contains(t, []int32{-1, 101, 103}, id, "%s, section %d", c.Task, s)
			}
			if strings.HasPrefix(c.Task, "cpc") {
				require.Contains(t, b.IDs[r*length:][:length], int32(103))
				require.NotContains(t, b.IDs[r*length:][:length], int32(maskID))
				continue
			}
			require.EqualValues(t, 101, b.IDs[r*length], c.Task)
			if length == 10 {
				require.EqualValues(t, 102, b.IDs[r*length+5], c.Task)
			}
			require.NotContains(t, b.IDs[r*length:][:length], int32(clsID), c.Task)
		}
	}
}

// A classifier of elsewhere reads [CLS] text [SEP], a masked model sees its own [MASK], targets end as the model says.
func TestPretrainedViews(t *testing.T) {
	dir := wordPieceFolder(t)
	lines := strings.Repeat(`{"text": "the whale is white", "label": "a"}`+"\n"+`{"text": "the sea", "label": "b"}`+"\n", 30)
	path := write(t, t.TempDir(), "a.jsonl", []byte(lines))
	corpus, err := Load(Config{Path: path, Tokenizer: dir, Objective: "sequence_classification"})
	require.NoError(t, err)
	s, err := corpus.Train.Sampler(7, 1)
	require.NoError(t, err)
	b := corpus.Train.Shape(7).NewBatch(8, 7)
	s.Fill(0, b)
	for r := range 8 {
		row := b.IDs[7*r:][:7]
		n := b.Lens[r]
		require.EqualValues(t, 101, row[0])
		require.EqualValues(t, 102, row[n-1])
		require.Contains(t, []int32{4, 6}, n)
	}
	corpus, err = Load(Config{Path: path, Tokenizer: dir, Objective: "masked_lm", MaskProbability: 0.5})
	require.NoError(t, err)
	s, err = corpus.Train.Sampler(2, 1)
	require.NoError(t, err)
	b = corpus.Train.Shape(2).NewBatch(8, 2)
	s.Fill(0, b)
	require.Contains(t, b.IDs, int32(103))

	tok, _, err := LoadTokenizer(dir)
	require.NoError(t, err)
	c := Config{Path: path, Objective: "seq2seq_lm", TargetField: "label"}.With(tok).WithEnds(7, 9)
	corpus, err = Load(c)
	require.NoError(t, err)
	s, err = corpus.Train.Sampler(9, 1)
	require.NoError(t, err)
	b = corpus.Train.Shape(9).NewBatch(2, 9)
	s.Fill(0, b)
	require.EqualValues(t, 7, b.TargetIDs[0])
	require.EqualValues(t, 9, b.TargetTargets[b.TargetLens[0]-1])

	no := write(t, t.TempDir(), "tokenizer.json", []byte(`{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}}}`))
	_, err = Load(Config{Path: path, Tokenizer: no, Objective: "masked_lm"})
	requireError(t, err, ErrTokenizer, "mask", "no mask")
}
