package train

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train/policy"
)

// Policy says how the layers of a model that choose learn to (attention on predicted edges): by what their choices were worth to the task. The
// reward of an example is the mean log-likelihood of what it had to tell. The weights that choose have an optimiser of their own; the
// rest of the model learns as always, given what was chosen.
//
// Source: Li et al. 2020, SAC, section 3.3 (REINFORCE, a running mean as baseline); the rest is ours.
type Policy struct {
	LR          float64 `json:"lr"` // constant
	AdamBeta1   float64 `json:"adam_beta1"`
	AdamBeta2   float64 `json:"adam_beta2"`
	AdamEpsilon float64 `json:"adam_epsilon"`
	GradClip    float64 `json:"grad_clip"` // largest norm of the gradient of the weights that choose; 0 = no clipping

	Baseline string  `json:"baseline"`       // ema, leave_one_out, batch_mean, self_critical, none: the reward that was to be expected
	Decay    float64 `json:"baseline_decay"` // of the moving means
	Rollouts int     `json:"rollouts"`       // choices for each example, a divisor of batch_size: the examples of a batch are that many fewer

	ModelEvery int `json:"model_every"` // the rest of the model is updated every so many steps of those with choices
}

// DefaultPolicy are the settings of a model that chooses and of whose training nothing is said.
func DefaultPolicy() Policy {
	return Policy{LR: 3e-3, AdamBeta1: 0.9, AdamBeta2: 0.999, AdamEpsilon: 1e-8, GradClip: 1, Baseline: policy.EMA, Decay: 0.99, Rollouts: 1, ModelEvery: 2}
}

// UnmarshalJSON reads a policy; what it does not say is as in DefaultPolicy.
func (p *Policy) UnmarshalJSON(raw []byte) error {
	type plain Policy
	v := plain(DefaultPolicy())
	err := config.Decode(raw, &v)
	*p = Policy(v)
	return err
}

// policy is that of the config, or the default.
func (c Config) policy() Policy {
	if c.Policy == nil {
		return DefaultPolicy()
	}
	return *c.Policy
}

// validatePolicy reports the faults of the policy.
func (c Config) validatePolicy(want func(ok bool, path string, value any, want string)) {
	if c.Policy == nil {
		return
	}
	p := *c.Policy
	want(p.LR > 0, "policy.lr", p.LR, "more than 0")
	want(p.AdamBeta1 >= 0 && p.AdamBeta1 < 1, "policy.adam_beta1", p.AdamBeta1, "from 0 to less than 1")
	want(p.AdamBeta2 >= 0 && p.AdamBeta2 < 1, "policy.adam_beta2", p.AdamBeta2, "from 0 to less than 1")
	want(p.AdamEpsilon > 0, "policy.adam_epsilon", p.AdamEpsilon, "more than 0")
	want(p.GradClip >= 0, "policy.grad_clip", p.GradClip, "at least 0 (0 = no clipping)")
	want(slices.Contains(policy.BaselineNames(), p.Baseline), "policy.baseline", p.Baseline, "one of "+strings.Join(policy.BaselineNames(), ", "))
	want(p.Decay >= 0 && p.Decay < 1, "policy.baseline_decay", p.Decay, "from 0 to less than 1")
	want(p.Rollouts >= 1 && c.BatchSize%max(p.Rollouts, 1) == 0, "policy.rollouts", p.Rollouts, fmt.Sprintf("a divisor of batch_size (%d)", c.BatchSize))
	want(p.Baseline != policy.LeaveOneOut || p.Rollouts >= 2, "policy.rollouts", p.Rollouts, "at least 2 with leave_one_out")
	want(p.ModelEvery >= 1, "policy.model_every", p.ModelEvery, "at least 1")
}

// rollouts is how many rows of a batch belong to one example.
func (c Config) rollouts() int { return max(c.policy().Rollouts, 1) }

