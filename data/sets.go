package data

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Root is the variable of the environment that names the folder of the sets, FetchScript what fills it.
const (
	Root        = "EURYALE_DATA"
	FetchScript = "data/scripts/fetch.sh"
)

// Set is text that the program knows by name but does not bring along.
type Set struct {
	Name, File string // the file is below the folder of the sets
	Summary    string
	fields     func(c Config) fields
	reader     func(f fields) lineReader // nil: it is read by its extension
}

const bibleName = "bible"

// bibleColumns are the columns of the table of verses, which has no header.
var bibleColumns = []string{"reference", "kjv", "web", "rv"}

// sets are the sets by name.
var sets = map[string]Set{
	"sotu":   {Name: "sotu", File: "text/sotu.jsonl.bz2", Summary: "233 speeches on the state of the union, 10.8 MB; classes: party, name, year"},
	"enwiki": {Name: "enwiki", File: "text/enwiki_6mb.xml.bz2", Summary: "6.1 MB of Wikipedia as XML"},
	bibleName: {Name: bibleName, File: "parallel/bible_kjv_web_rv.tsv.bz2",
		Summary: "31,048 verses in three translations: kjv, web (modern English), rv (Spanish); a language model reads chapters",
		fields:  bibleFields,
		reader: func(f fields) lineReader {
			return &columns{names: f.names(), whole: func(reference string) string {
				chapter, _, _ := strings.Cut(reference, ":")
				return chapter
			}}
		}},
}

// bibleFields are the columns: kjv, to web where there are pairs, in groups of a chapter. A language model reads whole chapters.
func bibleFields(c Config) fields {
	f := c.fields()
	f.group, f.join = "reference", c.Join || c.objective() == "causal_lm" || c.objective() == "masked_lm"
	if c.TextField == "" {
		f.text = "kjv"
	}
	if c.TargetField == "" && f.target != "" {
		f.target = "web"
	}
	return f
}

// Sets lists the sets by name.
func Sets() []Set {
	var all []Set
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		all = append(all, sets[name])
	}
	return all
}

// IsName reports whether a path is not one but a name: that of a set or of the embedded book.
func IsName(path string) bool {
	_, ok := sets[path]
	return ok || path == EmbeddedName
}

// read reads a set from the folder of the sets.
//
// Errors: ErrMissing, which says how to get it; those of a file.
func (s Set) read(c Config) (*source, error) {
	missing := func(what string) error {
		return &Error{Kind: ErrMissing, Path: s.Name, What: what,
			Fix: fmt.Sprintf("run `bash %s FOLDER` and set %s=FOLDER, or give a path", FetchScript, Root)}
	}
	root := os.Getenv(Root)
	if root == "" {
		return nil, missing(fmt.Sprintf("this set does not come with the program, and %s, the folder of the sets, is not set", Root))
	}
	path := filepath.Join(root, filepath.FromSlash(s.File))
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return nil, missing(fmt.Sprintf("%s is not there", path))
	}
	f := c.fields()
	if s.fields != nil {
		f = s.fields(c)
	}
	var src *source
	var err error
	if s.reader == nil {
		src, err = readSource(path, f)
	} else {
		names := f.names()
		for i, name := range names {
			if name == "" {
				continue
			}
			at := slices.Index(bibleColumns, name)
			if at < 0 {
				return nil, &Error{Kind: ErrFormat, Path: s.Name, What: fmt.Sprintf("no column %q (there are: %s)", name, strings.Join(bibleColumns, ", ")), Fix: "name the column with " + fieldKeys[i]}
			}
			names[i] = fmt.Sprint(at + 1)
		}
		f.text, f.target, f.label, f.group = names[0], names[1], names[2], names[3]
		src, err = readLines(path, f, s.reader(f))
	}
	if err != nil {
		return nil, err
	}
	src.name = s.Name
	return src, nil
}
