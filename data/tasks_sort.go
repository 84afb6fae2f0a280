package data

import "slices"

// sortTask: whole numbers below values; an encoder-decoder has to say them in order, and an end token. Its tokens are read back. Who says the most
// likely number without having read any is right about once in values.
//
//	ids      0.. (numbers) | <s> | </s>
//	source   4 1 9 1
//	reads    <s> 1 1 4 9
//	says     1 1 4 9 </s>
//
// Source: Tay et al. 2020, arXiv 2002.11296, section 4.1 (there 256 numbers below 10).
var sortTask = taskKind{
	name:    "sort",
	summary: "numbers, and the same in order (for an encoder-decoder)",
	params:  []taskParam{{"length", 64, 1, maxTaskLength}, {"values", 10, 2, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t >= 1
	},
	build: func(v taskValues) (*task, []string) {
		length, values := v["length"], v["values"]
		t := &task{length: length, answers: length + 1, words: newWords(wordGroup{"", values}, wordGroup{"<s>", 1}, wordGroup{"</s>", 1}),
			shape: Shape{Targets: length + 1}}
		t.draw = func(r *stream, _ int, x *example) {
			for i := range x.ids {
				x.ids[i] = int32(r.below(values))
			}
			if x.says == nil {
				return
			}
			sorted := append(r.scratch[:0], x.ids...)
			slices.Sort(sorted)
			x.say(sorted, int32(values), int32(values+1))
			r.scratch = sorted
		}
		return t, nil
	},
}
