package attention

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
)

type holder struct {
	Attention []Entry `json:"attention"`
}

func TestEntries(t *testing.T) {
	for in, want := range map[string][2]string{ // entry: pattern in an encoder, in a decoder
		`{"type":"full"}`:                                  {"full", "causal(full)"},
		`{"type":"band","window_left":5}`:                  {"band(5,5)", "causal(band(5,0))"},
		`{"type":"band","window_left":5,"window_right":2}`: {"band(5,2)", "causal(band(5,2))"},
		`{"type":"dilated","left_steps":3,"gap":2}`:        {"dilated(3,3,2)", "causal(dilated(3,0,2))"},
		`{"type":"dilated","left_steps":3,"right_steps":1,"gap":[1,2,3,4]}`: {
			"heads(dilated(3,1,1); dilated(3,1,2); dilated(3,1,3); dilated(3,1,4))",
			"causal(heads(dilated(3,1,1); dilated(3,1,2); dilated(3,1,3); dilated(3,1,4)))"},
		`{"type":"blocks","block_size":8}`:                                           {"blocks(8)", "causal(blocks(8))"},
		`{"type":"overlap_block","block_size":8,"overlap_left":3}`:                   {"blocks(8,3)", "causal(blocks(8,3,0))"},
		`{"type":"overlap_block","block_size":8,"overlap_left":3,"overlap_right":1}`: {"blocks(8,3,1)", "causal(blocks(8,3,1))"},
		`{"type":"image1d","query_block":8,"memory":5}`:                              {"blocks(8,5)", "causal(image1d(8,5))"},
		`{"type":"random","degree":3,"seed":7}`: {"heads(random(3,7); random(3,7,1); random(3,7,2); random(3,7,3))",
			"causal(heads(random(3,7); random(3,7,1); random(3,7,2); random(3,7,3)))"},
		`{"type":"random","degree":3,"block_size":5}`: {"heads(random-blocks(5,3,0); random-blocks(5,3,0,1); random-blocks(5,3,0,2); random-blocks(5,3,0,3))",
			"causal(heads(random-blocks(5,3,0); random-blocks(5,3,0,1); random-blocks(5,3,0,2); random-blocks(5,3,0,3)))"},
		`{"type":"random","probability":0.25}`: {"heads(bernoulli(1,4,0); bernoulli(1,4,0,1); bernoulli(1,4,0,2); bernoulli(1,4,0,3))",
			"causal(heads(bernoulli(1,4,0); bernoulli(1,4,0,1); bernoulli(1,4,0,2); bernoulli(1,4,0,3)))"},
		`{"type":"sparse_strided","stride":8}`: {"strided(8)", "causal(strided(8))"},
		`{"type":"sparse_strided","stride":8,"merge":"merged","paper_inclusive":true}`: {"band(8,0) + dilated(2147483647,0,8)",
			"causal(band(8,0) + dilated(2147483647,0,8))"},
		`{"type":"sparse_strided","stride":8,"merge":"interleaved"}`: {"band(7,0)", "causal(band(7,0))"},
		`{"type":"sparse_strided","stride":8,"merge":"multihead"}`: {
			"heads(band(7,0); dilated(2147483647,0,8); band(7,0); dilated(2147483647,0,8))",
			"causal(heads(band(7,0); dilated(2147483647,0,8); band(7,0); dilated(2147483647,0,8)))"},
		`{"type":"sparse_fixed","stride":8,"summary":3}`: {"fixed(8,3)", "causal(fixed(8,3))"},
		`{"type":"sparse_fixed","stride":8,"summary":4,"merge":"multihead","distinct_summaries":true}`: {
			"heads(causal(blocks(8)); summary(8,4,1); causal(blocks(8)); summary(8,4,1))",
			"causal(heads(causal(blocks(8)); summary(8,4,1); causal(blocks(8)); summary(8,4,1)))"},
		`{"type":"sparse_fixed","stride":8,"summary":4,"distinct_summaries":true}`: {
			"heads(causal(blocks(8)) + summary(8,4); causal(blocks(8)) + summary(8,4,1); causal(blocks(8)) + summary(8,4); causal(blocks(8)) + summary(8,4,1))",
			"causal(heads(causal(blocks(8)) + summary(8,4); causal(blocks(8)) + summary(8,4,1); causal(blocks(8)) + summary(8,4); causal(blocks(8)) + summary(8,4,1)))"},
		`{"type":"pattern","pattern":"band(2,2)+global(7,0)"}`: {"band(2,2) + global(0,7)", "causal(band(2,2) + global(0,7))"},
		`{"type":"heads","parts":[{"heads":1,"attention":{"type":"full"}},{"heads":3,"attention":{"type":"dilated","left_steps":1,"gap":[1,2,3]}}]}`: {
			"heads(full; dilated(1,1,1); dilated(1,1,2); dilated(1,1,3))",
			"causal(heads(full; dilated(1,0,1); dilated(1,0,2); dilated(1,0,3)))"},
	} {
		var got holder
		require.NoError(t, config.Decode([]byte(`{"attention":[`+in+`]}`), &got), in)
		for k, decoder := range []bool{false, true} {
			p, err := got.Attention[0].Pattern(4, decoder)
			require.NoError(t, err, in)
			require.Equal(t, want[k], p.String())
		}
		out, err := json.Marshal(got.Attention[0])
		require.NoError(t, err)
		require.JSONEq(t, in, string(out))
	}
	out, err := json.Marshal(EntryOf(Band{Left: 3, Right: 1}))
	require.NoError(t, err)
	require.JSONEq(t, `{"type":"pattern","pattern":"band(3,1)"}`, string(out))
	p, err := Entry{}.Pattern(3, false)
	require.NoError(t, err)
	require.Equal(t, "full", p.String())
}