// policyGraph is the part of a graph that learns from rewards.
type policyGraph struct {
	baseline, scale          gorgonia.Value // inputs: [B] and [1]
	weight                   gorgonia.Value // [1] factor of the loss
	rewards, loss, entropies gorgonia.Value // [B], [1], [1]
}

// told is a node whose value is told after a run.
type told struct {
	node *layers.Node
	to   *gorgonia.Value
}

// rewarded adds the reward of each example.
func (g *Graph) rewarded(b *layers.Builder, rows *layers.Node) *layers.Node {
	targets := g.targets
	if targets != nil && targets.Shape().TotalSize() != rows.Shape().TotalSize() {
		targets = nil
	}
	return policy.Rewards(b.Scope("policy"), rows, targets)
}

func (g *Graph) tellRewards(b *layers.Builder, rows *layers.Node) []told {
	return []told{{g.rewarded(b, rows), &g.rewards}}
}

// addPolicy adds the loss of what the layers chose, and what is told of it.
func (g *Graph) addPolicy(b *layers.Builder, p Policy, rows *layers.Node) (*layers.Node, []told) {
	pb := b.Scope("policy")
	rewards := g.rewarded(b, rows)
	baseline, scale := pb.Input("policy.baseline", b.Dtype(), g.B), pb.Input("policy.scale", b.Dtype(), 1)
	loss := policy.Loss(pb, b.Choices(), policy.Advantages(pb, p.Baseline, p.Rollouts, rewards, baseline, scale))
	g.policy = &policyGraph{baseline: layers.InputValue(baseline), scale: layers.InputValue(scale)}
	return loss, []told{{rewards, &g.policy.rewards}, {loss, &g.policy.loss}, {policy.Entropy(pb, b.Choices()), &g.policy.entropies}}
}

// choosing is what of a trainer learns from rewards. Progress is part of a checkpoint.
type choosing struct {
	adam *AdamW
	lessons
	greedy *Graph // for the baseline self_critical
}

// lessons are the progress of learning from rewards.
type lessons struct {
	policy.Past
	Steps   int `json:"steps"`   // updates of the weights that choose
	Skipped int `json:"skipped"` // steps in which the rest of the model was left alone
}

// PolicyEvent tells what choices were worth in a step.
type PolicyEvent struct {
	Reward   float64 `json:"reward"`    // mean log-likelihood of an example
	Baseline float64 `json:"baseline"`  // what was expected
	Scale    float64 `json:"scale"`     // deviation of past rewards
	Entropy  float64 `json:"entropy"`   // of a choice, nats
	Loss     float64 `json:"loss"`      // whose gradient the weights that choose follow
	GradNorm float64 `json:"grad_norm"` // of these weights, before clipping
}

// ofGroup are the gradients of the weights of a group, in order.
func ofGroup(group string, weights []*layers.Param, grads []gorgonia.Value) (own []gorgonia.Value) {
	for i, p := range weights {
		if p.Group == group {
			own = append(own, grads[i])
		}
	}
	return own
}

// optimisers makes those of the weights of a graph.
func (t *Trainer) optimisers(weights []*layers.Param) {
	var rest, own []*layers.Param
	for _, p := range weights {
		if p.Group == layers.ChoosingWeights {
			own = append(own, p)
		} else {
			rest = append(rest, p)
		}
	}
	t.weights, t.Adam, t.choosing = weights, NewAdamW(rest), nil
	if len(own) > 0 {
		t.choosing = &choosing{adam: NewAdamW(own)}
	}
}

// moments calls f for the moments of all optimisers.
func (t *Trainer) moments(f func(name string, value *tensor.Dense) error) error {
	if err := t.Adam.Moments(f); err != nil || t.choosing == nil {
		return err
	}
	return t.choosing.adam.Moments(f)
}

