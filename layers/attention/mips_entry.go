package attention

import (
	"github.com/euryale-ml/euryale/internal/config"
)

// mipsEntry is {"type": "mips", "k": 32, "index": "ivf"}.
type mipsEntry struct {
	kind
	K        *int   `json:"k"`
	Index    string `json:"index,omitempty"`    // ivf, srp, simplelsh, signalsh, l2alsh
	Rerank   *bool  `json:"rerank,omitempty"`   // true if not given
	Fallback string `json:"fallback,omitempty"` // none, recent
	Explore  int    `json:"explore,omitempty"`
	Cells    int    `json:"num_cells,omitempty"`  // 0: √n
	Probes   int    `json:"num_probes,omitempty"` // 0: 8
	Tables   int    `json:"num_tables,omitempty"` // 0: 4
	Bits     int    `json:"num_bits,omitempty"`   // 0: 4, of l2alsh 2
}

func (e *mipsEntry) check() []error {
	faults := checkPositive(nil, "k", e.K)
	word := func(path, value, want string, words ...string) {
		for _, w := range append(words, "") {
			if value == w {
				return
			}
		}
		faults = append(faults, &config.FieldError{Path: path, Value: value, Want: want})
	}
	word("index", e.Index, "give one of ivf, srp, simplelsh, signalsh, l2alsh", IVF, HashSRP, HashSimpleLSH, HashSignALSH, HashL2ALSH)
	word("fallback", e.Fallback, "give none or recent", FallbackNone, FallbackRecent)
	hashed := e.Index != "" && e.Index != IVF
	for _, f := range []struct {
		path  string
		value int
		idle  bool
		of    string
	}{{"num_cells", e.Cells, hashed, "ivf"}, {"num_probes", e.Probes, hashed, "ivf"}, {"num_tables", e.Tables, !hashed, "hashes"}, {"num_bits", e.Bits, !hashed, "hashes"}} {
		if f.value != 0 && f.idle {
			faults = append(faults, &config.FieldError{Path: f.path, Value: f.value, Want: "leave it out: it is of an index by " + f.of})
			continue
		}
		faults = checkSide(faults, f.path, &f.value, false)
	}
	if e.Bits > 30 {
		faults = append(faults, &config.FieldError{Path: "num_bits", Value: e.Bits, Want: "give 1 to 30"})
	}
	return checkSide(faults, "explore", &e.Explore, false)
}

func (e *mipsEntry) mips(at Layer) MIPS {
	return MIPS{K: *e.K, Explore: e.Explore, Index: e.Index, Rerank: e.Rerank == nil || *e.Rerank, Fallback: e.Fallback, Cells: e.Cells, Probes: e.Probes,
		Tables: e.Tables, Bits: e.Bits, Causal: at.Decoder}.full()
}

func (e *mipsEntry) pattern(at Layer) (Pattern, error) { return e.mips(at).Pattern(), nil }
func (e *mipsEntry) mixer(at Layer) (Mixer, error)     { return e.mips(at), nil }
func (*mipsEntry) beside()                             {}
