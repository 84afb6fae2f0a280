package tokenizers

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func unzipped(t testing.TB, name string) []byte {
	f, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	raw, err := io.ReadAll(z)
	require.NoError(t, err)
	return raw
}

// gpt2 is the tokenizer of two files in a folder.
func gpt2(t testing.TB) *Tokenizer {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vocab.json"), unzipped(t, "gpt2-vocab.json.gz"), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "merges.txt"), unzipped(t, "gpt2-merges.txt.gz"), 0o666))
	tok, err := Load(dir)
	require.NoError(t, err)
	return tok
}

func parsed(t testing.TB, name string) *Tokenizer {
	tok, err := Parse(unzipped(t, name))
	require.NoError(t, err)
	return tok
}

func sentencePiece(t testing.TB) *Tokenizer {
	tok, err := Load(filepath.Join("testdata", "unigram.model"))
	require.NoError(t, err)
	return tok
}

// originals are the tokenizers of the fixtures, in their order.
func originals(t testing.TB) []*Tokenizer {
	return []*Tokenizer{parsed(t, "wordpiece.json.gz"), gpt2(t), parsed(t, "unigram.json.gz"), sentencePiece(t)}
}

// asHashed writes what a tokenizer makes of a string as the fixtures do.
func asHashed(tok *Tokenizer, s string) string {
	e := tok.Encode(false, s)
	var ids, at []string
	for i, id := range e.IDs {
		ids = append(ids, fmt.Sprint(id))
		at = append(at, fmt.Sprintf("%d %d", e.Offsets[i][0], e.Offsets[i][1]))
	}
	return strings.Join(ids, " ") + "|" + strings.Join(at, " ") + "|" + tok.Decode(e.IDs, true)
}

// Ids, offsets and decoded text are those of the originals, on 10,000 strings of mixed scripts.
func TestAsOriginals(t *testing.T) {
	all := originals(t)
	lines := bufio.NewScanner(bytes.NewReader(unzipped(t, "strings.jsonl.gz")))
	lines.Buffer(nil, 1<<20)
	n := 0
	for ; lines.Scan(); n++ {
		var row struct {
			S    string
			H    []uint32
			Full []string
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &row))
		require.Len(t, row.H, len(all))
		for k, tok := range all {
			got := asHashed(tok, row.S)
			if row.Full != nil {
				require.Equal(t, row.Full[k], got, "tokenizer %d of %q", k, row.S)
			}
			require.Equal(t, row.H[k], crc32.ChecksumIEEE([]byte(got)), "tokenizer %d of %q makes %s", k, row.S, got)
		}
	}
	require.Equal(t, 10000, n)
}

// chain is a line of chains.jsonl.gz.
type chain struct {
	Tokenizer json.RawMessage
	Rows      []struct {
		S            string
		IDs, Offsets []int
	}
}

func chains(t testing.TB) (all []chain, toks []*Tokenizer) {
	for line := range bytes.Lines(unzipped(t, "chains.jsonl.gz")) {
		var c chain
		require.NoError(t, json.Unmarshal(line, &c))
		require.Len(t, c.Rows, 120)
		tok, err := Parse(c.Tokenizer)
		require.NoError(t, err)
		all, toks = append(all, c), append(toks, tok)
	}
	require.Len(t, all, 9)
	return all, toks
}

// Forms of Unicode, marks out of order, characters newer than the tables of the originals, and blanks that are trimmed: ids and offsets.
func TestChains(t *testing.T) {
	all, toks := chains(t)
	for n, c := range all {
		for _, row := range c.Rows {
			e := toks[n].Encode(true, row.S)
			var ids, offsets []int
			for i, id := range e.IDs {
				ids = append(ids, int(id))
				offsets = append(offsets, e.Offsets[i][0], e.Offsets[i][1])
			}
			require.Equal(t, row.IDs, ids, "chain %d, %q", n, row.S)
			require.Equal(t, row.Offsets, offsets, "chain %d, %q", n, row.S)
		}
	}
}

// roberta is GPT-2's tokenizer with RoBERTa's template.
func roberta(t testing.TB) *Tokenizer {
	var merges []string
	for line := range strings.Lines(string(unzipped(t, "gpt2-merges.txt.gz"))) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#version") {
			merges = append(merges, line)
		}
	}
	doc, err := json.Marshal(map[string]any{
		"pre_tokenizer":  map[string]any{"type": "ByteLevel", "add_prefix_space": true},
		"decoder":        map[string]any{"type": "ByteLevel"},
		"post_processor": map[string]any{"type": "RobertaProcessing", "sep": []any{"<|endoftext|>", 50256}, "cls": []any{"!", 0}, "trim_offsets": true, "add_prefix_space": true},
		"model":          map[string]any{"type": "BPE", "vocab": json.RawMessage(unzipped(t, "gpt2-vocab.json.gz")), "merges": merges},
	})
	require.NoError(t, err)
	tok, err := Parse(doc)
	require.NoError(t, err)
	return tok
}

