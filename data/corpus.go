package data

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// EmbeddedName is what the embedded corpus is called: Moby-Dick, 1,204,997 bytes.
const EmbeddedName = "moby_dick"

//go:embed corpus/moby_dick.txt.gz
var embedded []byte

// Corpus is text in three parts, as tokens.
type Corpus struct {
	Name             string // the path, or EmbeddedName
	Tokenizer        Tokenizer
	Train, Val, Test *Part
	Classes          []string // of sequence_classification, by their numbers
	// Digest is the SHA-256 of documents and parts. A run that is resumed compares it: other data, other training.
	Digest string
}

// Load reads, splits and tokenises the data.
//
// A single text is cut into 90, 5 and 5 % of its bytes in this order, each after the next blank line (the next line end, the next
// character, where there is no blank line near). Documents of a folder or a jsonl file go whole: to validation those with
// index%20 == 9, to test those with index%20 == 19, to train the others; a jsonl file whose every line has "split" decides itself.
// Lines of a group (data.group_field) go where the first of them goes. Fewer than 20 documents are each cut like a single text, unless
// they are classified or are pairs.
//
// Cost: the text once in memory plus, for tokenizers other than bytes, 4 bytes a token.
//
// Images go whole, see ImageSets: to validation those with index%10 == 4, to test those with index%10 == 9. Their cost is a byte for each channel
// of each pixel.
//
// With data.streaming the train part is read while it is trained on. Documents of a stream go whole: the first data.held_out of them to validation and
// test, the others to train, but for those that say that they belong elsewhere. A tokenizer is trained on the first 16 MB of these.
//
// A task is made by its rule, see Tasks: 50,000, 1,000 and 2,000 examples unless it says otherwise. Its cost is nothing.
//
// Errors: *Error.
func Load(c Config) (*Corpus, error) {
	if c.Streaming {
		return c.loadStream()
	}
	if c.Task != "" {
		return c.loadTask()
	}
	if c.ofImages() {
		return c.loadImages()
	}
	src, err := c.read()
	if err != nil {
		return nil, err
	}
	parts, err := split(src, c.view(0).frame().whole)
	if err != nil {
		return nil, err
	}
	tok, err := c.fit(parts[0])
	if err != nil {
		return nil, err
	}
	m := c.maker(src, tok)
	corpus := &Corpus{Name: src.name, Tokenizer: tok, Classes: m.classes, Digest: digest(c, tok, parts)}
	for i, to := range []**Part{&corpus.Train, &corpus.Val, &corpus.Test} {
		if *to, err = m.part(PartNames[i], parts[i]); err != nil {
			return nil, err
		}
	}
	return corpus, nil
}

// LoadWhole reads the data as one part that is called "all": to evaluate on a text that was not trained on. A tokenizer that is trained must
// be given by With. Of a task, which has no whole, it is the test part. Nothing of it is a stream.
//
// Errors: *Error.
func LoadWhole(c Config) (*Part, error) {
	c = c.whole()
	if c.Task != "" {
		corpus, err := c.loadTask()
		if err != nil {
			return nil, err
		}
		return corpus.Test, nil
	}
	if c.ofImages() {
		return c.loadWholeImages()
	}
	src, err := c.read()
	if err != nil {
		return nil, err
	}
	tok, err := c.NewTokenizer()
	if err != nil {
		return nil, err
	}
	return c.maker(src, tok).part("all", src.docs)
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

// read returns the documents.
func (c Config) read() (*source, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Path == "" || c.Path == EmbeddedName {
		if err := c.fields().plain(EmbeddedName); err != nil {
			return nil, err
		}
		return readEmbedded()
	}
	if set, ok := sets[c.Path]; ok {
		return set.load(c)
	}
	return readSource(c.Path, c.fields())
}

// fit returns the tokenizer, trained on the documents if it is to be trained.
func (c Config) fit(docs []document) (Tokenizer, error) {
	tok, err := c.NewTokenizer()
	if u := (*untrained)(nil); errors.As(err, &u) {
		return trainBPE(u.size, docs)
	}
	return tok, err
}

// maker makes parts of documents.
type maker struct {
	Config
	source  string
	tok     Tokenizer
	vocab   *vocabulary
	classes []string
}

func (c Config) maker(src *source, tok Tokenizer) *maker {
	m := &maker{Config: c, source: src.name, tok: tok, vocab: newVocabulary(tok)}
	if c.objective() == "sequence_classification" {
		m.classes = c.Classes
		if len(m.classes) == 0 {
			for _, doc := range src.docs {
				m.classes = append(m.classes, doc.label)
			}
			slices.Sort(m.classes)
			m.classes = slices.Compact(m.classes)
		}
	}
	return m
}

// part makes a part. Errors: ErrTooShort; ErrLabel.
func (m *maker) part(name string, docs []document) (*Part, error) {
	if m.sections {
		docs = slices.Clone(docs)
		for i := range docs {
			if docs[i].sections == nil {
				docs[i].sections = sentences(docs[i].text)
			}
		}
	}
	v := m.view(len(m.classes))
	if labels, ok := v.(labelView); ok && m.vocab.text != nil && m.vocab.ids.sep >= 0 {
		v = closedView{labels}
	}
	if q, ok := v.(questionView); ok && m.vocab.typed {
		v = typedView{q}
	}
	p := newPart(m.source, name, m.tok, m.vocab, v, docs)
	switch m.objective() {
	case "sequence_classification":
		for _, doc := range docs {
			class := slices.Index(m.classes, doc.label)
			if class < 0 {
				return nil, &Error{Kind: ErrLabel, Path: doc.name, What: fmt.Sprintf("the class %q is none of those that the model knows (%s)", doc.label, strings.Join(m.classes, ", ")),
					Fix: "give data with the classes of the training"}
			}
			p.labels = append(p.labels, int32(class))
		}
	case "seq2seq_lm":
		p.bytes, p.targetBounds = 0, []int{0}
		for _, doc := range docs {
			p.bytes += int64(len(doc.target))
			p.targets.append(m.tok, doc.target)
			p.targetBounds = append(p.targetBounds, p.targets.len())
		}
	case "question_answering":
		p.bytes, p.questionBounds = 0, []int{0}
		for _, doc := range docs {
			p.ask(m.tok, doc)
		}
	}
	if p.readable() == 0 {
		return nil, &Error{Kind: ErrTooShort, Path: m.source, What: fmt.Sprintf("too short: its %s part would have no 2 tokens in a row", name),
			Fix: "give at least some hundred bytes of text"}
	}
	return p, nil
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

// digest sums up documents, parts and what is asked of them.
func digest(c Config, tok Tokenizer, parts [3][]document) string {
	h := sha256.New()
	text := func(b []byte) {
		_ = binary.Write(h, binary.LittleEndian, uint64(len(b)))
		_, _ = h.Write(b)
	}
	for _, docs := range parts {
		_ = binary.Write(h, binary.LittleEndian, uint64(len(docs)))
		for _, doc := range docs {
			text(doc.text)
			if c.objective() != "causal_lm" {
				text(doc.target)
				text([]byte(doc.label))
			}
			if c.objective() == "question_answering" {
				text([]byte(doc.question))
				_, _ = fmt.Fprint(h, doc.answers)
			}
		}
	}
	if c.objective() != "causal_lm" {
		_, _ = fmt.Fprintf(h, "%s %+v", c.objective(), c.view(0))
	}
	switch t := tok.(type) {
	case *BPE:
		text(t.JSON())
	case *Pretrained:
		text(t.digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}