func TestEntryFaults(t *testing.T) {
	for in, want := range map[string][]string{
		`3`:                                {`attention[0] is 3: want an object such as`},
		`{}`:                               {"attention[0].type: missing; give one of " + strings.Join(EntryTypes(), ", ")},
		`{"type":7}`:                       {`attention[0].type is 7: give one of axial_column`},
		`{"type":"bnad"}`:                  {`attention[0].type is "bnad": no such type; did you mean "band"?`},
		`{"type":"octopus"}`:               {`attention[0].type is "octopus": no such type; there are axial_column,`},
		`{"type":"band"}`:                  {`attention[0].window_left: missing`},
		`{"type":"band","window_left":-3}`: {`attention[0].window_left is -3: negative`},
		`{"type":"band","window_lefts":3,"window_right":"x"}`: {
			`attention[0].window_lefts: unknown key; did you mean "attention[0].window_left"?`,
			`attention[0].window_right is "x": want a whole number`,
			`attention[0].window_left: missing`},
		`{"type":"full","window_left":3}`:                               {`attention[0].window_left: unknown key`},
		`{"type":"dilated","left_steps":3,"gap":[1,0]}`:                 {`attention[0].gap[1] is 0: give a whole number from 1 on`},
		`{"type":"dilated","left_steps":3,"gap":"x"}`:                   {`attention[0].gap is "x": want a whole number, or a list`},
		`{"type":"dilated","left_steps":3,"gap":[]}`:                    {`attention[0].gap: missing`},
		`{"type":"blocks","block_size":0}`:                              {`attention[0].block_size is 0: give a whole number from 1 on`},
		`{"type":"blocks","block_size":99999999999}`:                    {`attention[0].block_size is 99999999999: beyond 2147483647`},
		`{"type":"pattern","pattern":"band(1"}`:                         {`attention[0].pattern: pattern "band(1", column 7: `},
		`{"type":"shifted_block"}`:                                      {`attention[0].block_size: missing`},
		`{"type":"overlap_block","block_size":0}`:                       {`attention[0].block_size is 0: give a whole number from 1 on`, `attention[0].overlap_left: missing`},
		`{"type":"random"}`:                                             {`attention[0].degree: missing; give a whole number from 1 on, or a probability`},
		`{"type":"random","degree":0}`:                                  {`attention[0].degree is 0: give a whole number from 1 on`},
		`{"type":"random","degree":2,"probability":0.1}`:                {`attention[0].probability is 0.1: stands beside degree`},
		`{"type":"random","probability":1.5}`:                           {`attention[0].probability is 1.5: give a number above 0, at most 1`},
		`{"type":"random","probability":0.5,"block_size":3}`:            {`attention[0].block_size is 3: blocks are drawn by degree`},
		`{"type":"random","degree":2,"block_size":0,"seed":-1}`:         {`attention[0].block_size is 0`, `attention[0].seed is -1: negative`},
		`{"type":"image1d","query_block":0}`:                            {`attention[0].query_block is 0: give a whole number from 1 on`, `attention[0].memory: missing; give a whole number from 0 on`},
		`{"type":"sparse_strided","stride":0}`:                          {`attention[0].stride is 0: give a whole number from 1 on`},
		`{"type":"sparse_strided","stride":3,"merge":"both"}`:           {`attention[0].merge is "both": give one of interleaved, merged, multihead`},
		`{"type":"sparse_fixed","stride":3}`:                            {`attention[0].summary: missing`},
		`{"type":"sparse_fixed","stride":3,"summary":4}`:                {`attention[0].summary is 4: give 1 to 3, the stride`},
		`{"type":"cross_block"}`:                                        {`attention[0].block_size: missing`},
		`{"type":"hier_block","block_size":0,"pool":"max"}`:             {`attention[0].block_size is 0`, `attention[0].pool is "max": give one of tokens, mean, linear`},
		`{"type":"hier_block","block_size":2,"growth":2,"pool":"mean"}`: {`attention[0].growth is 2: pooled rows are pairs`},
		`{"type":"pattern"}`:                                            {`attention[0].pattern: missing`},
		`{"type":"heads"}`:                                              {`attention[0].parts: missing`},
		`{"type":"heads","parts":[{"heads":2,"attention":{"type":"band","window_left":-1}}]}`: {
			`attention[0].parts[0].attention.window_left is -1: negative`},
		`{"type":"heads","parts":[{"attention":{"type":"heads","parts":[{"heads":1,"attention":{"type":"full"}}]}},{"heads":1}]}`: {
			`attention[0].parts[0].heads: missing`, `heads stands inside heads`, `attention[0].parts[1].attention: missing`},
	} {
		var got holder
		err := config.Decode([]byte(`{"attention":[`+in+`]}`), &got)
		require.Error(t, err, in)
		require.Len(t, config.Faults(err), len(want), "%s: %v", in, err)
		for _, w := range want {
			require.ErrorContains(t, err, w, in)
		}
	}
}