func TestTemplates(t *testing.T) {
	toks := map[string]*Tokenizer{"wordpiece": parsed(t, "wordpiece.json.gz"), "unigram": parsed(t, "unigram.json.gz"), "roberta": roberta(t)}
	raw, err := os.ReadFile(filepath.Join("testdata", "templates.json"))
	require.NoError(t, err)
	var rows []struct {
		Tokenizer string
		Texts     []string
		Limit     int
		IDs       []int32
		Types     []int32
		Tokens    []string
		Offsets   [][2]int
		Special   []int
	}
	require.NoError(t, json.Unmarshal(raw, &rows))
	require.Len(t, rows, 48)
	for _, row := range rows {
		tok := toks[row.Tokenizer]
		e := tok.Encode(true, row.Texts...)
		if row.Limit > 0 {
			e = tok.EncodeWithin(row.Limit, true, row.Texts...)
		}
		at := fmt.Sprint(row.Tokenizer, row.Texts, row.Limit)
		require.ElementsMatch(t, row.IDs, e.IDs, at)
		require.Equal(t, fmt.Sprint(row.IDs), fmt.Sprint(e.IDs), at)
		require.Equal(t, fmt.Sprint(row.Types), fmt.Sprint(e.TypeIDs), at)
		require.Equal(t, fmt.Sprint(row.Tokens), fmt.Sprint(e.Tokens), at)
		require.Equal(t, fmt.Sprint(row.Offsets), fmt.Sprint(e.Offsets), at)
		for i, special := range row.Special {
			require.Equal(t, special == 1, e.Special[i], at)
		}
	}
	e := toks["wordpiece"].Encode(true, "Call me")
	e.Pad(7, 0, "[PAD]")
	require.Equal(t, []int32{101, 2655, 2033, 102, 0, 0, 0}, e.IDs)
	require.Equal(t, []bool{true, false, false, true, true, true, true}, e.Special)
	pad, ok := toks["wordpiece"].PadID()
	require.True(t, ok)
	require.Zero(t, pad)
	require.Equal(t, 128, toks["wordpiece"].MaxLength())
}

// A byte-level tokenizer gives back any bytes; the others make a mark of what is no text.
func TestInvalidBytes(t *testing.T) {
	for _, s := range []string{"\xff", "a\xc3", "\xe2\x82 b", "\xf0\x9f\x98", "ok \x80\x80"} {
		for k, tok := range originals(t) {
			e := tok.Encode(false, s)
			require.LessOrEqual(t, len(e.IDs), 2*len(s)+1)
			for _, at := range e.Offsets {
				require.True(t, 0 <= at[0] && at[0] <= at[1] && at[1] <= len(s), "tokenizer %d of %q: %v", k, s, e.Offsets)
			}
		}
	}
	tok := gpt2(t)
	for b := range 256 { // a token for each byte, whatever it is
		require.Len(t, tok.IDs(string([]byte{byte(b)})), 1)
	}
	require.Len(t, tok.IDs("\xff\xfe"), 2)
}

func TestVocabText(t *testing.T) {
	dir := t.TempDir()
	words := "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nwhale\n##s\nThe\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vocab.txt"), []byte(words), 0o666))
	tok, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"[CLS]", "the", "whale", "##s", "[SEP]"}, tok.Encode(true, "The whales").Tokens)
	require.Equal(t, "the whales", tok.Decode(tok.IDs("The whales"), true))
	require.Equal(t, []string{"[MASK]", "the"}, tok.Encode(false, "[MASK]the").Tokens)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), []byte(`{"do_lower_case": false}`), 0o666))
	tok, err = Load(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"The", "whale", "##s"}, tok.Encode(false, "The whales").Tokens)
}

