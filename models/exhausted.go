package models

import (
	"fmt"

	"github.com/euryale-ml/euryale/layers/attention"
)

// Exhausted tells, for people, of the first layer whose attention draws more keys at random than there are in sequences of so many tokens,
// see attention.Exhausted; "" if none does.
func Exhausted(m Model, tokens int) string {
	var halves []*stack
	switch m := m.(type) {
	case interface{ base() *stack }:
		halves = []*stack{m.base()}
	case Seq2Seq:
		halves = []*stack{&m.halves().encoder, &m.halves().decoder}
	}
	for _, s := range halves {
		for l, mixer := range s.mixers {
			if note := attention.Exhausted(mixer.Pattern(), tokens); note != "" {
				return fmt.Sprintf("attention of layer %d: %s", l, note)
			}
		}
	}
	return ""
}
