package attention

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/internal/kernels"
	"github.com/euryale-ml/euryale/layers"
)

// conformingEntry is an entry of a layer with 2 heads.
type conformingEntry struct {
	json    string
	refused string // why a decoder has none of it; "": it has
	idle    bool   // has weights that reach nothing, which Gorgonia's own reverse mode refuses
	stops   bool   // in an encoder with padding, a part has no gradient on purpose, which finite differences see
	chosen  bool   // reads what it chooses of what its pattern shows; what it chooses by has no gradient here
}

// conformingEntries must have every type of entry, each for sequences of about 11 tokens.
var conformingEntries = map[string][]conformingEntry{
	"full":          {{json: `{"type":"full"}`}},
	"band":          {{json: `{"type":"band","window_left":3}`}, {json: `{"type":"band","window_left":2,"window_right":0}`}},
	"dilated":       {{json: `{"type":"dilated","left_steps":2,"gap":[1,3]}`}},
	"blocks":        {{json: `{"type":"blocks","block_size":4}`}},
	"cross_block":   {{json: `{"type":"cross_block","block_size":3}`}},
	"shifted_block": {{json: `{"type":"shifted_block","block_size":4}`}},
	"hier_block":    {{json: `{"type":"hier_block","block_size":2,"growth":1}`}},
	"overlap_block": {{json: `{"type":"overlap_block","block_size":4,"overlap_left":2}`}},
	"random":        {{json: `{"type":"random","degree":3,"seed":5}`}, {json: `{"type":"random","degree":1,"block_size":3}`}, {json: `{"type":"random","probability":0.3}`}},
	"sparse_strided": {{json: `{"type":"sparse_strided","stride":3}`}, {json: `{"type":"sparse_strided","stride":3,"merge":"interleaved"}`},
		{json: `{"type":"sparse_strided","stride":3,"merge":"multihead","paper_inclusive":true}`}},
	"sparse_fixed": {{json: `{"type":"sparse_fixed","stride":4,"summary":2}`}, {json: `{"type":"sparse_fixed","stride":4,"summary":1,"merge":"interleaved"}`},
		{json: `{"type":"sparse_fixed","stride":4,"summary":2,"distinct_summaries":true}`}},
	"pattern": {{json: `{"type":"pattern","pattern":"band(2,1) + global(0,4)"}`},
		{json: `{"type":"pattern","pattern":"band(2,1) + global(0,-1)"}`, refused: "from the end"}},
	"heads": {{json: `{"type":"heads","parts":[{"heads":1,"attention":{"type":"full"}},{"heads":1,"attention":{"type":"blocks","block_size":3}}]}`},
		{json: `{"type":"heads","parts":[{"heads":1,"attention":{"type":"band","window_left":3}},{"heads":1,"attention":{"type":"routing","num_clusters":2,"window":6}}]}`, chosen: true},
		{json: `{"type":"heads","parts":[{"heads":1,"attention":{"type":"blocks","block_size":3}},{"heads":1,"attention":{"type":"sinkhorn","block_size":3}}]}`, stops: true}},
	"longformer": {{json: `{"type":"longformer","window_left":2,"global_positions":[0,4]}`, refused: "tell of the future"},
		{json: `{"type":"longformer","window_left":2}`, idle: true}},
	"big_bird":     {{json: `{"type":"big_bird","block_size":2,"num_random_blocks":1}`}},
	"image1d":      {{json: `{"type":"image1d","query_block":3,"memory":4}`}, {json: `{"type":"image1d","query_block":4,"memory":0}`}},
	"image2d":      {{json: `{"type":"image2d","height":5,"width":7,"query_height":2,"query_width":3,"memory_height":1,"memory_width":2}`}},
	"axial_row":    {{json: `{"type":"axial_row","height":4,"width":3}`}},
	"axial_column": {{json: `{"type":"axial_column","height":4,"width":3}`}},
	"bp":           {{json: `{"type":"bp","k":2,"clip":2}`}},
	"local":        {{json: `{"type":"local","chunk":3}`}, {json: `{"type":"local","chunk":4,"chunks_before":0,"chunks_after":1}`}},
	"lsh": {{json: `{"type":"lsh","chunk":3,"num_hashes":2}`, chosen: true}, {json: `{"type":"lsh","chunk":2,"num_hashes":3,"dup":"count","wrap":"round","chunks_before":2}`, chosen: true},
		{json: `{"type":"lsh","chunk":3,"num_hashes":2,"plan":"bucketRecent"}`, chosen: true},
		{json: `{"type":"lsh","chunk":4,"num_hashes":1,"bucket_factors":[2,4],"same_bucket_only":true}`, chosen: true}},
	"routing": {{json: `{"type":"routing","num_clusters":3,"window":4}`, chosen: true}, {json: `{"type":"routing","num_clusters":2,"shared_qk":false}`, chosen: true},
		{json: `{"type":"routing","num_clusters":3,"window":5,"combine":"union"}`, chosen: true}, {json: `{"type":"routing","num_clusters":2,"window":3,"membership":"recent"}`, chosen: true}},
	"sac": {{json: `{"type":"sac","predictor_size":5,"alpha":1.5,"no_repeat":true}`, chosen: true},
		{json: `{"type":"sac","predictor_size":4,"mode":"perNode","alpha":2,"sharing":"head","distance":"none"}`, chosen: true},
		{json: `{"type":"sac","predictor_size":3,"mode":"perNode","causal_predictor":true,"local_pointer":4}`, chosen: true},
		{json: `{"type":"sac","predictor_size":3,"plan":"full"}`, chosen: true}},
	"topk": {{json: `{"type":"topk","k":3}`, chosen: true}, {json: `{"type":"topk","k":40}`}},
	"mips": {{json: `{"type":"mips","k":3,"index":"srp","num_bits":2}`, chosen: true}, {json: `{"type":"mips","k":4,"num_probes":2,"fallback":"recent"}`, chosen: true},
		{json: `{"type":"mips","k":3,"index":"signalsh","num_tables":2,"rerank":false}`, chosen: true}, {json: `{"type":"mips","k":3,"index":"l2alsh","explore":2}`, chosen: true},
		{json: `{"type":"mips","k":5,"index":"simplelsh"}`, chosen: true}},
	"sinkhorn": {{json: `{"type":"sinkhorn","block_size":3}`, stops: true}, {json: `{"type":"sinkhorn","block_size":2,"combine":"sum_out","normalizer":"prefix","tau":0.6}`, stops: true},
		{json: `{"type":"sinkhorn","block_size":4,"sort_net":"mlp","max_blocks":9,"iterations":3}`, stops: true},
		{json: `{"type":"sinkhorn","block_size":3,"sort_net":"linear","max_blocks":14}`, stops: true}, {json: `{"type":"sinkhorn","block_size":4,"combine":"mixture","finish_row":false}`, stops: true}},
	"sortcut": {{json: `{"type":"sortcut","block_size":3,"slots":2}`, refused: "cannot be causal", stops: true},
		{json: `{"type":"sortcut","block_size":4,"slots":9}`, refused: "cannot be causal", stops: true}},
	"etc": {{json: `{"type":"etc","num_globals":2,"local_radius":2,"label_clip":1}`, refused: "external nodes read every token"},
		{json: `{"type":"etc","num_globals":3,"local_radius":1,"hard_g2l":true,"hard_l2g":true,"share_qkv":false}`, refused: "cannot be causal"},
		{json: `{"type":"etc","num_globals":1,"local_radius":1,"share_qkv":false,"share_kv":true}`, refused: "cannot be causal"}},
}

