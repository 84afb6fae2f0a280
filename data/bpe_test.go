package data

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/euryale-ml/euryale/data/tokenizers"
)

// drawText draws bytes that are likely to repeat: pieces of text, of other alphabets and of no alphabet at all.
func drawText(t *rapid.T, label string) string {
	pieces := []string{"a", "b", "ab", "aab", " ", "  ", "\n", "\t ", "'s", "'", "don't", "the ", "9", "٣", "é", "e\u0301", "日本", "\u00a0", "\u2003", "\x85", "\xff", "\xe6\x97", "\x00", "!?", "ß", "𝔘", "_"}
	return rapid.Custom(func(t *rapid.T) string {
		if rapid.Bool().Draw(t, "any") {
			return string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes"))
		}
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 40).Draw(t, "pieces"), "")
	}).Draw(t, label)
}

// pretokenPattern is GPT-2's rule without its look-ahead, with Unicode's white space.
var pretokenPattern = regexp.MustCompile(strings.ReplaceAll(
	`^(?:'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^S\p{L}\p{N}]+|[S]+)`, "S", `\t\n\v\f\r \x{85}\p{Z}`))

func slowPretoken(text string) int {
	n := len(pretokenPattern.FindString(text))
	blanks := regexp.MustCompile(`^[\t\n\v\f\r \x{85}\p{Z}]+$`)
	if n == len(text) || !blanks.MatchString(text[:n]) {
		return n
	}
	if runes := []rune(text[:n]); len(runes) > 1 { // \s+(?!\S) leaves the last one
		return n - len(string(runes[len(runes)-1]))
	}
	return n
}

func TestPretokens(t *testing.T) {
	split := func(s string) (words []string) {
		for len(s) > 0 {
			n := tokenizers.GPT2Word(s)
			words = append(words, s[:n])
			s = s[n:]
		}
		return words
	}
	require.Equal(t, []string{"I", "'ve", " seen", " 12", "th", " things", "...", "   ", " \"", "don", "'t", "\"", "\n", "\n", "x"}, split("I've seen 12th things...    \"don't\"\n\nx"))
	require.Equal(t, []string{"a", "  \n "}, split("a  \n "), "what ends the text is one word")
	require.Equal(t, []string{"\u00a0", "é", "\xff\xfe", " \xff"}, split("\u00a0é\xff\xfe \xff"))
	rapid.Check(t, func(t *rapid.T) {
		for text := drawText(t, "text"); len(text) > 0; text = text[tokenizers.GPT2Word(text):] {
			require.Equal(t, slowPretoken(text), tokenizers.GPT2Word(text), "%q", text)
		}
	})
}

func docsOf(texts ...string) (docs []document) {
	for _, text := range texts {
		docs = append(docs, document{text: []byte(text)})
	}
	return docs
}

// slowBPE is the definition of the trainer: count everything, merge everywhere, again.
func slowBPE(size int, texts []string) (pieces []string, merges []pair) {
	var words [][]int32
	for _, text := range texts {
		for len(text) > 0 {
			n := tokenizers.GPT2Word(text)
			words = append(words, Bytes{}.Encode(text[:n]))
			text = text[n:]
		}
	}
	for i := range 256 {
		pieces = append(pieces, string([]byte{byte(i)}))
	}
	pieces = append(pieces, make([]string, len(Specials))...)
	for len(pieces) < size {
		count := map[pair]int{}
		for _, w := range words {
			for i := 1; i < len(w); i++ {
				count[pair{w[i-1], w[i]}]++
			}
		}
		best := pair{-1, -1}
		for p, n := range count {
			if m := count[best]; n >= 2 && (n > m || n == m && (p.a < best.a || p.a == best.a && p.b < best.b)) {
				best = p
			}
		}
		if best.a < 0 {
			break
		}
		whole := pieces[best.a] + pieces[best.b]
		id := int32(slices.Index(pieces, whole))
		if id < 0 {
			id, pieces = int32(len(pieces)), append(pieces, whole)
		}
		if !slices.Contains(merges, best) {
			merges = append(merges, best)
		}
		for k, w := range words {
			var to []int32
			for i := 0; i < len(w); i++ {
				if i+1 < len(w) && w[i] == best.a && w[i+1] == best.b {
					to = append(to, id)
					i++
					continue
				}
				to = append(to, w[i])
			}
			words[k] = to
		}
	}
	return pieces, merges
}

func TestTrainerAgainstDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := []string{drawText(t, "first"), strings.Repeat(drawText(t, "second"), 2), drawText(t, "third")}
		size := rapid.IntRange(leastBPE, leastBPE+40).Draw(t, "size")
		got, err := trainBPE(size, docsOf(texts...))
		require.NoError(t, err)
		pieces, merges := slowBPE(size, texts)
		require.Equal(t, pieces, got.pieces)
		require.Equal(t, merges, got.merges)
	})
}

