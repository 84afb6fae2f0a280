package data

import (
	"fmt"
	"slices"
)

// excerptTask: [CLS] and an excerpt of a long document; of which class is the document? Each class is drawn as often, and of it each document,
// so chance is 1 of the classes. A document that is shorter than an excerpt is read as a whole. Documents, not excerpts, are divided among the
// parts: none is known from training. It needs documents with classes: data.path=sotu, where the class is the era of a speech, or its party
// with data.label_field=party.
//
//	tokens   [CLS] t h a t   o u r   U n i o n
//	label    1
//
// Source: in the place of the classification of long texts of Tay et al. 2020, arXiv 2011.04006, section 2.2.
var excerptTask = taskKind{
	name:    "excerpt",
	summary: "an excerpt of a long document and the class of that (needs documents with classes, such as data.path=sotu)",
	text:    true,
	pairs:   true,
	params:  []taskParam{{"length", 512, 2, maxTaskLength}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t >= 2
	},
	build: func(v taskValues) (*task, []string) {
		length := v["length"]
		var parts [3]*Part
		var of [3][][]int // documents by class, those classes alone that there are
		t := &task{length: length, answers: 1, special: true, shape: Shape{Globals: 1, Labels: 1}}
		t.text = func(c *Config) { c.Objective = "sequence_classification" }
		t.bind = func(bound [3]*Part) error {
			parts = bound
			for i, p := range parts {
				byClass := map[int32][]int{}
				for d, class := range p.labels {
					byClass[class] = append(byClass[class], d)
				}
				if len(byClass) < 2 {
					return &Error{Kind: ErrTooShort, Path: p.source, What: fmt.Sprintf("its %s part has documents of %d class, this task needs two", p.Name, len(byClass)), Fix: "give more of them"}
				}
				for class := range slices.Max(p.labels) + 1 {
					if docs := byClass[class]; docs != nil {
						of[i] = append(of[i], docs)
					}
				}
				t.shape.Classes = max(t.shape.Classes, int(slices.Max(p.labels))+1)
			}
			return nil
		}
		t.draw = func(r *stream, part int, x *example) {
			docs := of[part][r.below(len(of[part]))]
			d := docs[r.below(len(docs))]
			p := parts[part]
			n := p.bounds[d+1] - p.bounds[d]
			size := min(n, length-1)
			x.ids[0] = p.vocab.ids.cls
			p.tokens.copy(x.ids[1:1+size], p.bounds[d]+r.below(n-size+1))
			x.n = 1 + size
			x.ask(p.labels[d], 0)
		}
		return t, nil
	},
}

// eras are the classes of the speeches on the state of the union, by the year before which each ends.
var eras = []struct {
	before int
	name   string
}{{1861, "1790-1860"}, {1913, "1861-1912"}, {1961, "1913-1960"}, {1 << 30, "1961-"}}

// readSotu reads the speeches. Their class is the era, unless another field is named.
func readSotu(path string, c Config) (*source, error) {
	f := c.fields()
	era := f.label != "" && (c.LabelField == "" || c.LabelField == "era")
	if era {
		f.label = "year"
	}
	src, err := readSource(path, f)
	if err != nil || !era {
		return src, err
	}
	for i, doc := range src.docs {
		year := 0
		if _, err := fmt.Sscan(doc.label, &year); err != nil {
			return nil, &Error{Kind: ErrFormat, Path: doc.name, What: fmt.Sprintf("the year is %q", doc.label), Fix: "fetch the set again"}
		}
		for _, e := range eras {
			if year < e.before {
				src.docs[i].label = e.name
				break
			}
		}
	}
	return src, nil
}