// mixerOf is a layer with the attention of an entry over x [B,T,6], of so many tokens each; out is [B,T,6].
func mixerOf(t require.TestingT, entry string, decoder bool, layer, tokens int, lens []int32) (*structured, error) {
	var e Entry
	require.NoError(t, json.Unmarshal([]byte(entry), &e), entry)
	m, err := e.Mixer(Layer{Index: layer, Heads: 2, Decoder: decoder})
	if err != nil {
		return nil, err
	}
	return mixed6(newStructured(tensor.Float64), m, tokens, lens)
}

// trainedOf is the cost of the attention of an entry in a graph for training, with how likely its choices were.
func trainedOf(t require.TestingT, entry string) (*Node, Nodes) {
	var e Entry
	require.NoError(t, json.Unmarshal([]byte(entry), &e), entry)
	m, err := e.Mixer(Layer{Heads: 2})
	require.NoError(t, err, entry)
	b := layers.New(gorgonia.NewGraph(), layers.NewParams(tensor.Float64), layers.Options{Training: true})
	s, err := mixed6(&structured{b: b}, m, 11, []int32{11, 5})
	require.NoError(t, err, entry)
	cost, in := s.cost(t)
	for _, c := range b.Choices() {
		cost = layers.Add(b, cost, layers.Add(b, layers.Sum(b, c.LogProb), layers.Sum(b, c.Entropy)))
	}
	require.NoError(t, b.Err(), entry)
	return cost, in
}

