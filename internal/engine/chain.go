package engine

// Chain is the length of the longest chain of operations that must run one after the other to compute the outputs. Views, which
// compute nothing, do not count.
func Chain(outputs ...*Node) int {
	order, inputs := below(outputs, nil)
	chain := map[*Node]int{}
	longest := 0
	for _, n := range order {
		if n.Op() == nil {
			continue
		}
		for _, in := range inputs[n] {
			chain[n] = max(chain[n], chain[in])
		}
		if _, view := OpOf(n).(Viewer); !view {
			chain[n]++
		}
		longest = max(longest, chain[n])
	}
	return longest
}
