package train

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// tuned is a small classifier's job with fine-tuning settings.
func tuned(t testing.TB, more string) Job {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.jsonl")
	var text []byte
	for i := range 60 {
		class := "a"
		if i%3 == 0 {
			class = "b"
		}
		line, err := json.Marshal(map[string]string{"text": class + class + " the sea", "label": class})
		require.NoError(t, err)
		text = append(append(text, line...), '\n')
	}
	require.NoError(t, os.WriteFile(path, text, 0o666))
	j := DefaultJob()
	require.NoError(t, config.Decode([]byte(`{"model":{"model_type":"encoder","task":"sequence_classification","num_labels":2,"vocab_size":262,"hidden_size":8,"intermediate_size":12,
		"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":12},
		"train":{"steps":4,"batch_size":4,"global_batch":8,"sequence_length":12,"warmup_steps":1,"lr":0.01,"save_every":2`+more+`},
		"data":{"path":"`+path+`","objective":"sequence_classification"}}`), &j))
	return j
}

func weightsOf(p *layers.Params) map[string][]float32 {
	out := map[string][]float32{}
	for _, q := range p.All() {
		out[q.Name] = append([]float32(nil), q.Value.Float32s()...)
	}
	return out
}

// Frozen weights and those beside LoRA keep every bit; the others move.
func TestFineTuning(t *testing.T) {
	for name, c := range map[string]struct {
		more  string
		moves func(name string, part bool) bool
	}{
		"freeze": {`,"freeze":["*.attn.*","*wte*"]`, func(n string, _ bool) bool { return !layers.MatchName("*.attn.*", n) && !layers.MatchName("*wte*", n) }},
		"rate 0": {`,"param_groups":[{"match":"*","lr_scale":0},{"match":"head.*","lr_scale":2,"weight_decay":0}]`, func(n string, _ bool) bool { return layers.MatchName("head.*", n) }},
		"lora":   {`,"lora":{"r":2,"target_modules":["*.attn.*"]}`, func(n string, part bool) bool { return part || layers.MatchName("head.*", n) }},
	} {
		t.Run(name, func(t *testing.T) {
			j := tuned(t, c.more)
			run, err := Start(filepath.Join(t.TempDir(), "r"), j, nil, Options{})
			require.NoError(t, err)
			before := weightsOf(run.Trainer.Params)
			for range 3 {
				_, err := run.Trainer.Step()
				require.NoError(t, err)
			}
			some := 0
			for n, v := range weightsOf(run.Trainer.Params) {
				_, which, part := layers.LoRAParts(n)
				if which == "alpha" {
					continue
				}
				if c.moves(n, part) {
					some++
					require.NotEqual(t, before[n], v, n)
				} else {
					require.Equal(t, before[n], v, n)
				}
			}
			require.NotZero(t, some)
			require.NoError(t, run.Close())
		})
	}
}

// Rates fall from layer to layer.
func TestLayerDecay(t *testing.T) {
	j := tuned(t, `,"layer_decay":0.5`)
	run, err := Start(filepath.Join(t.TempDir(), "r"), j, nil, Options{})
	require.NoError(t, err)
	seen := map[float64]int{}
	for _, p := range run.Trainer.Params.All() {
		seen[p.Rate]++
		switch {
		case layers.MatchName("*.1.*", p.Name):
			require.Equal(t, 0.5, p.Rate, p.Name)
		case layers.MatchName("*.0.*", p.Name):
			require.Equal(t, 0.25, p.Rate, p.Name)
		}
	}
	require.Len(t, seen, 4, "%v", seen) // head, two layers, embeddings
	require.NoError(t, run.Close())
}

// A run with LoRA stops and goes on to the same bits; what is loaded of it elsewhere is one model with the changes added.
func TestLoRAResumes(t *testing.T) {
	j := tuned(t, `,"lora":{"r":2,"lora_alpha":4,"target_modules":["*.attn.*"]}`)
	whole, part := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for dir, until := range map[string]int{whole: 4, part: 2} {
		r, err := Start(dir, j, nil, Options{})
		require.NoError(t, err)
		_, err = r.Train(context.Background(), until)
		require.NoError(t, err)
		require.NoError(t, r.Close())
	}
	r, err := Resume(part, nil, Options{})
	require.NoError(t, err)
	_, err = r.Train(context.Background(), 4)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	a, err := checkpoints.Resolve(whole)
	require.NoError(t, err)
	b, err := checkpoints.Resolve(part)
	require.NoError(t, err)
	require.Equal(t, a.Step, b.Step)
	require.Equal(t, a.Tensors.Names(), b.Tensors.Names())
	changed := 0
	m, err := models.New(a.Config)
	require.NoError(t, err)
	merged, err := models.Weights(m, a.Tensors, tensor.Float32)
	require.NoError(t, err)
	for _, name := range a.Tensors.Names() {
		x, err := a.Tensors.Float32s(name)
		require.NoError(t, err)
		y, err := b.Tensors.Float32s(name)
		require.NoError(t, err)
		require.Equal(t, x, y, name)
		if p, ok := merged.Get(name); ok && !slicesEqual(x, p.Value.Float32s()) {
			changed++
		}
	}
	require.Equal(t, 4, changed, "of each layer q|k|v and the output")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
}

func slicesEqual(a, b []float32) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// With a weight for each class, the gradient is that of the weighted mean.
func TestClassWeights(t *testing.T) {
	steps := func(more string) (StepEvent, map[string][]float32) {
		run, err := Start(filepath.Join(t.TempDir(), "r"), tuned(t, more), nil, Options{})
		require.NoError(t, err)
		e, err := run.Trainer.Step()
		require.NoError(t, err)
		w := weightsOf(run.Trainer.Params)
		require.NoError(t, run.Close())
		return e, w
	}
	plain, a := steps("")
	equal, b := steps(`,"class_weights":[3,3]`)
	require.InDelta(t, plain.Loss, equal.Loss, 1e-6)
	require.InDelta(t, plain.GradNorm, equal.GradNorm, 1e-5)
	for n := range a {
		require.InDeltaSlice(t, a[n], b[n], 1e-5, n)
	}
	skewed, _ := steps(`,"class_weights":[0.1,10]`)
	require.NotEqual(t, plain.GradNorm, skewed.GradNorm)
}

func TestFineTuningRefuses(t *testing.T) {
	for more, want := range map[string]string{
		`,"freeze":["nothing"]`: `"nothing" matches no weight`, `,"freeze":[""]`: "train.freeze[0]", `,"lora":{"r":0,"target_modules":["*"]}`: "train.lora.r is 0: want at least 1",
		`,"lora":{"r":2,"target_modules":[]}`: "train.lora.target_modules", `,"lora":{"r":99,"target_modules":["*.attn.*"]}`: "rank 99",
		`,"layer_decay":1.5`: "train.layer_decay", `,"class_weights":[1]`: "each of the 2 classes", `,"class_weights":[1,-1]`: "train.class_weights[1]",
		`,"param_groups":[{"match":"*","lr_scale":-1}]`: "train.param_groups[0].lr_scale",
	} {
		_, err := Start(filepath.Join(t.TempDir(), "r"), tuned(t, more), nil, Options{})
		require.ErrorContains(t, err, want, more)
	}
}
