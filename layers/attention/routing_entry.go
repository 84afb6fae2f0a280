package attention

import (
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// routingEntry is {"type": "routing", "num_clusters": 16, "window": 64}. In a decoder queries and keys are shared unless it says otherwise, as in
// the paper; a token reads itself only where it shares them not, for a shared one is most like itself.
type routingEntry struct {
	kind
	NumClusters *int     `json:"num_clusters"`
	Window      int      `json:"window,omitempty"`     // tokens of a cluster; 0: as many as there are (recent in a decoder: may be), divided by the clusters
	Membership  string   `json:"membership,omitempty"` // topw, recent, random
	Combine     string   `json:"combine,omitempty"`    // mean, union
	SharedQK    *bool    `json:"shared_qk,omitempty"`
	Self        string   `json:"self,omitempty"`         // lastResort, allow
	Decay       *float64 `json:"decay,omitempty"`        // 0.999
	Commitment  *float64 `json:"commitment,omitempty"`   // 1e-4
	ReseedAfter *int     `json:"reseed_after,omitempty"` // updates after which a dead cluster starts anew; 100; 0: never
}

func (e *routingEntry) check() []error {
	faults := checkSide(checkPositive(nil, "num_clusters", e.NumClusters), "window", &e.Window, false)
	word := func(path, value string, words ...string) {
		for _, w := range append(words, "") {
			if value == w {
				return
			}
		}
		faults = append(faults, &config.FieldError{Path: path, Value: value, Want: "give one of " + strings.Join(words, ", ")})
	}
	word("membership", e.Membership, "topw", "recent", "random")
	word("combine", e.Combine, "mean", "union")
	word("self", e.Self, "lastResort", "allow")
	if e.Decay != nil && !(*e.Decay >= 0 && *e.Decay <= 1) {
		faults = append(faults, &config.FieldError{Path: "decay", Value: *e.Decay, Want: "give a number from 0 to 1; 0.99 for short trainings"})
	}
	if e.Commitment != nil && !(*e.Commitment >= 0) {
		faults = append(faults, &config.FieldError{Path: "commitment", Value: *e.Commitment, Want: "give a number from 0 on"})
	}
	faults = checkSide(faults, "reseed_after", e.ReseedAfter, false)
	if e.Membership == "recent" && e.Combine != "" {
		faults = append(faults, &config.FieldError{Path: "combine", Value: e.Combine, Want: "leave it out: with membership recent a token is in one cluster"})
	}
	return faults
}

// routing is the attention of a layer.
func (e *routingEntry) routing(at Layer) Routing {
	a := Routing{Clusters: *e.NumClusters, Window: e.Window, Membership: TopW, Union: e.Combine == "union", SharedQK: at.Decoder, Decay: 0.999,
		Commitment: 1e-4, Reseed: 100, Causal: at.Decoder}
	if e.Membership != "" {
		a.Membership = Membership(e.Membership)
	}
	if a.Membership == Recent && a.Window == 0 && at.Decoder { // the same for a text and for its beginning
		a.Window = (at.Positions + a.Clusters - 1) / a.Clusters
	}
	if e.SharedQK != nil {
		a.SharedQK = *e.SharedQK
	}
	if !a.SharedQK && e.Self == "" || e.Self == "allow" {
		a.Self = SelfAllowed
	}
	if e.Decay != nil {
		a.Decay = *e.Decay
	}
	if e.Commitment != nil {
		a.Commitment = *e.Commitment
	}
	if e.ReseedAfter != nil {
		a.Reseed = *e.ReseedAfter
	}
	return a
}

func (e *routingEntry) pattern(at Layer) (Pattern, error) {
	return e.routing(at).Pattern(), nil
}

func (*routingEntry) beside() {}

func (e *routingEntry) mixer(at Layer) (Mixer, error) { return e.routing(at), nil }