// What no sequence of the model has is refused, and what a decoder cannot know.
func TestEntriesWithoutPlace(t *testing.T) {
	for _, c := range []struct {
		entry   string
		decoder bool
		want    string // "": legal
	}{
		{`{"type":"pattern","pattern":"band(1,1) + global(40)"}`, false, "max_position_embeddings is 40: global(40): position 40 is past the end of 40; give -40 to 39"},
		{`{"type":"pattern","pattern":"band(1,1) + global(39,-40)"}`, false, ""},
		{`{"type":"pattern","pattern":"heads(full; causal(global(41)))"}`, true, "position 41 is past the end of 40"},
		{`{"type":"pattern","pattern":"row(3,13)"}`, false, "row(3,13) has 39 positions"},
		{`{"type":"longformer","window_left":2,"global_positions":[0,40]}`, false, "global_positions[1] is 40: past the end; max_position_embeddings is 40, give -40 to 39"},
		{`{"type":"longformer","window_left":2,"global_positions":[-41]}`, false, "global_positions[0] is -41: past the end"},
		{`{"type":"longformer","window_left":2,"global_positions":[-40,39]}`, false, ""},
		{`{"type":"pattern","pattern":"band(1,1) + global(-1)"}`, true, "counts from the end of the sequence"},
		{`{"type":"pattern","pattern":"band(1,1) + global(-1)"}`, false, ""},
		{`{"type":"pattern","pattern":"random-blocks(4,2,1) + big-bird(4,1,1)"}`, true, ""},
		{`{"type":"pattern","pattern":"cross-blocks(4)"}`, false, "the entry cross_block brings them"},
		{`{"type":"pattern","pattern":"heads(cross-blocks(4); cross-blocks(4))"}`, true, "the entry cross_block brings them"},
		{`{"type":"pattern","pattern":"bp-tree(4)"}`, true, "the entry bp brings them"},
	} {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(c.entry), &e))
		_, err := e.Mixer(Layer{Heads: 2, Decoder: c.decoder, Positions: 40})
		if c.want == "" {
			require.NoError(t, err, c.entry)
		} else {
			require.ErrorContains(t, err, c.want, c.entry)
		}
		_, err = e.Mixer(Layer{Heads: 2})
		require.Equal(t, strings.Contains(c.want, "brings them"), err != nil, "%s in a model without a limit: %v", c.entry, err)
	}
}

// Draws of more than there is are said.
func TestExhausted(t *testing.T) {
	for spec, want := range map[string]string{
		"random(5,1)":                          "random(5,1) draws 5 keys for a query; 4 tokens have at most 4, which it takes",
		"random(4,1)":                          "",
		"causal(full + random-blocks(2,3,0))":  "random-blocks(2,3,0) draws 3 blocks for a query; 4 tokens have at most 2",
		"heads(full; big-bird(1,1,0))":         "big-bird(1,1,0) draws 1 blocks for a query; 4 tokens have at most 0",
		"external(2) + big-bird-window(1,1,0)": "",
		"big-bird-window(1,2,0)":               "4 tokens have at most 1",
		"bernoulli(1,2,3) + band(9,9)":         "",
	} {
		got := Exhausted(parse(t, spec), 4)
		if want == "" {
			require.Empty(t, got, spec)
		}
		require.Contains(t, got, want)
	}
}

