package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/data/tokenizers"
)

// TokenizerFile is the name of the file that a tokenizer is kept in, beside the weights.
const TokenizerFile = "tokenizer.json"

// maxTokenizerFile bounds the size of a tokenizer's file.
const maxTokenizerFile = 64 << 20

// TokenizerFiles are the files, by name, that a model folder needs to have its tokenizer; none for bytes and for the tokens of a task.
func TokenizerFiles(tok Tokenizer) map[string][]byte {
	switch t := tok.(type) {
	case *BPE:
		return map[string][]byte{TokenizerFile: t.JSON()}
	case *Pretrained:
		return t.files
	}
	return nil
}

// readTokenizer reads a tokenizer.json.
func readTokenizer(path string) (*BPE, error) {
	text, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	t, err := parseTokenizer(text)
	if err != nil {
		return nil, tokenizerError(path, err)
	}
	return t, nil
}

// readVocab reads GPT-2's two files: ids by token, and a merge on each line.
func readVocab(vocabPath, mergesPath string) (*BPE, error) {
	text, err := readSmall(vocabPath)
	if err != nil {
		return nil, err
	}
	var vocab map[string]int64
	if err := json.Unmarshal(text, &vocab); err != nil {
		return nil, tokenizerError(vocabPath, err)
	}
	if text, err = readSmall(mergesPath); err != nil {
		return nil, err
	}
	var merges []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && !strings.HasPrefix(line, "#version") {
			merges = append(merges, line)
		}
	}
	special := map[string]int64{}
	if id, ok := vocab["<|endoftext|>"]; ok {
		special["<|endoftext|>"] = id
	}
	t, err := assemble(vocab, special, merges)
	if err != nil {
		return nil, tokenizerError(mergesPath, err)
	}
	return t, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxTokenizerFile+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	if len(text) > maxTokenizerFile {
		return nil, &Error{Kind: ErrTooLarge, Path: path, What: fmt.Sprintf("more than %d bytes", maxTokenizerFile), Fix: "check that it is a tokenizer"}
	}
	return text, nil
}

// unsupported is a tokenizer that is whole but of another kind.
type unsupported string

func (u unsupported) Error() string { return string(u) }

func tokenizerError(path string, err error) error {
	if u := unsupported(""); errors.As(err, &u) {
		return &Error{Kind: ErrTokenizer, Path: path, What: u.Error() + " is not supported", Fix: "use another tokenizer"}
	}
	return &Error{Kind: ErrTorn, Path: path, What: "damaged tokenizer (" + err.Error() + ")", Fix: "fetch or copy the file again", Err: err}
}

// tokenizerDoc is what of a tokenizer.json matters here.
type tokenizerDoc struct {
	AddedTokens []struct {
		ID      int64  `json:"id"`
		Content string `json:"content"`
	} `json:"added_tokens"`
	Normalizer   json.RawMessage `json:"normalizer"`
	PreTokenizer *struct {
		Type           string `json:"type"`
		AddPrefixSpace bool   `json:"add_prefix_space"`
		UseRegex       *bool  `json:"use_regex"`
	} `json:"pre_tokenizer"`
	Model struct {
		Type       string            `json:"type"`
		Dropout    *float64          `json:"dropout"`
		Prefix     *string           `json:"continuing_subword_prefix"`
		Suffix     *string           `json:"end_of_word_suffix"`
		Vocab      map[string]int64  `json:"vocab"`
		Merges     []json.RawMessage `json:"merges"`
		IgnoreMerg bool              `json:"ignore_merges"`
	} `json:"model"`
}

