package data

import (
	"fmt"

	"github.com/euryale-ml/euryale/internal/splitmix"
)

// Tasks that count over the whole row: sum, parity.

// sumTask: length vectors of dims+1 numbers, uniform in 0 to 1 but for the first, which is 1 in marked of them and 0 in the others. The
// values to be predicted are the sums of the other dims numbers over the marked vectors. Who says the mean is wrong by marked/12 in the
// mean square (0.83 of 10).
//
// Source: masked summation, Guo et al. 2019, arXiv 1902.09113, section 4.1 (there n of 200 to 1000, 10 numbers a vector, 10 marked).
var sumTask = taskKind{
	name:    "sum",
	summary: "vectors, some of them marked; the sums of the marked ones (regression over the whole length)",
	params:  []taskParam{{"length", 200, 1, maxTaskLength}, {"marked", 10, 1, maxTaskLength}, {"dims", 9, 1, 1 << 12}},
	resize: func(v taskValues, t int) bool {
		v["length"], v["marked"] = t, min(v["marked"], t)
		return t >= 1
	},
	build: func(v taskValues) (*task, []string) {
		length, marked, dims := v["length"], v["marked"], v["dims"]
		var faults []string
		if marked > length {
			faults = append(faults, fmt.Sprintf("marked is %d, want at most length (%d)", marked, length))
		}
		if length*(dims+1) > maxVectors {
			faults = append(faults, fmt.Sprintf("the examples would have %d numbers, want at most %d", length*(dims+1), maxVectors))
		}
		t := &task{length: length, answers: dims, words: newWords(wordGroup{"x", 1}), shape: Shape{Vectors: dims + 1, Values: dims}}
		t.draw = func(r *stream, _ int, x *example) {
			if x.vectors == nil || x.values == nil {
				return
			}
			width := dims + 1
			for _, i := range r.choose(length, marked) {
				x.vectors[int(i)*width] = 1
			}
			for i := range length {
				row := x.vectors[i*width : (i+1)*width]
				for k := range dims {
					row[1+k] = float32(splitmix.Unit(r.next()))
					x.values[k] += row[0] * row[1+k]
				}
			}
		}
		return t, faults
	},
}

// maxVectors bounds the numbers of an example.
const maxVectors = 1 << 24

// parityTask: bits, some of them marked, and the question for the exclusive or of the marked ones. Three marked bits are learnt;
// the parity of many is not, by gradient descent.
//
//	ids      b0 b1 (bits) | m0 m1 (marked bits) | Q
//	tokens   b1 b0 m1 b1 m0 m1 b0 Q
//	targets                       b0
//
// The place of the question is global, and the answer is also the class of the row; first=1 puts the question before the bits.
var parityTask = taskKind{
	name:    "parity",
	summary: "bits, some of them marked; the parity of the marked ones (several places at once)",
	params:  []taskParam{{"length", 256, 2, maxTaskLength}, {"marked", 3, 1, maxTaskLength}, {"first", 0, 0, 1}},
	resize: func(v taskValues, t int) bool {
		v["length"] = t
		return t > v["marked"]
	},
	build: func(v taskValues) (*task, []string) {
		length, marked, first := v["length"], v["marked"], v["first"]
		var faults []string
		if marked >= length {
			faults = append(faults, fmt.Sprintf("marked is %d, want less than length (%d)", marked, length))
		}
		t := &task{length: length, answers: 1, words: newWords(wordGroup{"b", 2}, wordGroup{"m", 2}, wordGroup{"Q", 1}), shape: Shape{Globals: 1, Labels: 1, Classes: 2}}
		t.draw = func(r *stream, _ int, x *example) {
			bits := x.ids[first : first+length-1]
			for i := range bits {
				bits[i] = int32(r.below(2))
			}
			parity := int32(0)
			for _, i := range r.choose(length-1, marked) {
				parity ^= bits[i]
				bits[i] += 2
			}
			question := (length - 1) * (1 - first)
			x.ids[question], x.targets[question] = 4, parity
			x.ask(parity, question)
		}
		return t, faults
	},
}
