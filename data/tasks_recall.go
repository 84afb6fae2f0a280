package data

import "fmt"

// Tasks that hide something and ask for it: needle, mqar, sections.

// needleTask: noise everywhere, one token of another type anywhere before the end, and at the end the question which it was. One hop:
// it measures how far a model reaches, nothing else. Chance is 1 of values. A local model can know no needle out of its reach
// (layers times window), which slows its training; near puts half of the training needles within a distance.
//
//	ids      n0.. (noise) | v0.. (values) | Q
//	tokens   n n n v n n n Q
//	targets                v
//
// For an encoder the place of the question is global and the value is also the class of the row; first=1 puts the question before the
// noise, where a head for classes reads.
var needleTask = taskKind{
	name:    "needle",
	summary: "one token of another type among noise; the last token asks which (reach)",
	params:  []taskParam{{"length", 256, 2, maxTaskLength}, {"noise", 64, 1, 1 << 16}, {"values", 32, 2, 1 << 16}, {"near", 0, 0, maxTaskLength}},
	later:   []taskParam{{"first", 0, 0, 1}},
	resize: func(v taskValues, t int) bool {
		v["length"], v["near"] = t, min(t, v["near"])
		return t >= 2
	},
	build: func(v taskValues) (*task, []string) {
		length, noise, values, near, first := v["length"], v["noise"], v["values"], v["near"], v["first"]
		var faults []string
		if near == 1 || near > length {
			faults = append(faults, fmt.Sprintf("near is %d, want 0 or a distance from 2 to length (%d)", near, length))
		}
		t := &task{length: length, answers: 1, words: newWords(wordGroup{"n", noise}, wordGroup{"v", values}, wordGroup{"Q", 1}),
			shape: Shape{Globals: 1, Labels: 1, Classes: values}}
		t.draw = func(r *stream, part int, x *example) {
			ids, targets := x.ids, x.targets
			for i := range length - 1 {
				ids[first+i] = int32(r.below(noise))
			}
			p := r.below(length - 1)
			if near > 0 && part == 0 && r.below(2) == 0 {
				p = length - 1 - (1 + r.below(near-1)) // at a distance of 1 to near-1 from the end
			}
			value, question := r.below(values), (length-1)*(1-first)
			ids[first+p], ids[question], targets[question] = int32(noise+value), int32(noise+values), int32(noise+value)
			x.ask(int32(value), question)
			x.tenth = tenth(p, length-1)
		}
		return t, faults
	},
}

