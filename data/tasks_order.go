package data

import "fmt"

// Tasks that classify a text that is there or not as it was written: shuffled, matching.

// shuffledTask: a text that is cut into pieces of piece tokens. In half of the examples the pieces are put in another order; was this one?
// Chance is a half. The joints tell it, so it is easy for small pieces.
//
//	tokens   [CLS] a l l C  ‑ m e   I s h
//	label    1 (another order) or 0
var shuffledTask = taskKind{
	name:    "shuffled",
	summary: "a text whose pieces are in order or not (two classes)",
	text:    true,
	params:  []taskParam{{"length", 129, 3, maxTaskLength}, {"piece", 4, 1, maxTaskLength}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t-1 >= 2*v["piece"]
	},
	build: func(v taskValues) (*task, []string) {
		length, piece := v["length"], v["piece"]
		var faults []string
		if 2*piece > length-1 {
			faults = append(faults, fmt.Sprintf("piece is %d, want at most half of what [CLS] leaves of length (%d)", piece, (length-1)/2))
		}
		var text [3]*excerpts
		t := &task{length: length, answers: 1, special: true, shape: Shape{Globals: 1, Labels: 1, Classes: 2}}
		t.bind = func(parts [3]*Part) (err error) {
			text, err = excerptsOf(parts, length-1)
			return err
		}
		t.draw = func(r *stream, part int, x *example) {
			x.ids[0] = text[part].part.vocab.ids.cls
			body := x.ids[1:]
			text[part].copy(r, body)
			class := int32(r.below(2))
			if class == 1 {
				n := len(body) / piece // what does not fill a piece stays at the end
				order := r.choose(n, n)
				if inOrder(order) {
					order[0], order[1] = order[1], order[0]
				}
				from := append([]int32(nil), body[:n*piece]...)
				for k, at := range order {
					copy(body[k*piece:(k+1)*piece], from[int(at)*piece:])
				}
			}
			x.ask(class, 0)
		}
		return t, faults
	},
}

func inOrder(order []int32) bool {
	for i, at := range order {
		if int(at) != i {
			return false
		}
	}
	return true
}

// matchingTask: the beginnings of two texts, a chapter in one translation and a chapter in another; are they the same chapter? If not, the second is
// the one before or after it in the same part (one of another part would be known by being seen, or unseen, in training). Chance is a
// half, and to be better the two have to be compared. It needs pairs in groups: data.path=bible.
//
//	tokens   [CLS] In the beginning God created [SEP] In the beginning, God created
//	label    1 (the same chapter) or 0
//
// Source: in the place of the retrieval task of Tay et al. 2020, arXiv 2011.04006, section 2.2.
var matchingTask = taskKind{
	name:    "matching",
	summary: "two texts, of the same chapter or not (two classes; needs pairs, such as data.path=bible)",
	text:    true,
	pairs:   true,
	params:  []taskParam{{"length", 1024, 4, maxTaskLength}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t >= 4
	},
	build: func(v taskValues) (*task, []string) {
		length := v["length"]
		room := (length - 2) / 2
		var text [3]*Part
		t := &task{length: length, answers: 1, special: true, shape: Shape{Types: true, Globals: 1, Labels: 1, Classes: 2}}
		t.text = func(c *Config) { c.Objective, c.Join = "seq2seq_lm", c.GroupField != "" || c.Path == bibleName }
		t.bind = func(parts [3]*Part) error {
			for _, p := range parts {
				if p.Documents() < 2 {
					return &Error{Kind: ErrTooShort, Path: p.source, What: fmt.Sprintf("its %s part has %d document, this task needs two", p.Name, p.Documents()), Fix: "give more of them"}
				}
			}
			text = parts
			return nil
		}
		t.draw = func(r *stream, part int, x *example) {
			p := text[part]
			first := r.below(p.Documents())
			second, class := first, int32(r.below(2))
			if class == 0 {
				switch second += 1 - 2*r.below(2); second {
				case -1:
					second = 1
				case p.Documents():
					second -= 2
				}
			}
			n := min(room, p.bounds[first+1]-p.bounds[first])
			m := min(room, p.targetBounds[second+1]-p.targetBounds[second])
			x.ids[0] = p.vocab.ids.cls
			p.tokens.copy(x.ids[1:1+n], p.bounds[first])
			x.ids[1+n] = p.vocab.ids.sep
			p.targets.copy(x.ids[2+n:2+n+m], p.targetBounds[second])
			if x.types != nil {
				repeat(x.types[2+n:2+n+m], 1)
			}
			x.n = 2 + n + m
			x.ask(class, 0)
		}
		return t, nil
	},
}
