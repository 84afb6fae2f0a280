package data

import (
	"fmt"
	"sort"
)

// Tasks that are made from text, in bytes: twin, passkey. The text is data.path or the embedded book; train, val and test examples
// are made from the parts of it with these names.

// twinTask: T/2 bytes of text, and the same once more; the second time is to be predicted. A model that reaches T/2 back goes towards
// 0 bits per byte, one that reaches less stays at what it knows of the text.
//
//	tokens   Call me Ishmael. Call me Ishmael.
//	targets                  Call me Ishmael.     (each predicted by the token before it)
var twinTask = taskKind{
	name:    "twin",
	summary: "half an example of text, then the same again; bits per byte of the second half (reach within a language model)",
	text:    true,
	params:  []taskParam{{"length", 512, 2, maxTaskLength}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t >= 2
	},
	build: func(v taskValues) (*task, []string) {
		length := v["length"]
		var faults []string
		if length%2 != 0 {
			faults = append(faults, fmt.Sprintf("length is %d, want an even number", length))
		}
		half := length / 2
		var text [3]*excerpts
		t := &task{length: length, answers: half}
		t.bind = func(parts [3]*Part) (err error) {
			text, err = excerptsOf(parts, half)
			return err
		}
		t.draw = func(r *stream, part int, x *example) {
			ids, targets := x.ids, x.targets
			text[part].copy(r, ids[:half])
			copy(ids[half:], ids[:half])
			copy(targets[half-1:], ids[:half])
		}
		return t, faults
	},
}

// What the pass key stands in and how it is asked for.
const (
	passkeyBefore = " The pass key is "
	passkeyAfter  = ". "
	passkeyAsk    = "\nWhat is the pass key? The pass key is "
	passkeyDigits = 5
)

// passkeyTask: text with the sentence "The pass key is DDDDD." somewhere in it, and at the end the question for it. The five digits are
// the answers. Training examples have any length from min_length to length, as likely, and are padded; those of val and test have length.
//
// Source: Mohtashami and Jaggi 2023, arXiv 2305.16300, section 4.2, here in text instead of repeated sentences.
var passkeyTask = taskKind{
	name:    "passkey",
	summary: "text with a key of five digits somewhere in it; the end asks for the key (five targets)",
	text:    true,
	params:  []taskParam{{"length", 512, passkeyFrame, maxTaskLength}, {"min_length", 128, passkeyFrame, maxTaskLength}},
	resize: func(v taskValues, t int) bool {
		v["length"], v["min_length"] = t, min(t, v["min_length"])
		return t >= passkeyFrame
	},
	build: func(v taskValues) (*task, []string) {
		length, least := v["length"], v["min_length"]
		var faults []string
		if least > length {
			faults = append(faults, fmt.Sprintf("min_length is %d, want at most length (%d)", least, length))
		}
		var text [3]*excerpts
		t := &task{length: length, answers: passkeyDigits}
		t.bind = func(parts [3]*Part) (err error) {
			text, err = excerptsOf(parts, length-passkeyFrame)
			return err
		}
		t.draw = func(r *stream, part int, x *example) {
			ids, targets := x.ids, x.targets
			n := length
			if part == 0 {
				n = least + r.below(length-least+1)
			}
			filler := n - passkeyFrame
			text[part].copy(r, ids[:filler])
			at := r.below(filler + 1)
			var key [passkeyDigits]byte
			for i := range key {
				key[i] = '0' + byte(r.below(10))
			}
			sentence := passkeyBefore + string(key[:]) + passkeyAfter
			copy(ids[at+len(sentence):], ids[at:filler])
			spell(ids[at:], sentence)
			spell(ids[filler+len(sentence):], passkeyAsk)
			spell(ids[n-passkeyDigits+1:], string(key[:passkeyDigits-1]))
			spell(targets[n-passkeyDigits:], string(key[:]))
			x.n, x.tenth = n, tenth(at, filler+1)
		}
		return t, faults
	},
}

// passkeyFrame is what an example has besides its text: sentence, question, and the digits that are read back.
const passkeyFrame = len(passkeyBefore) + passkeyDigits + len(passkeyAfter) + len(passkeyAsk) + passkeyDigits - 1

func spell(ids []int32, text string) {
	for i := range len(text) {
		ids[i] = int32(text[i])
	}
}

// excerpts are all the pieces of a size of the documents of a part, each as likely.
type excerpts struct {
	part *Part
	docs []int // those that hold one
	ends []int // ends[k]: first places in docs[:k+1]
}

func excerptsOf(parts [3]*Part, size int) (all [3]*excerpts, err error) {
	for i, p := range parts {
		e := &excerpts{part: p}
		n := 0
		for d := range p.Documents() {
			if room := p.bounds[d+1] - p.bounds[d] - size + 1; room > 0 {
				n += room
				e.docs, e.ends = append(e.docs, d), append(e.ends, n)
			}
		}
		if n == 0 {
			return all, &Error{Kind: ErrTooShort, Path: p.source, Largest: p.longest(),
				What: fmt.Sprintf("too short for a task that needs %d bytes in a row: the longest document of its %s part has %d", size, p.Name, p.longest()),
				Fix:  "give the task a smaller length, or more text"}
		}
		all[i] = e
	}
	return all, nil
}

// copy writes a piece that begins anywhere. dst holds at most the size of the pieces.
func (e *excerpts) copy(r *stream, dst []int32) {
	i := r.below(e.ends[len(e.ends)-1])
	k := sort.SearchInts(e.ends, i+1)
	if k > 0 {
		i -= e.ends[k-1]
	}
	e.part.tokens.copy(dst, e.part.bounds[e.docs[k]]+i)
}