func TestRefuses(t *testing.T) {
	bpe := func(inside, behind string) string {
		return `{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]` + inside + `}` + behind + `}`
	}
	level := func(vocab string) string { return `{"model": {"type": "WordLevel", "vocab": {` + vocab + `}}}` }
	for _, c := range []struct{ name, want, doc string }{
		{"nothing", "unexpected end", ``}, {"no object", "cannot unmarshal", `[]`}, {"no model", "vocabulary", `{}`}, {"torn", "unexpected end", `{"model": {"type":`},
		{"unknown model", "Magic", `{"model": {"type": "Magic", "vocab": {"a": 0}}}`}, {"negative id", "has the id -1", level(`"a": -1`)},
		{"huge id", "has the id 2000000000", level(`"a": 2000000000`)}, {"one id twice", "have the id 0", level(`"a": 0, "b": 0`)},
		{"no unknown", "what is unknown", `{"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "b"}}`},
		{"merge of none", "merge 0", bpe(`, "merges": ["a c"]`, ``)}, {"merge to none", "merge 0", bpe(`, "merges": ["b a"]`, ``)},
		{"merge of three", "merge 0", bpe(`, "merges": [["a", "b", "c"]]`, ``)}, {"dropout", "dropout", bpe(`, "dropout": 0.1`, ``)},
		{"unknown normalizer", "Magic", bpe(``, `, "normalizer": {"type": "Magic"}`)}, {"unknown splitter", "Magic", bpe(``, `, "pre_tokenizer": {"type": "Magic"}`)},
		{"unknown decoder", "Magic", bpe(``, `, "decoder": {"type": "Magic"}`)}, {"unknown post", "Magic", bpe(``, `, "post_processor": {"type": "Magic"}`)},
		{"look-ahead", "expression", bpe(``, `, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a(?!b)"}, "behavior": "Isolated"}`)},
		{"no pattern", "pattern is missing", bpe(``, `, "normalizer": {"type": "Replace", "content": "x"}`)},
		{"short charsmap", "cut off", bpe(``, `, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAA="}`)},
		{"long charsmap", "damaged", bpe(``, `, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="}`)},
		{"template of none", "no ids", bpe(``, `, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]}`)},
		{"two texts in one", "a second", bpe(``, `, "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "B"}}]}`)},
		{"deep", "nested", bpe(``, `, "normalizer": `+strings.Repeat(`{"type": "Sequence", "normalizers": [`, 50)+strings.Repeat(`]}`, 50))},
		{"unigram of nothing", "empty", `{"model": {"type": "Unigram", "vocab": []}}`}, {"unigram without", "unk_id", `{"model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]}}`},
		{"unigram of texts", "token 0", `{"model": {"type": "Unigram", "vocab": [["a", "b"]]}}`},
		{"added token far away", "4000000", bpe(``, `, "added_tokens": [{"id": 4000000, "content": "x"}]`)},
	} {
		_, err := Parse([]byte(c.doc))
		require.ErrorContains(t, err, c.want, c.name)
		require.NotContains(t, err.Error(), "\n", c.name)
	}
	good, err := Parse([]byte(bpe("", "")))
	require.NoError(t, err)
	require.Equal(t, []int32{2, 0}, good.IDs("aba"))
	for name, raw := range map[string][]byte{"nothing": {}, "text": []byte("This is a text."), "cut off": bytes.Repeat([]byte{0x0a, 0xff, 0x7f}, 3), "no unknown": {0x0a, 0x03, 0x0a, 0x01, 'a'}} {
		_, err := ParseSentencePiece(raw)
		require.Error(t, err, name)
	}
	_, err = Load(t.TempDir())
	require.ErrorIs(t, err, ErrNone)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}`), "aba")
	f.Add(unzipped(f, "unigram.json.gz")[:5000], "x")
	f.Fuzz(func(t *testing.T, doc []byte, s string) {
		if tok, err := Parse(doc); err == nil {
			tok.Decode(tok.Encode(true, s).IDs, true)
		}
		if tok, err := ParseSentencePiece(doc); err == nil {
			tok.Decode(tok.Encode(true, s).IDs, true)
		}
	})
}

func FuzzEncode(f *testing.F) {
	rows, all := chains(f)
	for i, c := range rows {
		f.Add(c.Rows[i].S)
	}
	all = append(all, originals(f)...)
	f.Add("The whale\u0301 \xff\u200d\U0001f468")
	f.Fuzz(func(t *testing.T, s string) {
		for _, tok := range all {
			tok.Decode(tok.Encode(true, s, s).IDs, false)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	f, err := os.Open(filepath.Join("..", "corpus", "moby_dick.txt.gz"))
	require.NoError(b, err)
	z, err := gzip.NewReader(f)
	require.NoError(b, err)
	raw, err := io.ReadAll(z)
	require.NoError(b, err)
	book := string(raw)
	for k, name := range []string{"wordpiece", "bpe", "unigram", "sentencepiece"} {
		tok := originals(b)[k]
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(book)))
			for b.Loop() {
				for s := book; len(s) > 0; { // a text a paragraph
					n := strings.Index(s, "\n\n") + 2
					if n < 2 {
						n = len(s)
					}
					tok.IDs(s[:n])
					s = s[n:]
				}
			}
		})
	}
}
