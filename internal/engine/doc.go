// Package engine runs Gorgonia graphs on planned memory, and differentiates them.
//
// An operation implements Op; Apply makes a Gorgonia node of it that works everywhere in Gorgonia. VJP adds the gradient of a
// graph, with Recompute as far as asked, and Reversible builds residual stacks whose gradient needs no stored activations.
// Compile plans what some outputs need: the order is that of creation, results share one arena by lifetime, views and
// reshapes cost nothing, and operations write over inputs that die. A Program then runs without allocating.
//
// Results do not depend on the plan: a test compares every bit with a run in which each node has memory of its own.
package engine
