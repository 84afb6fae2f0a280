package tokenizers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds the size of a tokenizer's file.
const maxFile = 64 << 20

// Files are the names under which a folder may hold a tokenizer, the first that is there is taken.
var Files = []string{"tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json", "vocab.txt"}

// ErrNone says that a folder has no tokenizer.
var ErrNone = errors.New("no tokenizer: none of " + strings.Join(Files, ", "))

// Load reads the tokenizer of a folder, or a file of it by its path. With a vocab.txt, tokenizer_config.json says whether letters are made small;
// if it is not there, they are.
//
// Errors: *FileError, wrapping ErrNone, Unsupported or what is damaged.
func Load(path string) (*Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &FileError{path, err}
	}
	if !info.IsDir() {
		return loadFile(path)
	}
	for _, name := range Files {
		at := filepath.Join(path, name)
		if _, err := os.Stat(at); err == nil {
			return loadFile(at)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, &FileError{at, err}
		}
	}
	return nil, &FileError{path, ErrNone}
}

// FileError says which file is at fault.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

func loadFile(path string) (t *Tokenizer, err error) {
	raw, err := readFile(path)
	if err == nil {
		switch {
		case strings.HasSuffix(path, ".model"):
			t, err = ParseSentencePiece(raw)
		case filepath.Base(path) == "vocab.txt":
			t, err = parseVocab(raw, filepath.Join(filepath.Dir(path), "tokenizer_config.json"))
		case filepath.Base(path) == "vocab.json":
			t, err = parseVocabAndMerges(raw, filepath.Join(filepath.Dir(path), "merges.txt"))
		default:
			t, err = Parse(raw)
		}
	}
	if err != nil {
		return nil, &FileError{path, err}
	}
	return t, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return raw, err
}

// parseVocab is BERT's tokenizer of a list of tokens, one a line.
func parseVocab(raw []byte, configPath string) (*Tokenizer, error) {
	var config struct {
		Lower   *bool `json:"do_lower_case"`
		Accents *bool `json:"strip_accents"`
		Chinese *bool `json:"tokenize_chinese_chars"`
	}
	if raw, err := readFile(configPath); err == nil {
		if err := json.Unmarshal(raw, &config); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: %w", err)
		}
	}
	names := strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n"), "\n")
	if len(names) > maxVocabulary {
		return nil, fmt.Errorf("it has more than %d tokens", maxVocabulary)
	}
	ids := map[string]int32{}
	for id, name := range names {
		ids[name] = int32(id)
	}
	t := &Tokenizer{pad: -1, splitter: bertSplitter{}, decoder: wordPieceDecoder{"##", true}}
	for _, name := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
		id, ok := ids[name]
		if !ok {
			return nil, fmt.Errorf("it lacks the token %s", name)
		}
		t.added = append(t.added, Added{ID: id, Content: name, Special: true})
	}
	t.pad = ids["[PAD]"]
	low := yes(config.Lower)
	accents := low
	if config.Accents != nil {
		accents = *config.Accents
	}
	t.normalizer = bertNormalizer{clean: true, chinese: yes(config.Chinese), accents: accents, lower: low}
	t.model = newWordPiece(names, "##", ids["[UNK]"], 100)
	cls, sep := []int32{ids["[CLS]"]}, []int32{ids["[SEP]"]}
	t.post = template{single: []slot{{of: -1, ids: cls}, {}, {of: -1, ids: sep}},
		pair: []slot{{of: -1, ids: cls}, {}, {of: -1, ids: sep}, {of: 1, typeID: 1}, {of: -1, ids: sep, typeID: 1}}}
	t.finish()
	return t, nil
}

// parseVocabAndMerges is GPT-2's pair of files: ids by token, and a merge on each line.
func parseVocabAndMerges(raw []byte, mergesPath string) (*Tokenizer, error) {
	var vocab map[string]int32
	if err := json.Unmarshal(raw, &vocab); err != nil {
		return nil, err
	}
	names, err := namesOf(vocab)
	if err != nil {
		return nil, err
	}
	text, err := readFile(mergesPath)
	if err != nil {
		return nil, err
	}
	var merges [][2]string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "#version") {
			continue
		}
		pair, err := mergeLine(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mergesPath, err)
		}
		merges = append(merges, pair)
	}
	m, err := newBPE(names, merges, true, "")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", mergesPath, err)
	}
	t := &Tokenizer{pad: -1, splitter: byteLevel{rule: true}, model: m, post: plain{}, decoder: bytesDecoder{}}
	if id, ok := vocab["<|endoftext|>"]; ok {
		t.added = append(t.added, Added{ID: id, Content: "<|endoftext|>", Special: true})
	}
	t.finish()
	return t, nil
}
