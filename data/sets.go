package data

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	read       func(path string, c Config) (*source, error)
}

const bibleName = "bible"

// sets are the sets by name.
var sets = map[string]Set{
	"sotu":    {"sotu", "text/sotu.jsonl.bz2", "233 speeches on the state of the union, 10.8 MB; fields: year, name, party; era as class", readSotu},
	"enwiki":  {"enwiki", "text/enwiki_6mb.xml.bz2", "6.1 MB of Wikipedia as XML", readFields},
	"imdb":    {"imdb", "text/imdb.jsonl.bz2", "24,904 reviews of films, 33 MB; label: negative, positive", readFields},
	bibleName: {bibleName, "parallel/bible_kjv_web_rv.tsv.bz2", "31,048 verses in three translations: kjv, web (modern English), rv (Spanish); a language model reads chapters", readBible},
}

func readFields(path string, c Config) (*source, error) { return readSource(path, c.fields()) }

// bibleColumns are the columns of the table of verses, which has no names in it.
var bibleColumns = []string{"reference", "kjv", "web", "rv"}

// readBible reads verses, in groups of a chapter: kjv, and web as target where there are pairs, unless other columns are named. A language
// model reads whole chapters with a section for each verse.
func readBible(path string, c Config) (*source, error) {
	f := c.fields()
	f.group = "reference"
	f.join = c.Join || f.target == "" && f.label == ""
	if c.TextField == "" {
		f.text = "kjv"
	}
	if c.TargetField == "" && f.target != "" {
		f.target = "web"
	}
	names := f.names()
	for i, name := range names {
		if name == "" {
			continue
		}
		at := slices.Index(bibleColumns, name)
		if at < 0 {
			return nil, &Error{Kind: ErrFormat, Path: bibleName, What: fmt.Sprintf("no column %q (there are: %s)", name, strings.Join(bibleColumns, ", ")), Fix: "name the column with " + fieldKeys[i]}
		}
		names[i] = strconv.Itoa(at + 1)
	}
	return readLines(path, f, &columns{names: names, group: func(reference string) string {
		chapter, _, _ := strings.Cut(reference, ":")
		return chapter
	}})
}

// Sets lists the sets by name.
func Sets() []Set {
	var all []Set
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		all = append(all, sets[name])
	}
	return all
}

// IsName reports whether a path is not one but a name: that of a set, of images too, or of the embedded book.
func IsName(path string) bool {
	_, text := sets[path]
	_, images := imageSetOf(path)
	return text || images || path == EmbeddedName
}

// load reads a set from the folder of the sets.
//
// Errors: ErrMissing, which says how to get it; those of a file.
func (s Set) load(c Config) (*source, error) {
	path, err := inRoot(s.Name, s.File)
	if err != nil {
		return nil, err
	}
	src, err := s.read(path, c)
	if err != nil {
		return nil, err
	}
	src.name = s.Name
	return src, nil
}

// inRoot is where the file or folder of a set is.
//
// Errors: ErrMissing, which says how to get it.
func inRoot(name, file string) (string, error) {
	missing := func(what string) error {
		return &Error{Kind: ErrMissing, Path: name, What: what,
			Fix: fmt.Sprintf("run `bash %s FOLDER` and set %s=FOLDER, or give a path", FetchScript, Root)}
	}
	root := os.Getenv(Root)
	if root == "" {
		return "", missing(fmt.Sprintf("this set does not come with the program, and %s, the folder of the sets, is not set", Root))
	}
	path := filepath.Join(root, filepath.FromSlash(file))
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return "", missing(fmt.Sprintf("%s is not there", path))
	}
	return path, nil
}
