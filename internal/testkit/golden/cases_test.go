package golden

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/models"
)

// adapters say, by system, how a case is run and compared.
var adapters = map[string]func(c *Case, p Precision) ([]Result, error){
	"blocks":          runBlock,
	"axial_attention": runAxialAttention,
	"bert":            runHuggingFace,
	"bigbird":         runBigBird,
	"bigbird_pegasus": runHuggingFace,
	"gpt2":            runHuggingFace,
	"gpt_neo":         runHuggingFace,
	"imagegpt":        runHuggingFace,
	"led":             runHuggingFace,
	"longt5":          runHuggingFace,
	"longformer":      runHuggingFace,
	"reformer":        runHuggingFace,
	"local_attention": runLocalAttention,
	"def_longformer":  runMasks,
	"def_block_local": runMasks,

	"def_atoms":              runDefinition,
	"def_axial_transformer":  runDefinition,
	"def_bigbird":            runDefinition,
	"def_bp_transformer":     runDefinition,
	"def_etc":                runDefinition,
	"def_image_transformer":  runDefinition,
	"def_reversible":         runDefinition,
	"def_sinkhorn":           runDefinition,
	"def_sac":                runSAC,
	"def_sparse_transformer": runDefinition,
	"def_star_transformer":   runStar,

	"sinkhorn_transformer": runSinkhornPackage,

	"def_reformer":     runReformer,
	"reformer_pytorch": runReformerPyTorch,
}

// TestGolden runs every case of the folder in both precisions. A case, or a tensor of a case, that nobody handles fails.
func TestGolden(t *testing.T) {
	root, err := Root()
	require.NoError(t, err)
	paths, err := Cases(root)
	require.NoError(t, err)
	for _, path := range paths {
		name := filepath.Base(filepath.Dir(path)) + "/" + strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			c, err := Open(path)
			require.NoError(t, err)
			run := adapters[c.System]
			if run == nil {
				t.Fatalf("no adapter for system %s", c.System)
			}
			for _, p := range []Precision{Float64, Float32} {
				t.Run(p.String(), func(t *testing.T) {
					results, err := run(c, p)
					require.NoError(t, err)
					compared := map[string]bool{}
					for _, r := range results {
						compared[r.Name] = true
						if !r.OK {
							t.Errorf("%v", r)
						}
					}
					for _, want := range recorded(c) {
						if !compared[want] {
							t.Errorf("%s is not compared", want)
						}
					}
				})
			}
		})
	}
}

// recorded lists what a case holds to be compared.
func recorded(c *Case) []string {
	var all []string
	for _, n := range c.Outputs() {
		if c.Out64(n) != nil {
			all = append(all, "out64/"+n)
		} else {
			all = append(all, "out/"+n)
		}
	}
	for _, n := range c.Names("") {
		if strings.HasPrefix(n, "grad/") || strings.HasPrefix(n, "grad_in/") || !strings.Contains(n, "/") {
			all = append(all, n)
		}
	}
	return all
}

// runHuggingFace runs a model that is built from the config of the case, and the same model from its folder, if it has one.
func runHuggingFace(c *Case, p Precision) ([]Result, error) {
	m, params, err := c.Model(p)
	if err != nil {
		return nil, err
	}
	results, err := c.CheckModel(m, params, p)
	if err != nil || c.HFFolder == "" {
		return results, err
	}
	l, err := models.Load(c.HFFolder, p.Dtype())
	if err != nil {
		return results, err
	}
	again, err := c.CheckModel(l.Model, l.Params, p)
	return append(results, again...), err
}

// ownCopy is the copy of the cases in the repository.
func ownCopy(t *testing.T) string {
	t.Setenv(EnvDir, "")
	root, err := Root()
	require.NoError(t, err)
	return root
}

// A case whose tensors nobody reads must not pass, and a wrong value must not either.
func TestCasesCanFail(t *testing.T) {
	root := ownCopy(t)
	c, err := Open(filepath.Join(root, "gpt_neo", "local_pad.json"))
	require.NoError(t, err)
	check := func() []Result {
		results, err := runHuggingFace(c, Float64)
		require.NoError(t, err)
		return slices.DeleteFunc(results, func(r Result) bool { return r.OK })
	}
	require.Empty(t, check())

	grad := c.Grad("transformer.wte.weight")
	grad.F[17] += 1e-5
	last := c.Out64("logits")
	last.F[len(last.F)-1] += 2e-9 // of a row of padding
	bad := check()
	require.Len(t, bad, 2)
	require.Equal(t, "out64/logits", bad[0].Name)
	require.Equal(t, []int{0, 17}, bad[1].At)
	last.F[len(last.F)-1] -= 2e-9
	grad.F[17] -= 1e-5

	c.tensors["out/attentions.0"] = &Tensor{Shape: []int{1}, Dtype: "F32", F: []float64{0}}
	c.tensors["grad/transformer.h.9.ln_1.weight"] = grad
	bad = check()
	require.Len(t, bad, 2)
	require.Contains(t, bad[0].String(), "it gives hidden_states.0, hidden_states.1")
	require.Contains(t, bad[1].String(), "no such weight")
	delete(c.tensors, "out/attentions.0")
	delete(c.tensors, "grad/transformer.h.9.ln_1.weight")

	c.tensors["in/position_ids"] = c.In("input_ids")
	var input *InputError
	_, err = runHuggingFace(c, Float64)
	require.True(t, errors.As(err, &input), fmt.Sprint(err))
	require.Contains(t, err.Error(), "in/position_ids")
}
