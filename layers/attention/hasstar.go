package attention

// HasStar returns a node that reads every node and is read by every node of n, in a layer of the pattern (an edge of any head counts),
// and whether there is one. Then any two nodes are at most two layers apart, and the layers of such graphs approximate every
// continuous function of sequences, as full attention does.
//
// Cost: O(n · runs). Source: Zaheer et al. 2020, arXiv 2007.14062, section 3.2, theorem 1.
func HasStar(p Pattern, n int) (center int, ok bool) {
	var runs []Run
	for i := range n {
		if runs = anyRow(p, i, n, runs[:0]); count(runs) < n {
			continue
		}
		if runs = anyCol(p, i, n, runs[:0]); count(runs) == n {
			return i, true
		}
	}
	return -1, false
}