// mixed6 adds the attention of a mixer on tokens of six channels and two heads.
func mixed6(s *structured, m Mixer, tokens int, lens []int32) (*structured, error) {
	x := s.input("x", len(lens), tokens, 6)
	counts := s.ints("lens", lens, len(lens))
	nodes := x
	if IsTree(m.Pattern()) {
		nodes, counts = TreeNodes(s.b, x, counts)
	}
	s.out = m.Mix(s.b, s.stream(nodes, 2, counts))
	awake(s.b.Params())
	if IsTree(m.Pattern()) {
		s.out = TreeTokens(s.b, s.out)
	}
	return s, s.b.Err()
}

// awake gives clusters centroids.
func awake(p *layers.Params) {
	for _, q := range p.All() {
		switch q.Name[strings.LastIndex(q.Name, ".")+1:] {
		case "ema_sum":
			fillFrom(q.Value, q.Name)
		case "progress":
			q.Value.Float64s()[0] = 1
		}
	}
}

// eachEntry runs f for every entry in encoders and decoders, in the first two layers. The table must have every type.
func eachEntry(t *testing.T, f func(t *testing.T, entry string, decoder bool, layer int)) {
	require.ElementsMatch(t, EntryTypes(), slices.Collect(maps.Keys(conformingEntries)), "every type of entry must be in the table")
	for _, name := range EntryTypes() {
		require.NotEmpty(t, conformingEntries[name], name)
		for _, e := range conformingEntries[name] {
			for layer := range 2 {
				f(t, e.json, false, layer)
				if e.refused == "" {
					f(t, e.json, true, layer)
					continue
				}
				_, err := mixerOf(t, e.json, true, layer, 11, []int32{11})
				require.ErrorContains(t, err, e.refused, e.json)
			}
		}
	}
}

func init() { // by finite differences, and under Gorgonia's own machine
	for name, list := range conformingEntries {
		for k, e := range list {
			for _, decoder := range []bool{false, true} {
				if decoder && (e.refused != "" || k > 0) || !decoder && (e.idle || e.stops) {
					continue
				}
				to := mixers
				if e.chosen {
					to = choosers
				}
				to[fmt.Sprintf("%s %d, decoder %v", name, k, decoder)] = func(t require.TestingT) (*Node, Nodes) {
					s, err := mixerOf(t, e.json, decoder, k%2, 11, []int32{11, 5})
					require.NoError(t, err, e.json)
					return s.cost(t)
				}
			}
		}
	}
}

