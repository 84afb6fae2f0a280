package data

import (
	"fmt"
	"slices"
	"sort"
)

// Tasks of text in sections, for models with a global token for each: cpc, section_order. The sections are those of the source, the verses of
// a chapter say, or else sentences.

// sectioned is the text of a part with its sections.
type sectioned struct {
	part *Part
	ends []int // first section past each document
	all  []int // documents with at least two
	sum  []int // sections of all[:k+1]
}

func sectionsOf(parts [3]*Part) (text [3]*sectioned, err error) {
	for i, p := range parts {
		s := &sectioned{part: p}
		n := 0
		for d := range p.Documents() {
			first := 0
			if d > 0 {
				first = s.ends[d-1]
			}
			end := sort.SearchInts(p.marks, p.bounds[d+1])
			s.ends = append(s.ends, end)
			if end-first >= 2 {
				n += end - first
				s.all, s.sum = append(s.all, d), append(s.sum, n)
			}
		}
		if n == 0 {
			return text, &Error{Kind: ErrTooShort, Path: p.source, What: fmt.Sprintf("its %s part has no document of two sections", p.Name), Fix: "give more text"}
		}
		text[i] = s
	}
	return text, nil
}

// piece is tokens start to end-1 of a part.
type piece struct{ start, end int }

// excerpt draws a place of a document and appends the sections, at most so many, that fit into a number of tokens from there; at the end of
// the document some before it too. There are always two, of half the tokens each where they do not fit.
func (s *sectioned) excerpt(r *stream, sections, tokens int, to []piece) []piece {
	p := s.part
	i := r.below(s.sum[len(s.sum)-1])
	k := sort.SearchInts(s.sum, i+1)
	if k > 0 {
		i -= s.sum[k-1]
	}
	d := s.all[k]
	first, end := 0, s.ends[d]
	if d > 0 {
		first = s.ends[d-1]
	}
	section := func(m int) piece {
		if m+1 < end {
			return piece{p.marks[m], p.marks[m+1]}
		}
		return piece{p.marks[m], p.bounds[d+1]}
	}
	a := min(first+i, end-2)
	z := a + 1
	for z < end && z-a < sections && section(z).end-section(a).start <= tokens {
		z++
	}
	for z == end && a > first && z-a < sections && p.bounds[d+1]-section(a-1).start <= tokens {
		a--
	}
	if z-a < 2 {
		for _, q := range []piece{section(a), section(a + 1)} {
			to = append(to, piece{q.start, min(q.end, q.start+tokens/2)})
		}
		return to
	}
	for m := a; m < z; m++ {
		to = append(to, section(m))
	}
	return to
}

// cpcTask: a text of which some sections are hidden. A model reads the hidden text with a global token for each section (first pass), and each of the
// hidden sections alone with a global token of its own (second pass), and has to tell which of the second belongs to which of the first; the others of
// the batch are wrong. Besides, tokens elsewhere are hidden as for a masked language model: Targets.
//
//	ids               [B,T]         hidden sections as [MASK]s
//	sentence_ids      [B,T]         section of each token from 0, -1: padding
//	global_ids        [B,sections]  [CLS] for a section, [MASK] for a hidden one, -1: none
//	masked_sentences  [B,S]         hidden sections in order, -1: none
//	packed_ids        [B,P]         tokens of the hidden sections, one after the other
//	packed_sentences  [B,P]         which of masked_sentences a token belongs to, from 0, -1: padding
//	duplicate_group   [B,S]         row·S + place of the first hidden section of the batch with the same tokens, -1: none
//
// S is hide percent of sections, rounded up; P a quarter of T, or packed. What does not fit into P is cut off in the second pass alone.
//
// Source: Ainslie et al. 2020, arXiv 2004.08483, section 3.2 (there 10 % of the sentences); what it leaves open is decided here.
var cpcTask = taskKind{
	name:    "cpc",
	summary: "text with some sections hidden: which encoding belongs to which hidden section (contrastive), and hidden tokens elsewhere",
	text:    true,
	params: []taskParam{{"length", 512, 8, maxTaskLength}, {"sections", 32, 2, 1 << 12}, {"hide", 10, 1, 99}, {"mask", 15, 0, 99},
		{"packed", 0, 0, maxTaskLength}},
	resize: func(v taskValues, t int) bool {
		v["length"], v["packed"] = t, min(v["packed"], t)
		return t >= 8
	},
	build: func(v taskValues) (*task, []string) {
		length, sections, hide, packed := v["length"], v["sections"], v["hide"], v["packed"]
		mask := maskedView{float64(v["mask"]) / 100, "word"}
		if packed == 0 {
			packed = (length + 3) / 4
		}
		hidden := func(n int) int { return (n*hide + 99) / 100 } // at least 1
		most := hidden(sections)
		var text [3]*sectioned
		t := &task{length: length, answers: 1, special: true, sections: true, shape: Shape{More: map[string]int{"sentence_ids": length, "global_ids": sections,
			"masked_sentences": most, "packed_ids": packed, "packed_sentences": packed, "duplicate_group": most}}}
		t.bind = func(parts [3]*Part) (err error) {
			text, err = sectionsOf(parts)
			return err
		}
		t.draw = func(r *stream, part int, x *example) {
			vocab := text[part].part.vocab
			r.pieces = text[part].excerpt(r, sections, length, r.pieces[:0])
			key := r.next()
			chosen := r.choose(len(r.pieces), hidden(len(r.pieces)))
			slices.Sort(chosen)
			sentences, globals := x.more["sentence_ids"], x.more["global_ids"]
			masked, ids, of := x.more["masked_sentences"], x.more["packed_ids"], x.more["packed_sentences"]
			n, at := 0, 0
			for s, p := range r.pieces {
				text[part].part.tokens.copy(x.ids[n:n+p.end-p.start], p.start)
				if sentences != nil {
					repeat(sentences[n:n+p.end-p.start], int32(s))
				}
				if globals != nil {
					globals[s] = vocab.ids.cls
				}
				n += p.end - p.start
			}
			if mask.probability > 0 {
				mask.hide(vocab, x.ids[:n], x.targets[:n], key)
			}
			n = 0
			for s, p := range r.pieces {
				size := p.end - p.start
				if k := slices.Index(chosen, int32(s)); k >= 0 {
					repeat(x.ids[n:n+size], vocab.ids.mask)
					repeat(x.targets[n:n+size], -1)
					if globals != nil && masked != nil && ids != nil && of != nil {
						globals[s], masked[k] = vocab.ids.mask, int32(s)
						size := min(size, (len(ids)-at+len(chosen)-k-1)/(len(chosen)-k)) // its share of what is left
						text[part].part.tokens.copy(ids[at:at+size], p.start)
						repeat(of[at:at+size], int32(k))
						at += size
					}
				}
				n += size
			}
			if ids != nil {
				repeat(ids[at:], vocab.pad())
			}
			x.n = n
		}
		t.finish = findDuplicates
		return t, nil
	},
}

