package golden

import (
	"github.com/euryale-ml/euryale/layers"
)

// runMixture is the probability of pixels under discretised mixtures of logistics, where the density takes the place of small masses.
func runMixture(c *Case, p Precision) ([]Result, error) {
	var s struct {
		Mixtures int `json:"num_mixtures"`
		Channels int `json:"channels"`
		Levels   int `json:"levels"`
	}
	if err := c.Decode("config", &s); err != nil {
		return nil, err
	}
	r := newRig(c, p)
	r.only("mixture_parameters", "levels")
	rows := layers.MixtureRows(r.b, r.in("mixture_parameters"), r.given("levels"),
		layers.MixtureConfig{Mixtures: s.Mixtures, Channels: s.Channels, Levels: s.Levels, Approximate: 1e-5})
	if err := r.b.Err(); err != nil {
		return nil, err
	}
	r.out("log_prob", layers.Scale(r.b, rows, -1))
	return r.compare()
}
