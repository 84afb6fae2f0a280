package golden

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/layers/attention"
)

// runBigBird runs a model, or checks recorded plans of random blocks.
func runBigBird(c *Case, p Precision) ([]Result, error) {
	if c.Kind != "bigbird_rand" {
		return runHuggingFace(c, p)
	}
	return runBigBirdPlans(c)
}

// runBigBirdPlans loads plans [heads, blocks-2, r] that transformers has drawn. A plan is right if it has the shape that is told, names
// blocks that there are and, but for three lengths with a rule of their own, in each row only new blocks that are not read anyway. What
// our pattern reads with it is those blocks and no others, each once.
func runBigBirdPlans(c *Case) ([]Result, error) {
	var cases []struct {
		Name             string
		Seq, Block, R    int
		Heads            int
		MaxPositionEmbed int `json:"max_position_embeddings"`
	}
	if err := c.Decode("cases", &cases); err != nil {
		return nil, err
	}
	if len(cases) != len(c.Names("rand/")) {
		return nil, fmt.Errorf("%d plans are described, %d are there", len(cases), len(c.Names("rand/")))
	}
	var results []Result
	for _, k := range cases {
		t, nb := c.Rand(k.Name), k.Seq/k.Block
		name := "rand/" + k.Name
		if t == nil || !slices.Equal(t.Shape, []int{k.Heads, nb - 2, k.R}) {
			return nil, fmt.Errorf("%s is missing or not [%d,%d,%d]", name, k.Heads, nb-2, k.R)
		}
		old := slices.Contains([]int{1024, 3072, 4096}, k.Seq)
		for h := range k.Heads {
			rows := make([][]int32, nb)
			for i := 1; i < nb-1; i++ {
				for _, j := range t.I[(h*(nb-2)+i-1)*k.R:][:k.R] {
					rows[i] = append(rows[i], int32(j))
					if j < 0 || int(j) >= nb {
						results = append(results, fault(name, "head %d, block %d draws block %d of %d", h, i, j, nb))
					}
				}
			}
			plain := attention.NewBigBird(k.Block, 0, 0, 0)
			planned, err := attention.NewBigBird(k.Block, k.R, 0, 0).WithPlan(rows)
			if err != nil {
				return nil, err
			}
			for i := range nb {
				query := i * k.Block
				want := attention.Keys(plain, 0, query, k.Seq)
				before := len(want)
				for _, j := range rows[i] {
					for x := range k.Block {
						want = append(want, int(j)*k.Block+x)
					}
				}
				slices.Sort(want)
				want = slices.Compact(want)
				if got := attention.Keys(planned, 0, query, k.Seq); !slices.Equal(got, want) {
					results = append(results, fault(name, "head %d, block %d reads %v, want %v", h, i, got, want))
				}
				if !old && len(want) != before+len(rows[i])*k.Block {
					results = append(results, fault(name, "head %d, block %d draws %v: one of them twice, or what it reads anyway", h, i, rows[i]))
				}
			}
		}
	}
	return append(results, Result{Name: c.ID(), OK: true}), nil
}

// What was drawn counts: other draws give other results, draws that do not fit are refused, and without any every draw is block 0.
func TestBigBirdDraws(t *testing.T) {
	root := ownCopy(t)
	open := func(name string) *Case {
		c, err := Open(filepath.Join(root, "bigbird", name+".json"))
		require.NoError(t, err)
		return c
	}
	wrong := func(c *Case) (bad int) {
		results, err := runBigBird(c, Float64)
		require.NoError(t, err)
		for _, r := range results {
			if !r.OK {
				bad++
			}
		}
		return bad
	}
	c := open("mlm_sparse_eval")
	for _, name := range c.Names("rand/") {
		delete(c.tensors, "rand/"+name)
	}
	require.Zero(t, wrong(c))

	c = open("model_sparse_pad_train_random")
	draws := c.Rand("layer1.rand_attn")
	draws.I[5] = (draws.I[5] + 1) % 16
	require.NotZero(t, wrong(c))
	draws.I[5] = 16
	_, err := runBigBird(c, Float64)
	require.ErrorContains(t, err, "rand/layer1.rand_attn has shape [3 14 3], want whole numbers [3,14,3] from 0 to 15")

	m, _, err := c.Model(Float32)
	require.NoError(t, err)
	require.True(t, IsDraw(m, "rand/layer1.rand_attn"))
	for _, name := range []string{"rand/layer1.rand_attn2", "rand/logits", "layer1.rand_attn", "rand/layer01.rand_attn"} {
		require.False(t, IsDraw(m, name), name)
	}

	c = open("random_block_plan")
	plan := c.Rand("seq64_bs4_r2_h4_seed0")
	plan.I[1] = plan.I[0] // twice
	require.Equal(t, 1, wrong(c))
	plan.I[1] = 16
	require.NotZero(t, wrong(c))
}

// Weights with a plan of their own follow it, others follow transformers.
func TestBigBirdWithItsPlan(t *testing.T) {
	c, err := Open(filepath.Join(ownCopy(t), "bigbird", "seqcls_sparse_eval.json"))
	require.NoError(t, err)
	m, params, err := c.Model(Float64)
	require.NoError(t, err)
	in, err := c.Batch()
	require.NoError(t, err)
	in.Draws, in.Labels = nil, nil
	logits := func() Result {
		got, err := Run(m, params, in, false)
		require.NoError(t, err)
		return c.CompareOut("logits", got.Out["logits"], Float64)
	}
	require.True(t, logits().OK)
	params.StoreInts()
	require.Greater(t, logits().MaxAbs, 1e-3)
}
