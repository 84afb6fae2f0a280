package models

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/layers"
)

// opened is a file in memory that holds the tensors.
func opened(t *testing.T, tensors map[string]checkpoints.Tensor) *checkpoints.Safetensors {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, checkpoints.WriteSafetensors(&b, slices.Collect(maps.Values(tensors))))
	f, err := checkpoints.ReadSafetensors(bytes.NewReader(b.Bytes()), int64(b.Len()), "model.safetensors")
	require.NoError(t, err)
	return f
}

// tensorsOf are the weights of a model by name.
func tensorsOf(p *layers.Params) map[string]checkpoints.Tensor {
	all := map[string]checkpoints.Tensor{}
	for _, x := range Tensors(p) {
		all[x.Name] = x
	}
	return all
}

// rename moves a tensor, or changes it.
func rename(all map[string]checkpoints.Tensor, from, to string) {
	x := all[from]
	delete(all, from)
	x.Name = to
	all[to] = x
}

// TestWeightsUnderTheirNames: a file gives the model its weights, also without the prefix of the base model, beside masks of old
// versions and a copy of the tied table, and in the other precision.
func TestWeightsUnderTheirNames(t *testing.T) {
	for name, text := range small {
		t.Run(name, func(t *testing.T) {
			m, params := load(t, text)
			all := tensorsOf(params)
			if m.Type() != "decoder" {
				for n := range tensorsOf(params) {
					rename(all, n, strings.TrimPrefix(n, "transformer."))
				}
				for _, n := range []string{"h.0.attn.bias", "h.1.attn.masked_bias", "h.0.attn.attention.bias", "h.1.attn.attention.masked_bias"} {
					all[n] = checkpoints.Tensor{Name: n, Shape: []int{1, 1, 3, 3}, Data: make([]uint8, 9)}
				}
			}
			if c, ok := m.(Causal); ok && !c.causal().untied {
				table, _ := params.Get(c.causal().names.tokens + ".weight")
				all["lm_head.weight"] = Tensor("lm_head.weight", table.Value)
			}
			got, err := Weights(m, opened(t, all), tensor.Float64)
			require.NoError(t, err)
			require.Equal(t, params.Len(), got.Len())
			for _, p := range params.All() {
				q, ok := got.Get(p.Name)
				require.True(t, ok, p.Name)
				require.Equal(t, p.Value.Float64s(), q.Value.Float64s(), p.Name)
			}
			single, err := Weights(m, opened(t, all), tensor.Float32)
			require.NoError(t, err)
			for _, p := range params.All() {
				q, _ := single.Get(p.Name)
				for i, v := range p.Value.Float64s() {
					require.Equal(t, float32(v), q.Value.Float32s()[i], p.Name)
				}
			}
		})
	}
}

