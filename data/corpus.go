package data

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Config chooses the data of a run: a path, a task, or by default the embedded book. JSON keys are those of "data".
type Config struct {
	// Path is a text file, a folder of .txt files or a .jsonl file, each also compressed by gzip or bzip2; "" is the embedded corpus.
	Path string `json:"path,omitempty"`
	// Task is a synthetic task with its parameters, such as needle(length=64), see Tasks; one that is made from text takes that of Path.
	Task string `json:"task,omitempty"`
	// Tokenizer is "bytes", the default.
	Tokenizer string `json:"tokenizer,omitempty"`
	// TextField is the field of a jsonl line that holds the text; "" is "text".
	TextField string `json:"text_field,omitempty"`
}

// EmbeddedName is what the embedded corpus is called: Moby-Dick, 1,204,997 bytes.
const EmbeddedName = "moby_dick"

//go:embed corpus/moby_dick.txt.gz
var embedded []byte

// Corpus is text in three parts, as tokens.
type Corpus struct {
	Name             string // the path, or EmbeddedName
	Tokenizer        Tokenizer
	Train, Val, Test *Part
	// Digest is the SHA-256 of documents and parts. A run that is resumed compares it: other data, other training.
	Digest string
}

// Load reads, splits and tokenises the data.
//
// A single text is cut into 90, 5 and 5 % of its bytes in this order, each after the next blank line (the next line end, the next
// character, where there is no blank line near). Documents of a folder or a jsonl file go whole: to validation those with
// index%20 == 9, to test those with index%20 == 19, to train the others; a jsonl file whose every line has "split" decides itself.
// Fewer than 20 documents are each cut like a single text.
//
// Cost: the text once in memory plus, for tokenizers other than bytes, 4 bytes a token.
//
// A task is made by its rule, see Tasks: 50,000, 1,000 and 2,000 examples unless it says otherwise. Its cost is nothing.
//
// Errors: *Error.
func Load(c Config) (*Corpus, error) {
	if c.Task != "" {
		return c.loadTask()
	}
	src, tok, err := c.read()
	if err != nil {
		return nil, err
	}
	parts := split(src)
	corpus := &Corpus{Name: src.name, Tokenizer: tok, Digest: digest(parts)}
	for i, to := range []**Part{&corpus.Train, &corpus.Val, &corpus.Test} {
		part := newPart(src.name, PartNames[i], tok, parts[i])
		if part.targets() == 0 {
			return nil, &Error{Kind: ErrTooShort, Path: src.name,
				What: fmt.Sprintf("too short: its %s part would have no 2 tokens in a row", part.Name), Fix: "give at least some hundred bytes of text"}
		}
		*to = part
	}
	return corpus, nil
}

// LoadWhole reads the data as one part that is called "all": to evaluate on a text that was not trained on.
// Of a task, which has no whole, it is the test part.
//
// Errors: *Error.
func LoadWhole(c Config) (*Part, error) {
	if c.Task != "" {
		corpus, err := c.loadTask()
		if err != nil {
			return nil, err
		}
		return corpus.Test, nil
	}
	src, tok, err := c.read()
	if err != nil {
		return nil, err
	}
	part := newPart(src.name, "all", tok, src.docs)
	if part.targets() == 0 {
		return nil, &Error{Kind: ErrTooShort, Path: src.name, What: "too short: no 2 tokens in a row", Fix: "give more text"}
	}
	return part, nil
}

// Part returns the part of a name: train, val or test.
func (c *Corpus) Part(name string) (*Part, bool) {
	for i, p := range []*Part{c.Train, c.Val, c.Test} {
		if PartNames[i] == name {
			return p, true
		}
	}
	return nil, false
}

// Spec returns the configuration with the data that SPEC of the command line names: "task:NAME" or a path. A task that is made from text
// leaves the path as it is.
func (c Config) Spec(spec string) Config {
	path := c.Path
	c.Path, c.Task = "", ""
	if task, ok := strings.CutPrefix(spec, "task:"); ok {
		c.Task = task
		if kind, _, ok := taskKindOf(task); ok && kind.text {
			c.Path = path
		}
		if task == "" {
			c.Task = "?" // not "no task": Load names those that there are
		}
	} else {
		c.Path = spec
	}
	return c
}

// NewTokenizer returns the tokenizer of the data: that of the task, or the one that is named.
//
// Errors: ErrTokenizer; ErrUnknownTask and ErrTask.
func (c Config) NewTokenizer() (Tokenizer, error) {
	if c.Task == "" {
		return NewTokenizer(c.Tokenizer)
	}
	t, err := c.readTask()
	if err != nil {
		return nil, err
	}
	return t.tokenizer(), nil
}

// read returns the documents and the tokenizer.
func (c Config) read() (*source, Tokenizer, error) {
	tok, err := NewTokenizer(c.Tokenizer)
	if err != nil {
		return nil, nil, err
	}
	if c.Path == "" || c.Path == EmbeddedName {
		src, err := readEmbedded()
		return src, tok, err
	}
	src, err := readSource(c.Path, c.TextField)
	return src, tok, err
}

func readEmbedded() (*source, error) {
	z, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		return nil, fileError(EmbeddedName, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fileError(EmbeddedName, err)
	}
	return &source{name: EmbeddedName, docs: []document{{name: EmbeddedName, text: text}}}, nil
}

func digest(parts [3][]document) string {
	h := sha256.New()
	for _, docs := range parts {
		_ = binary.Write(h, binary.LittleEndian, uint64(len(docs)))
		for _, doc := range docs {
			_ = binary.Write(h, binary.LittleEndian, uint64(len(doc.text)))
			_, _ = h.Write(doc.text)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
