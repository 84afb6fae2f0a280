package attention

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/config"
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
		`{"type":"blocks","block_size":8}`:                      {"blocks(8)", "causal(blocks(8))"},
		`{"type":"pattern","pattern":"band(2,2)+global(0,-1)"}`: {"band(2,2) + global(-1,0)", "causal(band(2,2) + global(-1,0))"},
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
		`{}`:                               {`attention[0].type: missing; give one of band, blocks, dilated, full, heads, pattern`},
		`{"type":7}`:                       {`attention[0].type is 7: give one of band`},
		`{"type":"bnad"}`:                  {`attention[0].type is "bnad": no such type; did you mean "band"?`},
		`{"type":"routing"}`:               {`attention[0].type is "routing": no such type; there are band,`},
		`{"type":"band"}`:                  {`attention[0].window_left: missing`},
		`{"type":"band","window_left":-3}`: {`attention[0].window_left is -3: negative`},
		`{"type":"band","window_lefts":3,"window_right":"x"}`: {
			`attention[0].window_lefts: unknown key; did you mean "attention[0].window_left"?`,
			`attention[0].window_right is "x": want a whole number`,
			`attention[0].window_left: missing`},
		`{"type":"full","window_left":3}`:               {`attention[0].window_left: unknown key`},
		`{"type":"dilated","left_steps":3,"gap":[1,0]}`: {`attention[0].gap[1] is 0: give a whole number from 1 on`},
		`{"type":"dilated","left_steps":3,"gap":"x"}`:   {`attention[0].gap is "x": want a whole number, or a list`},
		`{"type":"dilated","left_steps":3,"gap":[]}`:    {`attention[0].gap: missing`},
		`{"type":"blocks","block_size":0}`:              {`attention[0].block_size is 0: give a whole number from 1 on`},
		`{"type":"blocks","block_size":99999999999}`:    {`attention[0].block_size is 99999999999: beyond 2147483647`},
		`{"type":"pattern","pattern":"band(1"}`:         {`attention[0].pattern: pattern "band(1", column 7: `},
		`{"type":"pattern"}`:                            {`attention[0].pattern: missing`},
		`{"type":"heads"}`:                              {`attention[0].parts: missing`},
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
