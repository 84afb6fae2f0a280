// Keep_long makes a set of long documents out of a set with classes: those of at least so many tokens, as many of each class.
//
//	go run ./docs/examples/keep_long -data imdb.jsonl.bz2 -tokenizer my-bert -min 700 -train 800 -val 100 -test 600 -to long.jsonl
//
// The data are a .jsonl file, also compressed, with the fields text and label. In their order the first of each class go to the training, the
// next to the validation and the next to the test part: what stands together, such as reviews of the same film, mostly stays together.
package main

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/euryale-ml/euryale/data"
)

type options struct {
	data, tokenizer, to   string
	min, train, val, test int
}

// document is a line of the file.
type document struct {
	Split string `json:"split"`
	Label string `json:"label"`
	Text  string `json:"text"`
}

func main() {
	var o options
	flag.StringVar(&o.data, "data", "", "documents with their classes")
	flag.StringVar(&o.tokenizer, "tokenizer", "", "folder with a tokenizer")
	flag.StringVar(&o.to, "to", "long.jsonl", "file to write")
	flag.IntVar(&o.min, "min", 700, "tokens of the shortest document that is kept")
	flag.IntVar(&o.train, "train", 800, "documents to learn from")
	flag.IntVar(&o.val, "val", 100, "documents to choose the best checkpoint by")
	flag.IntVar(&o.test, "test", 600, "documents to test with")
	flag.Parse()
	if err := run(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(o options, out io.Writer) error {
	tok, found, err := data.LoadTokenizer(o.tokenizer)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s has no tokenizer", o.tokenizer)
	}
	byClass := map[string][]document{}
	tokens, kept := 0, 0
	err = each(o.data, func(d document) {
		if n := len(tok.Encode(d.Text)); n >= o.min {
			byClass[d.Label] = append(byClass[d.Label], d)
			tokens, kept = tokens+n, kept+1
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d documents of at least %d tokens, %.0f in the mean\n", kept, o.min, float64(tokens)/float64(max(kept, 1)))

	// The classes alternate, so that every stretch of the file has as many of each.
	classes := slices.Sorted(maps.Keys(byClass))
	if len(classes) == 0 {
		return fmt.Errorf("%s: no document has %d tokens: lower -min", o.data, o.min)
	}
	var all []document
	for _, part := range []struct {
		name string
		n    int
	}{{"train", o.train}, {"val", o.val}, {"test", o.test}} {
		for i := range part.n {
			class := classes[i%len(classes)]
			if len(byClass[class]) == 0 {
				return fmt.Errorf("%s: too few documents of class %s: lower -min, -train, -val or -test", o.data, class)
			}
			d := byClass[class][0]
			d.Split, byClass[class] = part.name, byClass[class][1:]
			all = append(all, d)
		}
	}
	f, err := os.Create(o.to)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(f)
	for _, d := range all {
		err = errors.Join(err, lines.Encode(d))
	}
	return errors.Join(err, f.Close())
}

// each reads the documents of a file one after the other.
func each(path string, take func(document)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var text io.Reader = bufio.NewReaderSize(f, 1<<20)
	switch filepath.Ext(path) {
	case ".bz2":
		text = bzip2.NewReader(text)
	case ".gz":
		if text, err = gzip.NewReader(text); err != nil {
			return err
		}
	}
	for lines := json.NewDecoder(text); ; {
		var d document
		if err := lines.Decode(&d); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		take(d)
	}
}