// TestWeightsErrors: everything that does not fit is listed at once.
func TestWeightsErrors(t *testing.T) {
	const bias, table, mask = "transformer.h.1.mlp.c_fc.bias", "transformer.wte.weight", "transformer.h.0.attn.bias"
	for _, c := range []struct {
		name   string
		model  string
		change func(all map[string]checkpoints.Tensor)
		want   WeightsError
		text   string
	}{
		{"missing", "gpt2", func(all map[string]checkpoints.Tensor) { delete(all, bias) },
			WeightsError{Missing: []string{bias}}, "missing: " + bias},
		{"unknown", "gpt2", func(all map[string]checkpoints.Tensor) { rename(all, bias, "transformer.h.1.mlp.c_fc.bais") },
			WeightsError{Missing: []string{bias}, Unknown: []string{"transformer.h.1.mlp.c_fc.bais"}}, "not part of the model: transformer.h.1.mlp.c_fc.bais"},
		{"transposed", "gpt2", func(all map[string]checkpoints.Tensor) {
			x := all[table]
			x.Shape = []int{24, 37}
			all[table] = x
		}, WeightsError{Shape: []string{table + ": [24 37], want (37, 24)"}}, "of the wrong shape: " + table},
		{"twice, and not alike", "gpt2", func(all map[string]checkpoints.Tensor) {
			x := all[table]
			x.Name, x.Data = "wte.weight", make([]float32, 37*24)
			all[x.Name] = x
		}, WeightsError{Unequal: []string{"wte.weight: a copy of " + table}}, "not the same: wte.weight: a copy of " + table},
		{"a head that is not the tied table", "gpt2", func(all map[string]checkpoints.Tensor) {
			all["lm_head.weight"] = checkpoints.Tensor{Name: "lm_head.weight", Shape: []int{37, 24}, Data: make([]float32, 37*24)}
		}, WeightsError{Unequal: []string{table + ": a copy of lm_head.weight"}}, "not the same"},
		{"no head", "decoder learned, untied, reversible", func(all map[string]checkpoints.Tensor) { delete(all, "lm_head.weight") },
			WeightsError{Missing: []string{"lm_head.weight"}}, "missing: lm_head.weight"},
		{"a mask is no weight of ours", "decoder rotary", func(all map[string]checkpoints.Tensor) {
			all[mask] = checkpoints.Tensor{Name: mask, Shape: []int{1}, Data: []uint8{1}}
		}, WeightsError{Unknown: []string{mask}}, mask},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, params := load(t, small[c.model])
			all := tensorsOf(params)
			c.change(all)
			_, err := Weights(m, opened(t, all), tensor.Float32)
			var e *WeightsError
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.want, *e)
			require.ErrorContains(t, err, c.text)
			require.NotContains(t, err.Error(), "\n")
		})
	}

	m, params := load(t, small["gpt2"])
	_, err := Weights(m, opened(t, map[string]checkpoints.Tensor{}), tensor.Float32)
	var e *WeightsError
	require.ErrorAs(t, err, &e)
	require.Len(t, e.Missing, params.Len())
	require.ErrorContains(t, err, "and 23 more")

	all := tensorsOf(params)
	x := all[bias]
	x.Data = make([]int32, x.Shape[0])
	all[bias] = x
	_, err = Weights(m, opened(t, all), tensor.Float32)
	require.ErrorIs(t, err, checkpoints.ErrInvalid, "numbers that are not floating point")
	require.ErrorContains(t, err, bias)
}

// TestStart: another head starts afresh, all else is read; what does not fit elsewhere is a fault.
func TestStart(t *testing.T) {
	for _, c := range []struct {
		from, to    string
		fresh, left []string
	}{
		{encoders[0].text, strings.Replace(encoders[0].text, `"masked_lm"`, `"sequence_classification","num_labels":4`, 1),
			[]string{"head.out.weight", "head.out.bias"}, []string{"head.bias", "head.dense.bias", "head.dense.weight", "head.norm.bias", "head.norm.weight"}},
		{encoders[4].text, strings.Replace(encoders[4].text, `"num_labels":2`, `"num_labels":3`, 1), []string{"head.out.bias", "head.out.weight"}, nil},
		{`{` + smallBert + `}`, `{` + smallBert + `,"task":"sequence_classification"}`,
			[]string{"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"},
			[]string{"cls.predictions.bias", "cls.predictions.transform.LayerNorm.bias", "cls.predictions.transform.LayerNorm.weight",
				"cls.predictions.transform.dense.bias", "cls.predictions.transform.dense.weight"}},
		{small["gpt2"], small["gpt2"], nil, nil},
	} {
		_, old := load(t, c.from)
		m, err := New([]byte(c.to))
		require.NoError(t, err)
		got, fresh, left, err := Start(m, opened(t, tensorsOf(old)), tensor.Float64, 3)
		require.NoError(t, err)
		require.Equal(t, c.fresh, fresh)
		require.Equal(t, c.left, left)
		initial, err := NewParams(m, tensor.Float64, 3)
		require.NoError(t, err)
		for _, p := range got.All() {
			of := old
			if slices.Contains(fresh, p.Name) {
				of = initial
			}
			want, ok := of.Get(p.Name)
			require.True(t, ok)
			require.Equal(t, want.Value.Float64s(), p.Value.Float64s(), p.Name)
		}
	}
	m, old := load(t, encoders[0].text)
	all := tensorsOf(old)
	delete(all, "encoder.ln_f.bias")
	delete(all, "head.bias")
	_, _, _, err := Start(m, opened(t, all), tensor.Float64, 3)
	var faults *WeightsError
	require.ErrorAs(t, err, &faults)
	require.Equal(t, WeightsError{Missing: []string{"encoder.ln_f.bias"}}, *faults)
}