// expect fills in what the rewards of a batch are held against.
func (t *Trainer) expect(b *data.Batch) error {
	g := t.graph.policy
	if g == nil {
		return nil
	}
	p := t.Config.policy()
	mean, scale := t.choosing.Baseline(p.Decay)
	fillWith(g.scale, scale)
	fillWith(g.weight, 1/float64(len(t.batches)))
	switch p.Baseline {
	case policy.None:
		fillWith(g.baseline, 0)
	case policy.SelfCritical:
		return t.choosing.imitate(t.graph, b)
	default:
		fillWith(g.baseline, mean)
	}
	return nil
}

// imitate fills in the rewards of the likeliest choices.
func (c *choosing) imitate(g *Graph, b *data.Batch) error {
	c.greedy.load(b)
	if err := c.greedy.Program.Run(); err != nil {
		return err
	}
	if v := g.policy.baseline; engine.IsF32(v) {
		copy(engine.Floats[float32](v), engine.Floats[float32](c.greedy.rewards))
	} else {
		copy(engine.Floats[float64](v), engine.Floats[float64](c.greedy.rewards))
	}
	return nil
}

// earnings add up over the batches of a step.
type earnings struct {
	n                                   int
	reward, square, loss, entropy, mean float64
}

func (t *Trainer) note(r *earnings) {
	g := t.graph.policy
	if g == nil {
		return
	}
	r.mean, _ = t.choosing.Baseline(t.Config.policy().Decay)
	each := func(x float64) {
		r.n++
		r.reward += x
		r.square += (x - r.mean) * (x - r.mean)
	}
	if engine.IsF32(g.rewards) {
		for _, x := range engine.Floats[float32](g.rewards) {
			each(float64(x))
		}
	} else {
		for _, x := range engine.Floats[float64](g.rewards) {
			each(x)
		}
	}
	r.loss += sum(g.loss) / float64(len(t.batches))
	r.entropy += sum(g.entropies) / float64(len(t.batches))
}

// learn updates the weights that choose and what is known of past rewards. It reports whether the rest of the model is updated in this step.
func (t *Trainer) learn(e *StepEvent, r earnings, own []gorgonia.Value) (rest bool) {
	if t.graph.policy == nil {
		return true
	}
	c, p := t.choosing, t.Config.policy()
	mean, scale := c.Baseline(p.Decay)
	e.Policy = &PolicyEvent{Reward: r.reward / float64(r.n), Baseline: mean, Scale: scale, Entropy: r.entropy, Loss: r.loss, GradNorm: GlobalNorm(own)}
	c.adam.Update(Config{AdamBeta1: p.AdamBeta1, AdamBeta2: p.AdamBeta2, AdamEpsilon: p.AdamEpsilon}, p.LR, ClipFactor(e.Policy.GradNorm, p.GradClip), own)
	c.Note(p.Decay, r.reward/float64(r.n), r.square/float64(r.n))
	c.Steps = c.adam.Step
	return c.Steps%p.ModelEvery == 0
}

// expectations compiles what the baseline of a phase needs.
func (t *Trainer) expectations(p phase, m models.Model) error {
	if p.graph.policy == nil || t.Config.policy().Baseline != policy.SelfCritical {
		return nil
	}
	g, err := NewGraph(m, t.Params, p.batches[0], GraphOptions{Seed: t.Config.Seed, rewards: true})
	if err == nil {
		t.choosing.greedy = g
	}
	return err
}

// restoreChoosing takes up what a checkpoint knows of learning from rewards.
func (t *Trainer) restoreChoosing(p *lessons) error {
	if t.choosing == nil || p == nil {
		return nil
	}
	if p.Steps < 0 || p.Skipped < 0 || math.IsNaN(p.Mean+p.Spread) {
		return fmt.Errorf("state.json: policy is %+v, want counts and numbers", *p)
	}
	t.choosing.lessons, t.choosing.adam.Step, t.Adam.skipped = *p, p.Steps, p.Skipped
	return nil
}
