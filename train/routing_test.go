package train

import (
	"encoding/json"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// routedJob is tinyJob with clusters, which dropout, several batches a step and an evaluation in between could disturb.
func routedJob(membership, residual string) Job {
	j := tinyJob()
	j.Model = json.RawMessage(`{"model_type":"decoder","vocab_size":256,"hidden_size":24,"intermediate_size":56,"num_hidden_layers":2,"num_attention_heads":3,
		"max_position_embeddings":128,"position_embedding_type":"learned","hidden_dropout_prob":0.1,"residual":"` + residual + `","attention":[{"type":"heads","parts":[
		{"heads":2,"attention":{"type":"routing","num_clusters":5,"window":17,"decay":0.9,"commitment":0.01,"reseed_after":3,"membership":"` + membership + `"}},
		{"heads":1,"attention":{"type":"band","window_left":11}}]}]}`)
	j.Train.Steps, j.Train.EvalEvery, j.Train.EvalBatches = 8, 5, 1
	return j
}

// A run with clusters that stops and goes on has the bits of one that does not, for any number of workers and whatever is computed again.
func TestRoutingResumes(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, membership := range []string{"topw", "recent"} {
		whole, parts := t.TempDir(), t.TempDir()
		finish(t, start(t, whole, routedJob(membership, "plain")), 0)
		want := checkpoint(t, whole, 8)
		finish(t, start(t, parts, routedJob(membership, "plain")), 3)
		for _, until := range []int{4, 0} {
			r, err := Resume(parts, nil, Options{})
			require.NoError(t, err)
			finish(t, r, until)
		}
		got := checkpoint(t, parts, 8)
		require.Equal(t, want["model.safetensors"], got["model.safetensors"], membership)
		require.Equal(t, want["optimizer.safetensors"], got["optimizer.safetensors"], membership)
		if membership == "recent" {
			continue
		}
		for n, how := range map[int]string{1: "none", 2: "block", 3: "cheap"} {
			runtime.GOMAXPROCS(n)
			j := routedJob(membership, "plain")
			j.Train.Recompute = how
			dir := t.TempDir()
			finish(t, start(t, dir, j), 0)
			require.Equal(t, want["model.safetensors"], checkpoint(t, dir, 8)["model.safetensors"], "%s, GOMAXPROCS %d, %s", membership, n, how)
		}
	}
}

// Every vector counts once a step, also where layers are computed back: the counts are 0.9 of what they were and a tenth of the vectors.
func TestRoutingCountsOnce(t *testing.T) {
	for _, residual := range []string{"plain", "reversible"} {
		r := start(t, t.TempDir(), routedJob("topw", residual))
		defer r.Close()
		vectors, counts := 4*61.0, 5.0 // two batches of two, and a count of 1 for each cluster
		for range 3 {
			e, err := r.Trainer.Step()
			require.NoError(t, err)
			counts = 0.9*counts + 0.1*vectors
			require.Positive(t, e.State["occupancy"])
			require.LessOrEqual(t, e.State["occupancy"], 1+1e-9)
			require.Positive(t, *e.OwnLoss)
			seen := 0
			for _, p := range r.Trainer.Params.All() {
				if p.State && p.Value.Dims() == 2 && p.Value.Shape()[1] == 5 && p.Name[len(p.Name)-5:] == "count" {
					for h := range 2 {
						sum := 0.0
						for _, n := range p.Value.Float32s()[h*5:][:5] {
							sum += float64(n)
						}
						require.InDelta(t, counts, sum, 1e-3, "%s: %s", residual, p.Name)
					}
					seen++
				}
			}
			require.Equal(t, 2, seen)
		}
	}
}

// A step whose loss is no number teaches clusters nothing: not their averages, not how long they were idle, not how often they were updated.
func TestRoutingSkipsLostSteps(t *testing.T) {
	for _, membership := range []string{"topw", "recent"} {
		r := start(t, t.TempDir(), routedJob(membership, "plain"))
		defer r.Close()
		state := func() (all [][]float32) {
			for _, p := range r.Trainer.Params.All() {
				if p.State {
					all = append(all, slices.Clone(p.Value.Float32s()))
				}
			}
			return all
		}
		_, err := r.Trainer.Step()
		require.NoError(t, err)
		before := state()
		require.Len(t, before, 2*4)
		w, ok := r.Trainer.Params.Get("decoder.ln_f.weight")
		require.True(t, ok)
		kept := w.Value.Float32s()[3]
		w.Value.Float32s()[3] = float32(math.NaN())
		_, err = r.Trainer.Step()
		var diverged *DivergedError
		require.ErrorAs(t, err, &diverged)
		require.Equal(t, before, state())
		w.Value.Float32s()[3] = kept
		_, err = r.Trainer.Step()
		require.NoError(t, err)
		require.NotEqual(t, before, state())
		for _, values := range state() {
			if len(values) == 2 { // progress
				require.Equal(t, []float32{1, 2}, values, "two updates of three steps")
			}
		}
	}
}

// A model that was never trained is not evaluated.
func TestRoutingBeforeTraining(t *testing.T) {
	r := start(t, t.TempDir(), routedJob("topw", "plain"))
	defer r.Close()
	fresh, err := models.NewParams(r.Model, tensor.Float32, 1)
	require.NoError(t, err)
	e, err := NewEvaluator(r.Model, fresh, r.Corpus.Val.Shape(61), 2, 61)
	require.NoError(t, err)
	_, err = e.Run(t.Context(), r.Corpus.Val.PlainWindows(61), 1, nil)
	var fault *layers.StateError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, "decoder.h.0.attn.heads_0", fault.Name)
}
