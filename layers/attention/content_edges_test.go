package attention

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
)

// contentTypes choose by what tokens say.
var contentTypes = []string{"topk", "mips", "routing", "lsh", "sac", "sinkhorn", "sortcut"}

// edgeScene is a layer of two heads over queries, keys, values and stream [B,T,6] that are set by fill: the last gets the numbers of a token.
func edgeScene(t *testing.T, m Mixer, dtype tensor.Dtype, tokens int, lens []int32, fill func(input string, i, c int) float64) (*structured, []float64) {
	s := newStructured(dtype)
	in := Stream{Heads: 2, Lens: s.ints("lens", lens, len(lens))}
	names := []string{"q", "k", "v"}
	if SharesQK(m) {
		names = []string{"q", "v"}
	}
	for _, name := range append(names, "x") {
		n := s.input(name, len(lens), tokens, 6)
		for at := range len(lens) * tokens * 6 {
			x := fill(name, at/6%max(tokens, 1), at%6)
			if dtype == tensor.Float32 {
				layers.InputValue(n).Float32s()[at] = float32(x)
			} else {
				layers.InputValue(n).Float64s()[at] = x
			}
		}
		if name != "x" {
			in.QKV = append(in.QKV, n)
		} else {
			in.X = n
		}
	}
	s.out = m.Mix(s.b, in)
	for _, p := range s.b.Params().All() {
		switch p.Name[strings.LastIndex(p.Name, ".")+1:] {
		case "ema_sum":
			fillFrom(p.Value, p.Name)
		case "progress":
			require.NoError(t, p.Value.Memset(one(dtype)))
		}
	}
	require.NoError(t, s.b.Err())
	return s, numbers(layers.InputValue(in.QKV[len(in.QKV)-1]))
}

func one(dtype tensor.Dtype) any {
	if dtype == tensor.Float32 {
		return float32(1)
	}
	return 1.
}

// Section 15 of the definition, case by case, for every system that chooses by content, in encoders and decoders, in both precisions: one token alone, nothing but
// padding, zeros, tokens alike, scores beyond anything. Results are means of values (or two of them); they and all gradients are finite.
func TestEdgesByContent(t *testing.T) {
	noisy := func(scale float64) func(string, int, int) float64 {
		return func(input string, i, c int) float64 {
			x := noise(input, 6*i+c)
			if input != "v" {
				x *= scale
			}
			return x
		}
	}
	cases := map[string]struct {
		tokens int
		lens   []int32
		fill   func(input string, i, c int) float64
	}{
		"one token":            {1, []int32{1, 1}, noisy(1)},
		"one beside none":      {1, []int32{1, 0}, noisy(1)},
		"nothing but padding":  {11, []int32{0, 0}, noisy(1)},
		"fewer than there may": {2, []int32{2, 1}, noisy(1)},
		"nothing special":      {11, []int32{11, 6}, noisy(1)},
		"zeros": {11, []int32{11, 6}, func(input string, i, c int) float64 {
			if input != "v" {
				return 0
			}
			return noise(input, 6*i+c)
		}},
		"alike": {11, []int32{11, 6}, func(input string, _, c int) float64 { return noise(input, c) }},
		"huge":  {11, []int32{11, 6}, noisy(1e4)},
	}
	for _, name := range contentTypes {
		for _, e := range conformingEntries[name] {
			for _, decoder := range []bool{false, true} {
				if decoder && e.refused != "" {
					continue
				}
				var entry Entry
				require.NoError(t, json.Unmarshal([]byte(e.json), &entry))
				m, err := entry.Mixer(Layer{Heads: 2, Decoder: decoder, Positions: 33})
				require.NoError(t, err)
				sums := 1.0 // how many softmaxes are added
				if a, is := m.(Sinkhorn); is && (a.Combine == CombineMixture || a.Combine == CombineSumOut) {
					sums = 2
				}
				for label, c := range cases {
					for _, dtype := range []tensor.Dtype{tensor.Float64, tensor.Float32} {
						what := fmt.Sprintf("%s, decoder %v, %v: %s", e.json, decoder, dtype, label)
						s, v := edgeScene(t, m, dtype, c.tokens, c.lens, c.fill)
						cost, in := s.cost(t)
						reached := reaching(cost)
						in = slices.DeleteFunc(in, func(n *Node) bool { return !reached[n] })
						ds, err := engine.VJP(Nodes{cost}, Nodes{engine.Fill(s.b.Graph(), engine.TypeOf(cost), 1)}, in, nil)
						require.NoError(t, err)
						p, err := engine.Compile(s.b.Graph(), append(Nodes{s.out}, ds...), engine.Options{Poison: true})
						require.NoError(t, err)
						require.NoError(t, p.Run(), what)
						for k, d := range ds {
							for _, x := range numbers(p.Value(d)) {
								require.False(t, math.IsNaN(x) || math.IsInf(x, 0), "%s: gradient of %s", what, in[k].Name())
							}
						}
						o := numbers(p.Value(s.out))
						for row := range len(o) / 6 {
							b, i := row/c.tokens, row%c.tokens
							for ch, x := range o[row*6:][:6] {
								least, most := math.Inf(1), math.Inf(-1)
								for j := range int(c.lens[b]) {
									y := v[(b*c.tokens+j)*6+ch]
									least, most = min(least, y), max(most, y)
								}
								switch {
								case i >= int(c.lens[b]):
									require.Zero(t, x, "%s: padding", what)
								case c.tokens == 1 && name == "mips" && !decoder && x == 0: // an index may find nothing; in a decoder a token reads itself
								case c.tokens == 1:
									require.True(t, math.Abs(x-v[row*6+ch]) < 1e-6 || sums > 1 && math.Abs(x-2*v[row*6+ch]) < 1e-6, "%s: %v of %v", what, x, v[row*6+ch])
								default: // an unrouted token has 0
									require.False(t, math.IsNaN(x))
									require.LessOrEqual(t, x, sums*max(most, 0)+1e-5, what)
									require.GreaterOrEqual(t, x, sums*min(least, 0)-1e-5, what)
								}
								if label == "alike" && i < int(c.lens[b]) {
									y := v[row*6+ch]
									near := func(z float64) bool { return math.Abs(x-z) < 1e-5 }
									short := strings.HasPrefix(name, "s") && name != "sac" && x*y > 0 && math.Abs(x) < sums*math.Abs(y) // slots made of padding in part have less of a value
									require.True(t, near(0) || near(y) || sums > 1 && near(2*y) || short, "%s: %v of %v", what, x, y)
								}
							}
						}
					}
				}
			}
		}
	}
}