// A batch with padding gives what its examples give, however much padding there is and whatever stands in it.
func TestConformanceOfEntriesPadding(t *testing.T) {
	lens := []int32{11, 5, 1}
	eachEntry(t, func(t *testing.T, entry string, decoder bool, layer int) {
		run := func(tokens, from int, lens []int32) [][]float64 {
			s, err := mixerOf(t, entry, decoder, layer, tokens, lens)
			require.NoError(t, err, entry)
			x := layers.InputValue(s.in[0]).Float64s()
			for b, l := range lens {
				for i := range tokens * 6 {
					if x[b*tokens*6+i] = noise(fmt.Sprint("token ", from+b), i); i >= int(l)*6 {
						x[b*tokens*6+i] = 300 * noise("padding", i)
					}
				}
			}
			o := s.values(t)
			var rows [][]float64
			for b, l := range lens {
				rows = append(rows, o[b*tokens*6:][:int(l)*6])
			}
			return rows
		}
		want := run(11, 0, lens)
		for _, pad := range []int{1, 17} {
			got := run(11+pad, 0, lens)
			for b := range lens {
				require.InDeltaSlice(t, want[b], got[b], 1e-10, "%s, decoder %v: example %d with %d more", entry, decoder, b, pad)
			}
		}
		for b, l := range lens {
			alone := run(int(l), b, lens[b:b+1])
			require.InDeltaSlice(t, want[b], alone[0], 1e-10, "%s, decoder %v: example %d alone", entry, decoder, b)
		}
	})
}

// In a decoder no later token changes what comes out, to the bit; a token that the pattern shows does, in a decoder or not.
func TestConformanceOfEntriesCausality(t *testing.T) {
	const n = 11
	eachEntry(t, func(t *testing.T, entry string, decoder bool, layer int) {
		s, err := mixerOf(t, entry, decoder, layer, n, []int32{n})
		require.NoError(t, err)
		x := layers.InputValue(s.in[0]).Float64s()
		before := s.values(t)
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(entry), &e))
		m, err := e.Mixer(Layer{Index: layer, Heads: 2, Decoder: decoder})
		require.NoError(t, err)
		p := m.Pattern()
		c, classed := m.(interface{ Class() string })
		if decoder && classed && c.Class() == "C0" {
			return // what is chosen depends on later tokens; that nothing else does is tested with the choice held
		}
		chosen := slices.ContainsFunc(conformingEntries[kindOf(t, entry)], func(c conformingEntry) bool { return c.json == entry && c.chosen })
		for j := range n {
			keep := slices.Clone(x[j*6:][:6])
			for c := range 6 {
				x[j*6+c] += 0.7 - 0.2*float64(c)
			}
			after := s.values(t)
			copy(x[j*6:], keep)
			for i := range n {
				same := slices.Equal(before[i*6:][:6], after[i*6:][:6])
				require.False(t, decoder && j > i && !same, "%s: token %d changes %d before it", entry, j, i)
				reads := false
				for h := range p.Heads() {
					tokens := n - spaceOf(p).front // external nodes are rows of the stream
					reads = reads || p.Sees(h, i, j, NodeCount(p, tokens))
				}
				require.False(t, reads && same && !chosen, "%s, decoder %v: token %d does not reach %d, which reads it", entry, decoder, j, i)
			}
		}
	})
}

// kindOf is the type of an entry.
func kindOf(t *testing.T, entry string) string {
	var k kind
	require.NoError(t, json.Unmarshal([]byte(entry), &k))
	return k.Type
}

// square is an entry of square images.
func square(name string) func(n int) string {
	return func(n int) string {
		side := int(math.Sqrt(float64(n)))
		return fmt.Sprintf(`{"type":%q,"height":%d,"width":%d}`, name, side, side)
	}
}

