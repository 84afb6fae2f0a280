package train

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train/policy"
)

// choosingModel is an encoder on predicted edges; more are further fields of its entry.
func choosingModel(more string) string {
	return fmt.Sprintf(`{"model_type":"encoder","task":"sequence_classification","vocab_size":13,"hidden_size":12,"num_hidden_layers":2,"num_attention_heads":2,
		"max_position_embeddings":11,"position_embedding_type":"learned","num_labels":2,"initializer_range":0.3,"attention":[{"type":"sac","predictor_size":5%s}]}`, more)
}

// choosingJob trains it with all pairs for three steps, then on its own edges.
func choosingJob(p Policy) Job {
	j := DefaultJob()
	j.Model = json.RawMessage(choosingModel(""))
	j.Data = data.Config{Task: "pointer(length=11,train=200,val=8,test=8)"}
	j.Train.Steps, j.Train.SequenceLength, j.Train.BatchSize, j.Train.GlobalBatch = 11, 11, 6, 12
	j.Train.EvalEvery, j.Train.SaveEvery, j.Train.SaveTotalLimit, j.Train.WarmupSteps = 5, 4, 9, 2
	j.Train.Stages = []Stage{{Steps: 3, Model: json.RawMessage(`{"attention":[{"type":"sac","predictor_size":5,"plan":"full"}]}`)}}
	j.Train.Policy = &p
	return j
}

// policies are the events of the steps in metrics.jsonl.
func policies(t *testing.T, dir string) (all []*PolicyEvent) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		var e StepEvent
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		if e.Event == "step" {
			all = append(all, e.Policy)
		}
	}
	return all
}

// A run that stops anywhere goes on to the same bits: weights, moments of both optimisers, what is known of past rewards, draws.
func TestPolicyResumes(t *testing.T) {
	for _, name := range policy.BaselineNames() {
		t.Run(name, func(t *testing.T) {
			p := DefaultPolicy()
			p.Baseline, p.ModelEvery = name, 3
			if name == policy.LeaveOneOut {
				p.Rollouts = 3
			}
			whole, parts := t.TempDir(), t.TempDir()
			finish(t, start(t, whole, choosingJob(p)), 0)
			finish(t, start(t, parts, choosingJob(p)), 2)
			for _, until := range []int{4, 6, 0} {
				r, err := Resume(parts, nil, Options{})
				require.NoError(t, err)
				finish(t, r, until)
			}
			a, b := checkpoint(t, whole, 11), checkpoint(t, parts, 11)
			require.Equal(t, a["model.safetensors"], b["model.safetensors"])
			require.Equal(t, a["optimizer.safetensors"], b["optimizer.safetensors"])
			var s, other struct {
				State struct{ Policy *lessons }
			}
			require.NoError(t, json.Unmarshal([]byte(a["state.json"]), &s))
			require.NoError(t, json.Unmarshal([]byte(b["state.json"]), &other))
			require.Equal(t, s, other)
			require.Equal(t, 8, s.State.Policy.Steps)
			require.Equal(t, 6, s.State.Policy.Skipped, "two of three steps with choices leave the model alone")
			require.Equal(t, 8, s.State.Policy.Count)
			events := policies(t, whole)
			require.Equal(t, events, policies(t, parts))
			for step, e := range events {
				require.Equal(t, step >= 3, e != nil, "no rewards while all pairs are read")
				if e != nil {
					require.Negative(t, e.Reward)
					require.Positive(t, e.Entropy)
					require.Positive(t, e.GradNorm)
				}
			}
			if name == policy.LeaveOneOut {
				_, err := Resume(parts, func(c *Config) error { c.Policy.Rollouts, c.Policy.Baseline = 1, policy.EMA; return nil }, Options{})
				var changed *ChangedError
				require.ErrorAs(t, err, &changed)
				require.ErrorContains(t, err, "policy.rollouts")
			}
		})
	}
}

// While all pairs are read the predictor stays as it is; of the steps with choices each changes it, and only every so many the rest.
func TestPolicyHasItsTurns(t *testing.T) {
	p := DefaultPolicy()
	r := start(t, t.TempDir(), choosingJob(p))
	defer func() { require.NoError(t, r.Close()) }()
	copies := func() (choosing, rest [][]float32) {
		for _, w := range r.Trainer.Params.All() {
			v := append([]float32(nil), w.Value.Float32s()...)
			if w.Group == layers.ChoosingWeights {
				choosing = append(choosing, v)
			} else {
				rest = append(rest, v)
			}
		}
		return choosing, rest
	}
	for step := 1; step <= 7; step++ {
		c, m := copies()
		require.Len(t, c, 9)
		_, err := r.Trainer.Step()
		require.NoError(t, err)
		d, n := copies()
		if step <= 3 {
			require.Equal(t, c, d, "step %d", step)
		} else {
			require.NotEqual(t, c, d, "step %d", step)
		}
		if step <= 3 || step%2 == 1 {
			require.NotEqual(t, m, n, "step %d", step)
		} else {
			require.Equal(t, m, n, "step %d", step)
		}
	}
}