// A batch without any token is refused with a word, not with a panic; padding alone, above, is no trouble.
func TestNoTokens(t *testing.T) {
	for _, name := range contentTypes {
		for _, e := range conformingEntries[name] {
			s, err := mixerOf(t, e.json, false, 0, 0, []int32{0})
			if err == nil {
				_, err = engine.Compile(s.b.Graph(), Nodes{s.out}, engine.Options{})
			}
			require.Error(t, err, e.json)
			require.NotContains(t, err.Error(), "row-major", e.json)
		}
	}
}

// What no system can be made of is an error of the field that says it.
func TestFaultsByContent(t *testing.T) {
	for text, want := range map[string]string{
		`{"type":"topk"}`:                                                        "k: missing",
		`{"type":"topk","k":0}`:                                                  "k is 0: give a whole number from 1 on",
		`{"type":"topk","k":-3}`:                                                 "k is -3: negative",
		`{"type":"mips","k":0}`:                                                  "k is 0: give a whole number from 1 on",
		`{"type":"mips","k":3,"index":"tree"}`:                                   "index is \"tree\": give one of ivf, srp",
		`{"type":"mips","k":3,"num_probes":-1}`:                                  "num_probes is -1: negative",
		`{"type":"mips","k":3,"num_bits":4}`:                                     "num_bits is 4: leave it out: it is of an index by hashes",
		`{"type":"mips","k":3,"index":"srp","num_bits":31}`:                      "num_bits is 31: give 1 to 30",
		`{"type":"mips","k":3,"explore":-1}`:                                     "explore is -1: negative",
		`{"type":"routing","num_clusters":3,"window":-1}`:                        "window is -1: negative",
		`{"type":"routing","num_clusters":0}`:                                    "num_clusters is 0",
		`{"type":"lsh","chunk":4,"num_hashes":0}`:                                "num_hashes is 0: give a whole number from 1 on",
		`{"type":"lsh","chunk":4,"num_hashes":2,"bucket_factors":[4,3]}`:         "bucket_factors[1] is 3",
		`{"type":"lsh","chunk":4,"num_hashes":2,"bucket_factors":[0]}`:           "bucket_factors[0] is 0",
		`{"type":"sac","alpha":-1}`:                                              "alpha is -1",
		`{"type":"sinkhorn"}`:                                                    "block_size: missing",
		`{"type":"sinkhorn","block_size":0}`:                                     "block_size is 0: give a whole number from 1 on",
		`{"type":"sinkhorn","block_size":-4}`:                                    "block_size is -4: negative",
		`{"type":"sinkhorn","block_size":4,"tau":0}`:                             "tau is 0: give a number above 0",
		`{"type":"sinkhorn","block_size":4,"tau":-0.5}`:                          "tau is -0.5: give a number above 0",
		`{"type":"sinkhorn","block_size":4,"iterations":1000000000}`:             "iterations is 1000000000: give at most 1024",
		`{"type":"sinkhorn","block_size":4,"iterations":0}`:                      "iterations is 0",
		`{"type":"sinkhorn","block_size":4,"normalizer":"paper"}`:                "earlier tokens learn of later ones",
		`{"type":"sortcut","block_size":4,"slots":0}`:                            "slots is 0",
		`{"type":"sortcut","block_size":4,"slots":2,"tau":0,"sort_net":"cubic"}`: "tau is 0: give a number above 0\nsort_net is \"cubic\"",
	} {
		var e Entry
		err := json.Unmarshal([]byte(text), &e)
		require.ErrorContains(t, err, want, text)
		var fault *config.FieldError
		require.ErrorAs(t, err, &fault, text)
	}
}