// entryCosts are an entry of each type for the cost in n tokens, and the exponent that its source claims.
var entryCosts = map[string]struct {
	scaled  func(n int) string
	claim   float64
	squares bool // measured where √n is whole
}{
	"full":           {constant(`{"type":"full"}`), 2, false},
	"band":           {constant(`{"type":"band","window_left":60}`), 1, false},
	"dilated":        {constant(`{"type":"dilated","left_steps":60,"gap":[1,5]}`), 1, false},
	"blocks":         {constant(`{"type":"blocks","block_size":70}`), 1, false},
	"cross_block":    {root(`{"type":"cross_block","block_size":%d}`), 1.5, true},
	"shifted_block":  {constant(`{"type":"shifted_block","block_size":64}`), 1, false},
	"hier_block":     {constant(`{"type":"hier_block","block_size":64,"growth":1}`), 1, false},
	"overlap_block":  {constant(`{"type":"overlap_block","block_size":64,"overlap_left":20}`), 1, false},
	"random":         {constant(`{"type":"random","degree":8}`), 1, false},
	"sparse_strided": {root(`{"type":"sparse_strided","stride":%d}`), 1.5, true},
	"sparse_fixed":   {root(`{"type":"sparse_fixed","stride":%d,"summary":4}`), 1.5, true},
	"pattern":        {constant(`{"type":"pattern","pattern":"window-blocks(32,3) + global(0)"}`), 1, false},
	"heads":          {constant(`{"type":"heads","parts":[{"heads":1,"attention":{"type":"band","window_left":9}},{"heads":1,"attention":{"type":"blocks","block_size":64}}]}`), 1, false},
	"etc":            {constant(`{"type":"etc","num_globals":32,"local_radius":64,"label_clip":4}`), 1, false},
	"longformer":     {constant(`{"type":"longformer","window_left":64,"global_positions":[0,700]}`), 1, false},
	"big_bird":       {constant(`{"type":"big_bird","block_size":64,"num_random_blocks":2}`), 1, false},
	"image1d":        {constant(`{"type":"image1d","query_block":64,"memory":100}`), 1, false},
	"image2d": {func(n int) string {
		return fmt.Sprintf(`{"type":"image2d","height":%d,"width":64,"query_height":8,"query_width":8,"memory_height":2,"memory_width":8}`, n/64)
	}, 1, false},
	"axial_row":    {square("axial_row"), 1.5, true},
	"axial_column": {square("axial_column"), 1.5, true},
	"bp":           {constant(`{"type":"bp","k":4,"clip":4}`), 1.1, false},
	"local":        {constant(`{"type":"local","chunk":64}`), 1, false},
	"lsh":          {constant(`{"type":"lsh","chunk":32,"num_hashes":2}`), 1, false},
	"routing": {func(n int) string {
		return fmt.Sprintf(`{"type":"routing","num_clusters":%.0f,"window":%.0f}`, math.Sqrt(float64(n)), math.Sqrt(float64(n)))
	}, 1.5, true},
	"sac":      {constant(`{"type":"sac","predictor_size":8,"local_pointer":16}`), 1, false},
	"topk":     {constant(`{"type":"topk","k":16}`), 2, false},
	"mips":     {constant(`{"type":"mips","k":16,"num_probes":4}`), 1.5, true},
	"sinkhorn": {root(`{"type":"sinkhorn","block_size":%d}`), 1.5, true},
	"sortcut":  {constant(`{"type":"sortcut","block_size":64,"slots":2}`), 1, false},
}

// The products of a layer's attention grow with the length as the source of its entry says.
func TestConformanceOfEntriesCost(t *testing.T) {
	require.ElementsMatch(t, EntryTypes(), slices.Collect(maps.Keys(entryCosts)), "every type of entry must be in the table")
	for _, name := range EntryTypes() {
		c := entryCosts[name]
		lengths := []int{1024, 2048, 4096}
		switch {
		case c.squares:
			lengths = []int{4096, 6400, 9216}
		case name == "bp": // shorter ones are computed by tiles
			lengths = []int{2048, 4096, 8192}
		}
		var x, work []float64
		for _, n := range lengths {
			s, err := mixerOf(t, c.scaled(n), false, 0, n, []int32{int32(n)})
			require.NoError(t, err, name)
			p, err := engine.Compile(s.b.Graph(), Nodes{s.out}, engine.Options{})
			require.NoError(t, err)
			x = append(x, float64(n))
			work = append(work, float64(kernels.CountProducts(func() { require.NoError(t, p.Run()) })))
		}
		require.InDelta(t, c.claim, exponent(x, work), 0.12, name)
	}
}