// slowEncode merges the earliest pair of a word everywhere, again.
func slowEncode(t *BPE, text string) (ids []int32) {
	for len(text) > 0 {
		n := tokenizers.GPT2Word(text)
		var w []int32
		for i := range n {
			w = append(w, t.byteIDs[text[i]])
		}
		for {
			best := tokenizers.Merging{Rank: 1 << 30}
			for i := 1; i < len(w); i++ {
				if m, ok := t.ranks[[2]int32{w[i-1], w[i]}]; ok && m.Rank < best.Rank {
					best = m
				}
			}
			if best.Rank == 1<<30 {
				break
			}
			p := t.merges[best.Rank]
			for i := 0; i+1 < len(w); i++ {
				if w[i] == p.a && w[i+1] == p.b {
					w = slices.Replace(w, i, i+2, best.ID)
				}
			}
		}
		ids = append(ids, w...)
		text = text[n:]
	}
	return ids
}

func bookBPE(t testing.TB) *BPE {
	src, err := readEmbedded()
	require.NoError(t, err)
	tok, err := trainBPE(701, docsOf(string(src.docs[0].text[:200_000])))
	require.NoError(t, err)
	require.Equal(t, 701, tok.VocabSize())
	return tok
}

func TestRoundTrip(t *testing.T) {
	book := bookBPE(t)
	for _, tok := range []Tokenizer{Bytes{}, BytesSpecial{}, book} {
		rapid.Check(t, func(t *rapid.T) {
			text := drawText(t, "text")
			ids := tok.Encode(text)
			require.Equal(t, text, tok.Decode(ids))
			for _, id := range ids {
				require.True(t, id >= 0 && int(id) < tok.VocabSize() && !(id >= firstSpecial && id < leastBPE))
			}
			if bpe, ok := tok.(*BPE); ok {
				require.Equal(t, slowEncode(bpe, text), append([]int32(nil), ids...))
			}
		})
	}
	long := strings.Repeat("ab", 50_000) // one word
	require.Equal(t, long, book.Decode(book.Encode(long)))
	require.Equal(t, "[MASK]", book.Decode(book.Encode("[MASK]")), "text is text")
	require.Empty(t, book.Decode([]int32{maskID, -1, 1 << 20}))
	require.Empty(t, book.Encode(""))
}

func TestTrainerIsDeterministicAndCompresses(t *testing.T) {
	tok := bookBPE(t)
	require.Equal(t, tok.JSON(), bookBPE(t).JSON())
	require.Equal(t, "bpe:701", tok.Name())
	text := "It was the Whale that he was after; and the whale was white."
	require.Less(t, len(tok.Encode(text)), len(text)*6/10)
	for i, name := range Specials {
		id, ok := Special(tok, name)
		require.True(t, ok)
		require.EqualValues(t, 256+i, id)
		id, ok = Special(BytesSpecial{}, name)
		require.True(t, ok)
		require.EqualValues(t, 256+i, id)
	}
	_, ok := Special(Bytes{}, "[MASK]")
	require.False(t, ok)
	few, err := trainBPE(1000, docsOf("abc"))
	require.NoError(t, err)
	require.Equal(t, leastBPE, few.VocabSize(), "nothing is there twice")
}

func TestTokenizerJSON(t *testing.T) {
	tok := bookBPE(t)
	dir := t.TempDir()
	_, found, err := LoadTokenizer(dir)
	require.NoError(t, err)
	require.False(t, found)
	files := TokenizerFiles(tok)
	require.Len(t, files, 1)
	require.Empty(t, TokenizerFiles(Bytes{}))
	write(t, dir, TokenizerFile, files[TokenizerFile])
	for _, path := range []string{dir, filepath.Join(dir, TokenizerFile)} {
		again, found, err := LoadTokenizer(path)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, tok, again)
		named, err := NewTokenizer(path)
		require.NoError(t, err)
		require.Equal(t, tok, named)
	}
	pairsForm := bytes.ReplaceAll(files[TokenizerFile], []byte(`"Ġ t"`), []byte(`["Ġ", "t"]`)) // as newer versions write merges
	require.NotEqual(t, files[TokenizerFile], pairsForm)
	again, err := parseTokenizer(pairsForm)
	require.NoError(t, err)
	require.Equal(t, tok, again)

	// GPT-2's two files.
	var doc struct {
		Model struct {
			Vocab  map[string]int
			Merges []string
		}
	}
	require.NoError(t, json.Unmarshal(files[TokenizerFile], &doc))
	vocab, err := json.Marshal(doc.Model.Vocab)
	require.NoError(t, err)
	old := t.TempDir()
	write(t, old, "vocab.json", vocab)
	write(t, old, "merges.txt", []byte("#version: 0.2\n"+strings.Join(doc.Model.Merges, "\r\n")+"\n"))
	two, found, err := LoadTokenizer(old)
	require.NoError(t, err)
	require.True(t, found)
	text := "Call me Ishmael.  \xff Some years ago"
	require.Equal(t, tok.Encode(text), two.Encode(text))
	_, ok := Special(two, "[MASK]")
	require.False(t, ok)
	require.NoError(t, os.Remove(filepath.Join(old, "merges.txt")))
	_, _, err = LoadTokenizer(old)
	require.ErrorIs(t, err, ErrMissing)
}