// choosingGraph is the graph of a training step of a model, loaded with a batch.
func choosingGraph(t *testing.T, entry, recompute string, residual ...string) *Graph {
	t.Helper()
	text := choosingModel(entry)
	if len(residual) > 0 {
		text = fmt.Sprintf(`{"residual":%q,`, residual[0]) + text[1:]
	}
	m, err := models.New([]byte(text))
	require.NoError(t, err)
	params, err := models.NewParams(m, tensor.Float64, 5)
	require.NoError(t, err)
	corpus, err := data.Load(data.Config{Task: "pointer(length=11)"})
	require.NoError(t, err)
	b := corpus.Train.Shape(11).NewBatch(6, 11)
	s, err := corpus.Train.Sampler(11, 1)
	require.NoError(t, err)
	s.Fill(0, b)
	g, err := NewGraph(m, params, b, GraphOptions{Seed: 5, Train: true, Recompute: recompute, Policy: DefaultPolicy()})
	require.NoError(t, err)
	g.load(b)
	fillWith(g.policy.scale, 1)
	fillWith(g.policy.baseline, -0.5)
	return g
}

// gradients are those of a graph with factors of the task's loss and of the choices', of the weights that choose and of the rest.
func (g *Graph) gradients(t *testing.T, task, chosen float64) (own, rest []float64) {
	t.Helper()
	g.setWeights(task/6, 0)
	fillWith(g.policy.weight, chosen)
	require.NoError(t, g.Program.Run())
	for i, p := range g.Params {
		x := engine.Floats[float64](g.grads[i])
		if p.Group == layers.ChoosingWeights {
			own = append(own, x...)
		} else {
			rest = append(rest, x...)
		}
	}
	return own, rest
}

// The two losses are kept apart: weights that choose learn from rewards alone, the rest from the task alone, unless features pass gradients on;
// then the rest gets the sum.
func TestPolicyBookkeeping(t *testing.T) {
	for _, sharing := range []string{"shared", "layer", "head"} {
		g := choosingGraph(t, fmt.Sprintf(`,"sharing":%q`, sharing), "none")
		own, rest := g.gradients(t, 1, 0)
		require.Equal(t, make([]float64, len(own)), own, sharing)
		require.Positive(t, norm(rest))
		own, rest = g.gradients(t, 0, 1)
		require.Positive(t, norm(own))
		require.Equal(t, make([]float64, len(rest)), rest, sharing)

		g = choosingGraph(t, fmt.Sprintf(`,"sharing":%q,"backprop_features":true`, sharing), "none")
		_, task := g.gradients(t, 1, 0)
		_, chosen := g.gradients(t, 0, 1)
		_, both := g.gradients(t, 1, 1)
		require.Positive(t, norm(chosen))
		for i, x := range both {
			require.InDelta(t, task[i]+chosen[i], x, 1e-12)
		}

		// Rewards that are as expected, and no weight of the entropy: nothing is learned.
		g = choosingGraph(t, fmt.Sprintf(`,"sharing":%q,"entropy_weight":0`, sharing), "none")
		own, _ = g.gradients(t, 0, 1)
		require.Positive(t, norm(own))
		copy(engine.Floats[float64](g.policy.baseline), engine.Floats[float64](g.policy.rewards))
		own, _ = g.gradients(t, 0, 1)
		require.Equal(t, make([]float64, len(own)), own, sharing)
	}
}

func norm(x []float64) (n float64) {
	for _, v := range x {
		n += v * v
	}
	return n
}

// Blocks that are computed again for the gradient choose what they chose: the same bits.
func TestPolicyRecompute(t *testing.T) {
	for _, sharing := range []string{"shared", "head"} {
		entry := fmt.Sprintf(`,"sharing":%q`, sharing)
		own, rest := choosingGraph(t, entry, "none").gradients(t, 1, 1)
		for _, r := range []string{"cheap", "block", "every:2"} {
			o, m := choosingGraph(t, entry, r).gradients(t, 1, 1)
			require.Equal(t, own, o, r)
			require.Equal(t, rest, m, r)
		}
	}
}

func TestBadPolicy(t *testing.T) {
	c := DefaultConfig()
	c.BatchSize = 6
	require.NoError(t, json.Unmarshal([]byte(`{"rollouts":3}`), &c.Policy))
	require.Equal(t, DefaultPolicy().LR, c.Policy.LR, "what is not said is as ever")
	require.NoError(t, c.Validate())
	for text, want := range map[string]string{
		`{"rollouts":4}`: "a divisor of batch_size (6)", `{"baseline":"best"}`: "one of ema", `{"baseline":"leave_one_out"}`: "at least 2", `{"lr":0}`: "policy.lr",
		`{"model_every":0}`: "policy.model_every", `{"baseline_decay":1}`: "baseline_decay", `{"adam_beta1":1,"adam_beta2":-1,"adam_epsilon":0,"grad_clip":-1}`: "policy.adam_epsilon",
	} {
		var p *Policy
		require.NoError(t, json.Unmarshal([]byte(text), &p))
		c.Policy = p
		require.ErrorContains(t, c.Validate(), want, text)
	}
	require.Error(t, json.Unmarshal([]byte(`{"learning_rate":1}`), new(Policy)))
}
