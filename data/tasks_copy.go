package data

import "fmt"

// Tasks that repeat what was read: copy, reverse, duplicate.

// copyTask: count symbols, gap blanks, GO, and the symbols again. Answers are read back (teacher forcing). T = gap + 2·count. One hop by
// position; a model that reaches less far than gap stays at chance, 1 of symbols.
//
//	ids      s0.. (symbols) | _ | GO
//	tokens   s4 s1 s1 _ _ _ _ GO s4 s1
//	targets                   s4 s1 s1
var copyTask = copyKind("copy", "symbols, blanks, and the symbols again (reach by position)", false)

// reverseTask is copyTask with the symbols in the opposite order.
var reverseTask = copyKind("reverse", "symbols, blanks, and the symbols again in the opposite order", true)

func copyKind(name, summary string, reverse bool) taskKind {
	return taskKind{
		name:    name,
		summary: summary,
		params:  []taskParam{{"gap", 64, 0, maxTaskLength}, {"count", 16, 1, maxTaskLength}, {"symbols", 32, 2, 1 << 16}},
		resize: func(v taskValues, t int) bool {
			v["count"] = min(v["count"], t/2)
			v["gap"] = t - 2*v["count"]
			return t >= 2
		},
		build: func(v taskValues) (*task, []string) {
			gap, count, symbols := v["gap"], v["count"], v["symbols"]
			length := gap + 2*count
			t := &task{length: length, answers: count, words: newWords(wordGroup{"s", symbols}, wordGroup{"_", 1}, wordGroup{"GO", 1})}
			t.draw = func(r *stream, _ int, x *example) {
				ids, targets := x.ids, x.targets
				for i := range count {
					ids[i] = int32(r.below(symbols))
				}
				for i := range gap {
					ids[count+i] = int32(symbols)
				}
				ids[count+gap] = int32(symbols + 1)
				for i := range count {
					from := i
					if reverse {
						from = count - 1 - i
					}
					targets[count+gap+i] = ids[from]
					if i < count-1 {
						ids[count+gap+i+1] = ids[from]
					}
				}
			}
			return t, nil
		},
	}
}

// duplicateTask: 0 w 0 w, with w of T/2-1 symbols; the second w is to be predicted, its symbols are read back. Chance is 1 of symbols.
//
//	ids      0 | s1.. as ids 1 to symbols
//	tokens   0 5 3 9 0 5 3 9
//	targets          5 3 9
//
// Source: Kitaev et al. 2020, arXiv 2001.04451, section 5 (there T = 1024 and symbols = 127).
var duplicateTask = taskKind{
	name:    "duplicate",
	summary: "0 w 0 w: the second w is to be predicted",
	params:  []taskParam{{"length", 256, 4, maxTaskLength}, {"symbols", 31, 2, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t >= 4
	},
	build: func(v taskValues) (*task, []string) {
		length, symbols := v["length"], v["symbols"]
		var faults []string
		if length%2 != 0 {
			faults = append(faults, fmt.Sprintf("length is %d, want an even number", length))
		}
		half := length / 2
		t := &task{length: length, answers: half - 1, words: newWords(wordGroup{"0", 1}, wordGroup{"s", symbols})}
		t.draw = func(r *stream, _ int, x *example) {
			ids, targets := x.ids, x.targets
			for i := 1; i < half; i++ {
				ids[i] = int32(1 + r.below(symbols))
				ids[half+i], targets[half+i-1] = ids[i], ids[i]
			}
		}
		return t, faults
	},
}