func TestHostileTokenizers(t *testing.T) {
	good := string(bookBPE(t).JSON())
	for _, c := range []struct {
		name, from, to string
		kind           error
		want           string
	}{
		{"empty", good, "", ErrTorn, "damaged"},
		{"cut off", good[len(good)/2:], "", ErrTorn, "damaged"},
		{"other type", `"type": "BPE"`, `"type": "Magic"`, ErrTokenizer, `"Magic"`},
		{"normalizer", `"normalizer": null`, `"normalizer": {"type": "Magic"}`, ErrTokenizer, "normalizer"},
		{"pre-tokenizer", `{"type": "ByteLevel", "add_prefix_space": false`, `{"type": "Magic", "add_prefix_space": false`, ErrTokenizer, "pre_tokenizer"},
		{"id twice", `"b": 98`, `"b": 97`, ErrTorn, "97"},
		{"id beyond", `"b": 98`, `"b": 9800`, ErrTorn, "9800"},
		{"negative id", `"b": 98`, `"b": -98`, ErrTorn, "-98"},
		{"no byte", `"Ā": 0`, `"ĀĀ": 0`, ErrTorn, "byte 0"},
		{"no letters", `"b": 98`, `" ": 98`, ErrTorn, "letters"},
		{"unknown part", `"Ġ t"`, `"Ġ tzzz"`, ErrTorn, "merge"},
		{"no whole", `"Ġ t"`, `"q Q"`, ErrTorn, `"qQ"`},
		{"merge of three", `"Ġ t"`, `["Ġ", "t", "h"]`, ErrTorn, "merge"},
		{"special elsewhere", `{"id": 257, "content": "[MASK]"`, `{"id": 3, "content": "[MASK]"`, ErrTorn, "[MASK]"},
	} {
		require.Contains(t, good, c.from, c.name)
		path := write(t, t.TempDir(), "tokenizer.json", []byte(strings.Replace(good, c.from, c.to, 1)))
		_, err := NewTokenizer(path)
		requireError(t, err, c.kind, c.name, c.want)
	}
	_, err := NewTokenizer(filepath.Join(t.TempDir(), "tokenizer.json"))
	requireError(t, err, ErrMissing, "missing")
	_, err = NewTokenizer(t.TempDir())
	requireError(t, err, ErrMissing, "none in the folder", "tokenizer.json")
	for _, name := range []string{"bpe:", "bpe:x", "bpe:261", "bpe:99999999", "bpe:-1"} {
		_, err = Load(Config{Tokenizer: name})
		requireError(t, err, ErrTokenizer, name, `"`+name+`"`, "bpe:2048")
	}
	_, err = Config{Tokenizer: "bpe:300"}.NewTokenizer()
	require.ErrorIs(t, err, ErrTokenizer)
	require.ErrorContains(t, err, "tokenizer.json")
}

// TestCorpusWithBPE: trained on the train part alone, taken as it is by With, bytes counted to the last one.
func TestCorpusWithBPE(t *testing.T) {
	text := prose(400)
	path := write(t, t.TempDir(), "a.txt", text)
	c, err := Load(Config{Path: path, Tokenizer: "bpe:300"})
	require.NoError(t, err)
	plain, err := Load(Config{Path: path})
	require.NoError(t, err)
	require.NotEqual(t, plain.Digest, c.Digest)
	alone, err := trainBPE(300, docsOf(plain.Tokenizer.Decode(plain.Train.Document(0))))
	require.NoError(t, err)
	require.Equal(t, alone, c.Tokenizer)
	for _, stride := range []int{13, 5} {
		w := c.Test.StridedWindows(13, stride)
		first := float64(len(c.Tokenizer.Decode(c.Test.Document(0)[:1])))
		require.Equal(t, float64(c.Test.Bytes())-first, w.Bytes(), "all but the first token")
		total := 0.0
		b := c.Test.Shape(13).NewBatch(3, 13)
		for i := 0; i < w.Len(); i += 3 {
			w.Fill(i, b)
			total += b.Bytes
		}
		require.Equal(t, w.Bytes(), total)
	}
	other, err := trainBPE(280, docsOf("other text, other text"))
	require.NoError(t, err)
	given, err := Load(Config{Path: path, Tokenizer: "bpe:300"}.With(other))
	require.NoError(t, err)
	require.Equal(t, other, given.Tokenizer)
	whole, err := LoadWhole(Config{Path: path, Tokenizer: "bpe:300"}.With(c.Tokenizer))
	require.NoError(t, err)
	require.Equal(t, string(text), c.Tokenizer.Decode(whole.Document(0)))
	_, err = LoadWhole(Config{Path: path, Tokenizer: "bpe:300"})
	require.ErrorIs(t, err, ErrTokenizer)
	require.Equal(t, Config{}, Config{}.With(Bytes{}))
}