// mqarTask: pairs of a key and its value, then each key once more, at random places among blanks, with its value in the slot after it.
// Two hops: the value must know the key before it, the question must find that. Keys are distinct, values are not. Chance is 1 of values;
// who knows the values of the example but not which is whose gets about 15 % with 16 pairs.
//
//	ids      k0.. (keys) | v0.. (values) | _
//	tokens   k3 v1 k7 v0 _ _ k7 v0 _ k3 v1 _
//	targets                  v0      v1
//
// Source: multi-query associative recall, Arora et al. 2023, arXiv 2312.04927.
var mqarTask = taskKind{
	name:    "mqar",
	summary: "pairs of key and value, then the keys again in another order; each asks for its value (two hops)",
	params:  []taskParam{{"length", 128, 4, maxTaskLength}, {"pairs", 16, 1, 1 << 16}, {"keys", 32, 1, 1 << 16}, {"values", 32, 2, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["length"], v["pairs"] = t, min(v["pairs"], t/4)
		return t >= 4
	},
	build: func(v taskValues) (*task, []string) {
		length, pairs, keys, values := v["length"], v["pairs"], v["keys"], v["values"]
		var faults []string
		if keys < pairs {
			faults = append(faults, fmt.Sprintf("keys is %d, want at least pairs (%d)", keys, pairs))
		}
		if length < 4*pairs {
			faults = append(faults, fmt.Sprintf("length is %d, want at least 4 times pairs (%d)", length, 4*pairs))
		}
		blank := int32(keys + values)
		t := &task{length: length, answers: pairs, words: newWords(wordGroup{"k", keys}, wordGroup{"v", values}, wordGroup{"_", 1})}
		t.draw = func(r *stream, _ int, x *example) {
			ids, targets := x.ids, x.targets
			for i, key := range r.choose(keys, pairs) {
				ids[2*i] = key
			}
			for i := range pairs {
				ids[2*i+1] = int32(keys + r.below(values))
			}
			order := r.choose(pairs, pairs)
			// Each choice of places as likely (Knuth, The Art of Computer Programming 2, section 3.4.2, algorithm S), a question with its slot counted as one.
			at, left := 2*pairs, length-3*pairs
			for asked := 0; at < length; left-- {
				if asked < pairs && r.below(left) < pairs-asked {
					pair := 2 * int(order[asked])
					ids[at], ids[at+1], targets[at] = ids[pair], ids[pair+1], ids[pair+1]
					at += 2
					asked++
					continue
				}
				ids[at] = blank
				at++
			}
		}
		return t, faults
	},
}

// sectionsTask: sections, each a head, noise and at a random place one value; at the end a head asks for the value of its section. The
// place tells nothing and neither does the distance: only to belong to the section does. Chance is 1 of values.
//
//	ids      n0.. (noise) | v0.. (values) | h0.. (heads) | G
//	tokens   h1 n n v n  h0 v n n n  h2 n n n v  h0
//	targets                                      v
//
// The place of the question is global and the value is also the class of the row. For a model with a global token for each section
// sentence_ids [T] says which section a token is in, the question being one of its own, and global_ids [sections+1] is G.
//
// Source: the structure that ETC's global tokens are for, Ainslie et al. 2020, arXiv 2004.08483, section 3.3.
var sectionsTask = taskKind{
	name:    "sections",
	summary: "sections with a head, noise and one value; the last token names a head and asks for the value of its section",
	params:  []taskParam{{"sections", 32, 1, 1 << 12}, {"fill", 30, 0, maxTaskLength}, {"noise", 64, 1, 1 << 16}, {"values", 32, 2, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["heads"] = max(v["sections"], v["heads"]) // the most that there may be, since their ids stay
		v["fill"] = min(v["fill"], t-3)
		v["sections"] = min(v["sections"], (t-1)/(v["fill"]+2))
		return t >= 3
	},
	build: func(v taskValues) (*task, []string) {
		sections, fill, noise, values := v["sections"], v["fill"], v["noise"], v["values"]
		size := fill + 2
		length := sections*size + 1
		names := max(sections, v["heads"])
		heads, global := int32(noise+values), int32(noise+values+names)
		t := &task{length: length, answers: 1, words: newWords(wordGroup{"n", noise}, wordGroup{"v", values}, wordGroup{"h", names}, wordGroup{"G", 1}),
			shape: Shape{Globals: 1, Labels: 1, Classes: values, More: map[string]int{"sentence_ids": length, "global_ids": sections + 1}}}
		t.draw = func(r *stream, _ int, x *example) {
			ids, targets := x.ids, x.targets
			for g, head := range r.choose(names, sections) {
				ids[g*size] = heads + head
			}
			asked := r.below(sections)
			for g := range sections {
				section := ids[g*size+1 : (g+1)*size]
				for i := range section {
					section[i] = int32(r.below(noise))
				}
				value := int32(noise + r.below(values))
				section[r.below(len(section))] = value
				if g == asked {
					ids[length-1], targets[length-1] = ids[g*size], value
					x.ask(value-int32(noise), length-1)
				}
			}
			for i, sentence := 0, x.more["sentence_ids"]; i < len(sentence); i++ {
				sentence[i] = int32(i / size)
			}
			repeat(x.more["global_ids"], global)
			x.tenth = tenth(asked, sections)
		}
		return t, nil
	},
}

// tenth says in which tenth of n places place p lies.
func tenth(p, n int) int { return p * 10 / n }
