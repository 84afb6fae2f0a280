package data

import "fmt"

// Tasks that are solved by what tokens say alone: types, fetch.

// typesTask: tokens of some types, each with a payload; after a filling each question names a type and asks for the payload of the last
// token of that type. The places of types are random, so content decides, not position, and the filling keeps answers out of a local
// model's reach. Chance is 1 of payloads; who finds the type but not which of its tokens is last is right about once in each.
//
//	ids      c0.. (type·payloads + payload) | _.. (filling) | q0.. (questions) | p0.. (payloads)
//	tokens   c17 c3 c20 c5 _ _ _ _ q1 q0 q1     (16 payloads: types 1 0 1 0)
//	targets                        p4 p5 p4
//
// Source: what clusters of tokens are for, Roy et al. 2021, arXiv 2003.05997, section 4.
var typesTask = taskKind{
	name:    "types",
	summary: "tokens of a type with a payload, then questions for the last payload of a type (content, not position)",
	params: []taskParam{{"types", 16, 1, 1 << 12}, {"each", 2, 1, 1 << 12}, {"payloads", 16, 2, 1 << 12}, {"fill", 64, 0, maxTaskLength},
		{"queries", 32, 1, maxTaskLength}, {"noise", 1, 1, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["names"] = max(v["types"], v["names"]) // the most types that there may be, since their ids stay
		v["fill"] = max(t-v["types"]*v["each"]-v["queries"], 0)
		if v["fill"] == 0 {
			v["types"] = max(min(v["types"], t/2/v["each"]), 1)
			v["queries"] = t - v["types"]*v["each"]
		}
		return v["queries"] >= 1
	},
	build: func(v taskValues) (*task, []string) {
		types, each, payloads, fill, queries, noise := v["types"], v["each"], v["payloads"], v["fill"], v["queries"], v["noise"]
		names, content := max(types, v["names"]), types*each
		filling := names * payloads
		questions := filling + noise
		answers := questions + names
		var faults []string
		if filling > 1<<20 {
			faults = append(faults, fmt.Sprintf("types times payloads is %d, want at most %d ids", filling, 1<<20))
			filling, names = 0, 0 // no vocabulary of that size is made
			payloads = 1
		}
		t := &task{length: content + fill + queries, answers: queries,
			words: newWords(wordGroup{"c", filling}, wordGroup{"_", noise}, wordGroup{"q", names}, wordGroup{"p", payloads})}
		t.draw = func(r *stream, _ int, x *example) {
			ids, targets := x.ids, x.targets
			kinds := r.choose(names, types)
			for i := range content {
				ids[i] = kinds[i/each] * int32(payloads)
			}
			for i := range content { // each order as likely (Fisher and Yates), and a payload for each
				j := i + r.below(content-i)
				ids[i], ids[j] = ids[j], ids[i]
				ids[i] += int32(r.below(payloads))
			}
			for i := range fill {
				ids[content+i] = int32(filling + r.below(noise))
			}
			for i := content + fill; i < len(ids); i++ {
				kind := kinds[r.below(types)]
				ids[i] = int32(questions) + kind
				for j := content - 1; targets[i] < 0; j-- {
					if ids[j]/int32(payloads) == kind {
						targets[i] = int32(answers) + ids[j]%int32(payloads)
					}
				}
			}
		}
		return t, faults
	},
}

// fetchTask: blocks of tokens, each with a name, the name of another block that it wants, and payload tokens; at each payload token of a
// block the one at the same place of the wanted block is asked for. Names and wanted names are two random orders. For models that read
// both ways: what is wanted may come later. A block as a whole has to be fetched, so that sorting blocks by content is the short way.
// Chance is 1 of symbols.
//
//	ids      o0.. (own names) | w0.. (wanted names) | p0.. (payload)
//	tokens   o2 w0 p5 p1   o0 w1 p3 p3   o1 w2 p7 p0
//	targets        p3 p3         p7 p0         p5 p1
//
// Source: for the sorting of blocks of Tay et al. 2020, arXiv 2002.11296, section 3.
var fetchTask = taskKind{
	name:    "fetch",
	summary: "blocks that each want the payload of another one, found by its name (whole blocks by content; for encoders)",
	params:  []taskParam{{"blocks", 8, 1, 1 << 12}, {"payload", 2, 1, 1 << 12}, {"symbols", 8, 2, 1 << 16}},
	resize: func(v taskValues, t int) bool {
		v["names"] = max(v["blocks"], v["names"]) // the most that there may be, since their ids stay
		v["blocks"] = min(t/(2+v["payload"]), v["names"])
		return v["blocks"] >= 1
	},
	build: func(v taskValues) (*task, []string) {
		blocks, payload, symbols := v["blocks"], v["payload"], v["symbols"]
		names, size := max(blocks, v["names"]), 2+payload
		t := &task{length: blocks * size, answers: blocks * payload, words: newWords(wordGroup{"o", names}, wordGroup{"w", names}, wordGroup{"p", symbols})}
		t.draw = func(r *stream, _ int, x *example) {
			ids, targets := x.ids, x.targets
			for i, name := range r.choose(names, blocks) {
				ids[i*size] = name
				for k := range payload {
					ids[i*size+2+k] = int32(2*names + r.below(symbols))
				}
			}
			for i, of := range r.choose(blocks, blocks) { // block i wants block of
				ids[i*size+1] = int32(names) + ids[int(of)*size]
				copy(targets[i*size+2:(i+1)*size], ids[int(of)*size+2:(int(of)+1)*size])
			}
		}
		return t, nil
	},
}
