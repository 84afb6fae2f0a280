package data

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/euryale-ml/euryale/data/tokenizers"
)

// Pretrained is a tokenizer of the Hugging Face world: WordPiece, unigram or BPE with whatever stands around it in its files. It need not give a
// text back as it was.
type Pretrained struct {
	path  string
	files map[string][]byte // what a folder needs to have it
	ids   specialIDs

	mu     sync.Mutex // of tok
	tok    *tokenizers.Tokenizer
	digest []byte
}

var _ Tokenizer = (*Pretrained)(nil)

// besideTokenizer are files that say more about a tokenizer.
var besideTokenizer = []string{"tokenizer_config.json", "special_tokens_map.json", "merges.txt", "vocab.txt"}

// LoadTokenizer reads the tokenizer of a folder (see tokenizers.Files), or a file of it by its path. One that is a byte-level BPE and nothing
// else, as those that are trained here, is a *BPE, others are a *Pretrained. found is false, without an error, if the folder has none.
//
// Errors: ErrTorn for what is damaged; ErrTokenizer for a tokenizer of another kind, which says what of it is not supported.
func LoadTokenizer(path string) (tok Tokenizer, found bool, err error) {
	bpe, found, err := loadBPE(path)
	if found && err == nil {
		return bpe, true, nil
	}
	if err != nil && !errors.Is(err, ErrTokenizer) {
		return nil, false, err
	}
	t, err := tokenizers.Load(path)
	switch {
	case errors.Is(err, tokenizers.ErrNone):
		return nil, false, nil
	case err != nil:
		var at *tokenizers.FileError
		if errors.As(err, &at) {
			path, err = at.Path, at.Err
		}
		if u := tokenizers.Unsupported(""); errors.As(err, &u) {
			err = unsupported(string(u))
		}
		return nil, false, tokenizerError(path, err)
	}
	p := &Pretrained{path: path, tok: t, files: map[string][]byte{}}
	if err := p.keepFiles(); err != nil {
		return nil, false, err
	}
	p.findIDs()
	return p, true, nil
}

// loadBPE reads a byte-level BPE and nothing else. found is false, without an error, if there is no file of one.
func loadBPE(path string) (tok *BPE, found bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, fileError(path, err)
	}
	if !info.IsDir() {
		if !strings.HasSuffix(path, ".json") {
			return nil, false, nil
		}
		tok, err = readTokenizer(path)
		return tok, err == nil, err
	}
	if tok, err = readTokenizer(filepath.Join(path, TokenizerFile)); !errors.Is(err, fs.ErrNotExist) {
		return tok, err == nil, err
	}
	vocab, merges := filepath.Join(path, "vocab.json"), filepath.Join(path, "merges.txt")
	if _, err := os.Stat(vocab); err != nil {
		return nil, false, nil
	}
	tok, err = readVocab(vocab, merges)
	return tok, err == nil, err
}

// keepFiles reads the files again, to be written beside checkpoints.
func (t *Pretrained) keepFiles() error {
	dir, names := t.path, append(slices.Clone(tokenizers.Files), besideTokenizer...)
	if info, err := os.Stat(t.path); err == nil && !info.IsDir() {
		dir = filepath.Dir(t.path)
		names = append(slices.Clone(besideTokenizer), filepath.Base(t.path))
	}
	h := sha256.New()
	for _, name := range names {
		raw, err := readSmall(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		t.files[name] = raw
	}
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		_, _ = fmt.Fprintf(h, "%s %d\n", name, len(t.files[name]))
		_, _ = h.Write(t.files[name])
	}
	t.digest = h.Sum(nil)
	return nil
}

// findIDs looks for the special tokens under the names that BERT, RoBERTa, T5 and their like have for them.
func (t *Pretrained) findIDs() {
	first := func(names ...string) int32 {
		for _, name := range names {
			if id, ok := t.tok.ID(name); ok {
				return id
			}
		}
		return -1
	}
	t.ids = specialIDs{pad: first("[PAD]", "<pad>", "<|endoftext|>"), mask: first("[MASK]", "<mask>", "<extra_id_0>"), cls: first("[CLS]", "<s>"), sep: first("[SEP]", "</s>"),
		start: first("<s>", "<pad>", "[CLS]"), end: first("</s>", "<|endoftext|>", "[SEP]")}
	if id, ok := t.tok.PadID(); ok {
		t.ids.pad = id
	}
}

// withEnds is the same tokenizer with other tokens around targets.
func (t *Pretrained) withEnds(start, end int32) *Pretrained {
	c := &Pretrained{path: t.path, files: t.files, ids: t.ids, tok: t.tok, digest: t.digest}
	c.ids.start, c.ids.end = start, end
	return c
}

// lacks names a special token that an objective needs and that is not there.
func (t *Pretrained) lacks(objective string) string {
	need := map[string]map[string]int32{"masked_lm": {"mask": t.ids.mask}, "sequence_classification": {"[CLS]": t.ids.cls},
		"question_answering": {"[CLS]": t.ids.cls, "[SEP]": t.ids.sep}, "seq2seq_lm": {"</s>": t.ids.end}}[objective]
	for _, name := range slices.Sorted(maps.Keys(need)) {
		if need[name] < 0 {
			return name
		}
	}
	return ""
}

// Name is the path it was read from.
func (t *Pretrained) Name() string { return t.path }

// VocabSize is one more than the largest id.
func (t *Pretrained) VocabSize() int { return t.tok.VocabSize() }

// Encode returns the ids of a text, without special tokens around them.
func (t *Pretrained) Encode(text string) []int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tok.IDs(text)
}

// offsets are the characters of a text that each of its ids stands for: the first, and the one after the last.
func (t *Pretrained) offsets(text string) [][2]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tok.Encode(false, text).Offsets
}

// Decode joins what each id stands for within a text, so that pieces decoded one by one are the whole. A text begins with a blank where its first
// word has one.
func (t *Pretrained) Decode(ids []int32) string {
	var b bytes.Buffer
	for _, id := range ids {
		b.WriteString(t.tok.Text(id))
	}
	return b.String()
}
