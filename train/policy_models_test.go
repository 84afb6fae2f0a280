package train

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/models"
)

// Gradients of both losses, by finite differences at the same draws, whether layers keep what they computed or are reversible.
func TestPolicyGradients(t *testing.T) {
	for _, residual := range []string{"plain", "reversible"} {
		for _, sharing := range []string{"shared", "head"} {
			g := choosingGraph(t, fmt.Sprintf(`,"sharing":%q`, sharing), "none", residual)
			own, rest := g.gradients(t, 1, 1)
			task := func() float64 { return sum(g.rows) / 6 }
			chosen := func() float64 { return sum(g.policy.loss) }
			for _, p := range g.Params {
				value, grads := task, &rest
				if p.Group == layers.ChoosingWeights {
					value, grads = chosen, &own
				}
				v := p.Value.Float64s()
				for k := 0; k < len(v); k += 1 + len(v)/3 {
					const h = 1e-6
					x := v[k]
					v[k] = x + h
					require.NoError(t, g.Program.Run())
					up := value()
					v[k] = x - h
					require.NoError(t, g.Program.Run())
					d := (up - value()) / (2 * h)
					v[k] = x
					require.InDelta(t, d, (*grads)[k], 1e-6, "%s, %s: %s[%d]", residual, sharing, p.Name, k)
				}
				*grads = (*grads)[len(v):]
			}
		}
	}
}

// Both halves of an encoder-decoder choose, each with a predictor of its own; a decoder of causal choices is one.
func TestChoicesOfSkeletons(t *testing.T) {
	half := `{"num_hidden_layers":2,"num_attention_heads":2,"max_position_embeddings":13,"attention":[{"type":"sac","predictor_size":3%s}]}`
	for text, want := range map[string][]string{
		fmt.Sprintf(`{"model_type":"encoder_decoder","vocab_size":11,"hidden_size":8,"decoder_start_token_id":0,"pad_token_id":1,"encoder":`+half+`,"decoder":`+half+`}`, ``, `,"mode":"perNode","alpha":2,"causal_predictor":true`): {"encoder.h.0.attn", "decoder.h.0.attn"},
		`{"model_type":"decoder","vocab_size":11,"hidden_size":8,` + fmt.Sprintf(half, `,"sharing":"layer"`)[1:]:                                                                                                                     {"decoder.h.0.attn", "decoder.h.1.attn"},
	} {
		m, err := models.New([]byte(text))
		require.NoError(t, err)
		params, err := models.NewParams(m, tensor.Float64, 3)
		require.NoError(t, err)
		b := layers.New(gorgonia.NewGraph(), params, layers.Options{Training: true})
		ids := func(name string) *layers.Node { return b.Input(name, tensor.Int32, 2, 7) }
		in := models.Inputs{IDs: ids("ids")}
		if strings.Contains(text, "encoder_decoder") {
			in.TargetIDs = ids("targets")
		}
		out := m.Forward(b, in, 0)
		require.NoError(t, b.Err())
		var scopes []string
		for _, c := range b.Choices() {
			scopes = append(scopes, c.Scope)
		}
		require.Equal(t, want, scopes)
		p, err := engine.Compile(b.Graph(), layers.Nodes{out.Logits}, engine.Options{})
		require.NoError(t, err)
		require.NoError(t, p.Run())
		require.True(t, finite(sum(p.Value(out.Logits))))
		predictors := map[string]bool{}
		for _, p := range params.All() {
			if at, _, is := strings.Cut(p.Name, ".predictor.start"); is {
				predictors[at] = true
			}
		}
		require.Len(t, predictors, 1+strings.Count(text, "causal_predictor"))
	}
}