// Entries that depend on the layer.
func TestEntriesByLayer(t *testing.T) {
	for in, want := range map[string][2]string{ // in layers 0 and 1 of an encoder with 2 heads
		`{"type":"shifted_block","block_size":7}`:                              {"blocks(7)", "shifted-blocks(7,3)"},
		`{"type":"sparse_strided","stride":5,"merge":"interleaved"}`:           {"band(4,0)", "dilated(2147483647,0,5)"},
		`{"type":"sparse_fixed","stride":5,"summary":2,"merge":"interleaved"}`: {"causal(blocks(5))", "summary(5,2)"},
		`{"type":"sparse_fixed","stride":5,"summary":2,"merge":"interleaved","distinct_summaries":true}`: {
			"causal(blocks(5))", "heads(summary(5,2); summary(5,2,1))"},
		`{"type":"pattern","pattern":"beyond(band(1,1); random(2,9))"}`: {
			"heads(beyond(band(1,1); random(2,9)); beyond(band(1,1); random(2,9,1)))",
			"heads(beyond(band(1,1); random(2,9,4096)); beyond(band(1,1); random(2,9,4097)))"},
		`{"type":"heads","parts":[{"heads":1,"attention":{"type":"shifted_block","block_size":4}},{"heads":1,"attention":{"type":"full"}}]}`: {
			"heads(blocks(4); full)", "heads(shifted-blocks(4,2); full)"},
	} {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(in), &e))
		for k, w := range want {
			for layer := k; layer < 6; layer += 2 {
				p, err := e.In(Layer{Index: layer, Heads: 2})
				require.NoError(t, err)
				if layer < 2 || !strings.Contains(w, "random") {
					require.Equal(t, w, p.String())
				}
			}
		}
	}
}

// Blocks that grow from layer to layer, and rows that do.
func TestHierarchicalEntry(t *testing.T) {
	entry := func(text string) (e Entry) {
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		return e
	}
	for layer, want := range map[int]string{0: "blocks(3)", 1: "blocks(12)", 2: "blocks(48)", 60: "blocks(2147483647)"} {
		p, err := entry(`{"type":"hier_block","block_size":3,"growth":2}`).In(Layer{Index: layer, Heads: 2})
		require.NoError(t, err)
		require.Equal(t, want, p.String())
	}
	p, err := entry(`{"type":"hier_block","block_size":3}`).In(Layer{Index: 2, Heads: 1, Decoder: true})
	require.NoError(t, err)
	require.Equal(t, "causal(blocks(12))", p.String())

	pooled := entry(`{"type":"hier_block","block_size":3,"pool":"linear"}`)
	pool, ok := pooled.Hierarchy()
	require.True(t, ok)
	require.Equal(t, layers.PoolLinear, pool)
	p, err = pooled.In(Layer{Index: 2, Heads: 1})
	require.NoError(t, err)
	require.Equal(t, "blocks(3)", p.String())
	_, err = pooled.In(Layer{Heads: 1, Decoder: true})
	require.ErrorContains(t, err, "a pooled row tells of later tokens")
	_, ok = entry(`{"type":"full"}`).Hierarchy()
	require.False(t, ok)
}

// Nodes besides the tokens need a model that has them.
func TestEntryOfOtherNodes(t *testing.T) {
	for in, want := range map[string]int{"external(2) + band(1,1)": 2, "star": 1, "band(1,1)": 0, "heads(external(3); band(0,0))": 3} {
		p, err := EntryOf(parse(t, in)).Pattern(2, false)
		require.NoError(t, err)
		require.Equal(t, want, Front(p), in)
	}
	_, err := EntryOf(parse(t, "bp-tree(2)")).Pattern(2, false)
	require.ErrorContains(t, err, "bp-tree(2) has nodes behind the tokens")
	_, err = EntryOf(parse(t, "star")).Pattern(2, true)
	require.ErrorContains(t, err, "star cannot be causal: external nodes read every token")
}

func TestEntryHeadsMustFit(t *testing.T) {
	for in, want := range map[string]string{
		`{"type":"dilated","left_steps":3,"gap":[1,2]}`:                                                    `gap is [1,2]: 2 gaps for 3 heads`,
		`{"type":"pattern","pattern":"heads(full; full)"}`:                                                 `describes 2 heads, the layer has 3`,
		`{"type":"heads","parts":[{"heads":2147483647,"attention":{"type":"full"}}]}`:                      `the parts have 2147483647 heads together, the layer has 3`,
		`{"type":"heads","parts":[{"heads":3,"attention":{"type":"dilated","left_steps":1,"gap":[1,2]}}]}`: `parts[0].attention.gap is [1,2]: 2 gaps for 3 heads`,
	} {
		var e Entry
		require.NoError(t, json.Unmarshal([]byte(in), &e))
		_, err := e.Pattern(3, true)
		require.ErrorContains(t, err, want)
	}
}
