package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPrefixEvaluation: --prefix tells both numbers and their gap, of a decoder nothing but rounding, and is refused where nothing is predicted from left to right.
func TestPrefixEvaluation(t *testing.T) {
	t.Chdir(t.TempDir())
	fit(t, "--data", "task:types(fill=3,queries=5,val=7,test=11)", "--set", "model.vocab_size=289", "--set", "train.sequence_length=40", "--set", "train.eval_every=0", "--steps", "2", "--run", "a").ok(t)
	whole := euryale(t, "eval", "a", "--json").ok(t).last(t)
	require.NotContains(t, whole, "prefix_loss")
	r := euryale(t, "eval", "a", "--json", "--prefix=20").ok(t)
	done := r.last(t)
	require.EqualValues(t, 20, done["prefix_positions"])
	require.InDelta(t, 0, done["prefix_gap"], 1e-5)
	require.InDelta(t, done["whole_loss"], done["prefix_loss"], 1e-5)
	require.Less(t, done["prefix_largest_difference"], 1e-4)
	require.Equal(t, done["whole_accuracy"], done["prefix_accuracy"])
	require.Equal(t, whole["loss"], done["loss"])
	require.Contains(t, r.stderr, "from what is before them alone")
	all := euryale(t, "eval", "a", "--json", "--prefix").ok(t).last(t)
	require.EqualValues(t, 55, all["prefix_positions"], "256 are more than there are")
	require.InDelta(t, all["loss"], all["whole_loss"], 1e-6)

	require.Equal(t, 2, euryale(t, "eval", "a", "--prefix=-1").code)
	fit(t, "--data", "task:fetch(val=7,test=11)", "--set", "model.model_type=encoder", "--set", "model.task=masked_lm", "--set", "train.sequence_length=32", "--set", "train.eval_every=0",
		"--set", `model.attention=[{"type":"blocks","block_size":4}]`, "--steps", "2", "--run", "b").ok(t)
	r = euryale(t, "eval", "b", "--prefix")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "causal_lm")
}

// TestCausalityIsTold: inspect says the class, and eval of a model whose choice of keys sees the future that there is something to measure; --prefix measures it.
func TestCausalityIsTold(t *testing.T) {
	t.Chdir(t.TempDir())
	for attention, class := range map[string]string{`{"type":"lsh","chunk":4,"num_hashes":1}`: "C0", `{"type":"lsh","chunk":4,"num_hashes":1,"plan":"bucketRecent"}`: "C1", `{"type":"full"}`: "C1"} {
		fit(t, "--data", "task:duplicate(length=64,val=7,test=31)", "--set", "train.sequence_length=64", "--set", "model.attention=["+attention+"]", "--set", "train.eval_every=0",
			"--set", "model.initializer_range=0.3", "--steps", "1", "--run", class+attention).ok(t)
		r := euryale(t, "inspect", class+attention, "--json").ok(t)
		require.Equal(t, class, r.last(t)["causality"])
		require.Contains(t, euryale(t, "inspect", class+attention).ok(t).stdout, "causality    "+class)
		r = euryale(t, "eval", class+attention, "--json").ok(t)
		require.Equal(t, class == "C0", strings.Contains(r.stderr, "--prefix"))
		worst := euryale(t, "eval", class+attention, "--json", "--prefix").ok(t).last(t)["prefix_largest_difference"].(float64)
		if class == "C0" {
			require.Greater(t, worst, 1e-3)
		} else {
			require.Less(t, worst, 1e-4)
		}
	}
}

// TestEvalSwapsAttention: a trained model can be evaluated with another attention that has the same weights.
func TestEvalSwapsAttention(t *testing.T) {
	t.Chdir(t.TempDir())
	fit(t, "--data", "task:mqar(length=32,pairs=4,val=7,test=31)", "--set", "train.sequence_length=32", "--set", `model.attention=[{"type":"full"}]`, "--set", "train.eval_every=0",
		"--steps", "3", "--run", "a").ok(t)
	loss := func(attention string) any {
		return euryale(t, "eval", "a", "--json", "--set", "model.attention="+attention).ok(t).last(t)["loss"]
	}
	full := euryale(t, "eval", "a", "--json").ok(t).last(t)["loss"]
	require.Equal(t, full, loss(`[{"type":"full"}]`))
	require.NotEqual(t, full, loss(`[{"type":"band","window_left":2}]`))
	require.InDelta(t, full, loss(`[{"type":"band","window_left":31}]`), 1e-5)
	require.NotEqual(t, full, loss(`[{"type":"random","degree":3}]`))
	r := euryale(t, "eval", "a", "--set", `model.attention=[{"type":"cross_block","block_size":4}]`)
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "summary_query")
}

// TestRecipeEvals: what a recipe lets eval change leaves a model without fault, with the weights of the trained one.
func TestRecipeEvals(t *testing.T) {
	all, err := recipes()
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	for _, r := range all {
		if len(r.Evals) == 0 {
			continue
		}
		whole := euryale(t, "fit", "--recipe", r.Name, "--smoke", "--json", "--run", r.Name).ok(t).last(t)
		shown := euryale(t, "recipes", r.Name).ok(t).stdout
		for name, sets := range r.Evals {
			args := []string{"eval", r.Name, "--json"}
			for _, s := range sets {
				args = append(args, "--set", s)
			}
			require.Positive(t, euryale(t, args...).ok(t).last(t)["loss"], "%s: %s", r.Name, name)
			require.Contains(t, shown, "the same weights, "+name)
		}
		require.Equal(t, whole["test_loss"], euryale(t, "eval", r.Name, "--json").ok(t).last(t)["loss"])
	}
}
