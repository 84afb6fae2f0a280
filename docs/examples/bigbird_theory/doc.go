// Package bigbird_theory shows what the theory of BigBird says (Zaheer et al. 2020, arXiv 2007.14062, section 3), as far as running
// code can: the star in its graph, which universal approximation rests on; a machine that is built by hand out of sparse causal
// attention; and a task that one dense layer solves and one sparse layer cannot.
//
// These are demonstrations for sizes that run, not proofs: each says what it leaves out.
package bigbird_theory
