package models

import "github.com/euryale-ml/euryale/layers/attention"

// Causality is the class of causality of a model that predicts from left to right: "C1" if what it says at a place depends on nothing behind
// that; "C0" if the choice of keys does, in some layer, and nothing else. What such a model is measured by in whole windows it does not
// quite have when it writes (train.PrefixEval). Empty for other models.
func Causality(m Model) string {
	switch of := m.(type) {
	case Causal:
		return classOf(of.causal().mixers)
	case Seq2Seq:
		return classOf(of.halves().decoder.mixers)
	}
	return ""
}

// classOf is the weakest class of some mixers of a decoder. Those that say nothing are patterns, which look at positions alone.
func classOf(mixers []attention.Mixer) string {
	for _, m := range mixers {
		if c, ok := m.(interface{ Class() string }); ok && c.Class() == "C0" {
			return "C0"
		}
	}
	return "C1"
}