func parseTokenizer(text []byte) (*BPE, error) {
	var doc tokenizerDoc
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	m, pre := doc.Model, doc.PreTokenizer
	switch {
	case m.Type != "BPE" && !(m.Type == "" && len(m.Merges) > 0):
		return nil, unsupported(fmt.Sprintf("a tokenizer of type %q", m.Type))
	case len(doc.Normalizer) > 0 && string(doc.Normalizer) != "null":
		return nil, unsupported("a normalizer (the text would not come back)")
	case pre == nil || pre.Type != "ByteLevel" || pre.UseRegex != nil && !*pre.UseRegex:
		return nil, unsupported("a pre_tokenizer other than ByteLevel with its own rule")
	case pre.AddPrefixSpace:
		return nil, unsupported("add_prefix_space")
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, unsupported("dropout of merges")
	case m.Prefix != nil && *m.Prefix != "" || m.Suffix != nil && *m.Suffix != "":
		return nil, unsupported("a prefix or suffix of tokens")
	case m.IgnoreMerg:
		return nil, unsupported("ignore_merges")
	}
	special := map[string]int64{}
	for _, t := range doc.AddedTokens {
		special[t.Content] = t.ID
	}
	var merges []string
	for i, raw := range m.Merges {
		var line string
		if json.Unmarshal(raw, &line) != nil {
			var two []string
			if json.Unmarshal(raw, &two) != nil || len(two) != 2 {
				return nil, fmt.Errorf("merge %d is neither \"a b\" nor [\"a\", \"b\"]", i)
			}
			line = two[0] + " " + two[1]
		}
		merges = append(merges, line)
	}
	return assemble(m.Vocab, special, merges)
}

// assemble makes a tokenizer of tokens in GPT-2's letters, of those that stand for no text, and of merges "a b".
func assemble(vocab, special map[string]int64, merges []string) (*BPE, error) {
	size := int64(len(vocab))
	for name := range special {
		if _, in := vocab[name]; !in {
			size++
		}
	}
	if size > mostBPE {
		return nil, fmt.Errorf("%d tokens, more than %d", size, mostBPE)
	}
	pieces, taken := make([]string, size), make([]bool, size)
	put := func(name string, id int64, piece string) error {
		if id < 0 || id >= size || taken[id] {
			return fmt.Errorf("the id %d of %q is out of range or taken: want each of 0 to %d once", id, name, size-1)
		}
		taken[id], pieces[id] = true, piece
		return nil
	}
	ids := map[string]int32{}
	for name, id := range special {
		if was, in := vocab[name]; in && was != id {
			return nil, fmt.Errorf("%q has the ids %d and %d", name, was, id)
		}
		if err := put(name, id, ""); err != nil {
			return nil, err
		}
		ids[name] = int32(id)
	}
	for name, id := range vocab {
		if _, is := special[name]; is {
			continue
		}
		piece, ok := tokenizers.FromLetters(name)
		if !ok || piece == "" {
			return nil, fmt.Errorf("the token %q is not made of the letters for bytes", name)
		}
		if err := put(name, id, piece); err != nil {
			return nil, err
		}
	}
	pairs := make([]pair, 0, len(merges))
	for i, line := range merges {
		left, right, _ := strings.Cut(line, " ")
		a, okA := vocab[left]
		b, okB := vocab[right]
		if !okA || !okB || pieces[a] == "" || pieces[b] == "" {
			return nil, fmt.Errorf("merge %d, %q, is not of two tokens", i, line)
		}
		pairs = append(pairs, pair{int32(a), int32(b)})
	}
	return newBPE(pieces, ids, pairs)
}

// JSON is the tokenizer as a tokenizer.json, which Hugging Face's tokenizers reads too. The same tokenizer gives the same bytes.
func (t *BPE) JSON() []byte {
	names := make([]string, len(t.pieces))
	for id, piece := range t.pieces {
		names[id] = tokenizers.ToLetters(piece)
	}
	for name, id := range t.special {
		names[id] = name
	}
	quote := func(s string) string {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		_ = e.Encode(s)
		return strings.TrimSuffix(b.String(), "\n")
	}
	var b strings.Builder
	b.WriteString("{\n\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": [")
	sep := "\n"
	for id, piece := range t.pieces {
		if piece == "" {
			b.WriteString(sep + `{"id": ` + strconv.Itoa(id) + `, "content": ` + quote(names[id]) +
				`, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}`)
			sep = ",\n"
		}
	}
	b.WriteString("],\n\"normalizer\": null,\n" +
		`"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},` + "\n\"post_processor\": null,\n" +
		`"decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},` + "\n" +
		`"model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,` +
		"\n\"vocab\": {")
	sep = "\n"
	for id, name := range names {
		b.WriteString(sep + quote(name) + ": " + strconv.Itoa(id))
		sep = ",\n"
	}
	b.WriteString("},\n\"merges\": [")
	sep = "\n"
	for _, m := range t.merges {
		b.WriteString(sep + quote(names[m.a]+" "+names[m.b]))
		sep = ",\n"
	}
	b.WriteString("]}\n}\n")
	return []byte(b.String())
}