// findDuplicates fills duplicate_group, and gives rows that are padding ids that can be looked up.
func findDuplicates(b *Batch) {
	groups, ids, of := b.More["duplicate_group"], b.More["packed_ids"], b.More["packed_sentences"]
	if groups == nil {
		return
	}
	for i, id := range ids {
		if id < 0 { // of a row that is padding as a whole
			ids[i] = 0
		}
	}
	most, width := len(groups)/b.B, len(ids)/b.B
	section := func(g int) []int32 { // packed tokens of hidden section g of the batch; empty: there is none
		row := of[g/most*width : (g/most+1)*width]
		a := slices.Index(row, int32(g%most))
		if a < 0 {
			return nil
		}
		z := a
		for z < width && row[z] == row[a] {
			z++
		}
		return ids[g/most*width+a : g/most*width+z]
	}
	for g := range groups {
		groups[g] = -1
		own := section(g)
		if own == nil {
			continue
		}
		groups[g] = int32(g)
		for other := range g {
			if groups[other] == int32(other) && slices.Equal(section(other), own) {
				groups[g] = int32(other)
				break
			}
		}
	}
}

// sectionOrderTask: a text of some sections in two halves, which are swapped in half of the examples; were they? Chance is a half.
//
//	tokens   [CLS] second half [SEP] first half
//	label    1 (swapped) or 0
//
// For a model with a global token for each section there are sentence_ids [B,T] and global_ids [B,sections] as in cpcTask, numbered as they stand
// in the row; [CLS] and [SEP] belong to the section after them.
//
// Source: the order of sentences as in Lan et al. 2019, arXiv 1909.11942, section 3.1.
var sectionOrderTask = taskKind{
	name:    "section_order",
	summary: "the halves of a text in sections, in order or swapped (two classes)",
	text:    true,
	params:  []taskParam{{"length", 512, 8, maxTaskLength}, {"sections", 32, 2, 1 << 12}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t >= 8
	},
	build: func(v taskValues) (*task, []string) {
		length, sections := v["length"], v["sections"]
		var text [3]*sectioned
		t := &task{length: length, answers: 1, special: true, sections: true, shape: Shape{Globals: 1, Labels: 1, Classes: 2,
			More: map[string]int{"sentence_ids": length, "global_ids": sections}}}
		t.bind = func(parts [3]*Part) (err error) {
			text, err = sectionsOf(parts)
			return err
		}
		t.draw = func(r *stream, part int, x *example) {
			vocab := text[part].part.vocab
			r.pieces = text[part].excerpt(r, sections, length-2, r.pieces[:0])
			pieces, total := r.pieces, 0
			for _, p := range pieces {
				total += p.end - p.start
			}
			// The halves part where they are most alike in size.
			cut, size := 1, pieces[0].end-pieces[0].start
			for cut < len(pieces)-1 && 2*size+pieces[cut].end-pieces[cut].start <= total {
				size += pieces[cut].end - pieces[cut].start
				cut++
			}
			class := int32(r.below(2))
			order := [2][]piece{pieces[:cut], pieces[cut:]}
			if class == 1 {
				order[0], order[1] = order[1], order[0]
			}
			sentences := x.more["sentence_ids"]
			n, s := 0, 0
			for half, begin := range [2]int32{vocab.ids.cls, vocab.ids.sep} {
				for k, p := range order[half] {
					from := n
					if k == 0 {
						x.ids[n] = begin
						n++
					}
					text[part].part.tokens.copy(x.ids[n:n+p.end-p.start], p.start)
					n += p.end - p.start
					if sentences != nil {
						repeat(sentences[from:n], int32(s))
					}
					s++
				}
			}
			if globals := x.more["global_ids"]; globals != nil {
				repeat(globals[:s], vocab.ids.cls)
			}
			x.n = n
			x.ask(class, 0)
		}
		return t, nil
	},
}
