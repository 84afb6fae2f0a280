package train

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/engine"
	"github.com/euryale-ml/euryale/layers"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
)

// planOf is the plan of a training step of a decoder.
func planOf(t *testing.T, depth, length int, residual, recompute, entry string, more ...string) *engine.Plan {
	t.Helper()
	return planOfModel(t, length, recompute, fmt.Sprintf(`{"model_type":"decoder","vocab_size":64,"hidden_size":48,"intermediate_size":128,"num_hidden_layers":%d,"num_attention_heads":3,
		"max_position_embeddings":%d,"residual":%q,"hidden_dropout_prob":0.1,"attention":[%s]%s}`, depth, length, residual, entry, strings.Join(more, "")))
}

func planOfModel(t *testing.T, length int, recompute, text string) *engine.Plan {
	t.Helper()
	m, err := models.New([]byte(text))
	require.NoError(t, err)
	g, err := NewGraph(m, layers.NewParams(tensor.Float32), data.NewBatch(1, length), GraphOptions{Seed: 1, Train: true, Recompute: recompute})
	require.NoError(t, err)
	defer func() { require.NoError(t, g.Program.Close()) }()
	return g.Program.Plan()
}

// TestReversibleDepth: at 4,096 tokens what a reversible model plans for a step, less the gradients of the weights and what is chosen by content, grows by
// less than 5 % from 4 to 32 layers; anchors cost two streams each.
func TestReversibleDepth(t *testing.T) {
	const length, stream = 4096, 4096 * 48 * 4
	all := []string{`{"type":"band","window_left":127}`, `{"type":"full"}`}
	if slices.Contains(attention.EntryTypes(), "lsh") {
		all = append(all, `{"type":"lsh","chunk":32,"num_hashes":2},{"type":"local","chunk":32}`)
	}
	for _, entry := range all {
		few, many := planOf(t, 4, length, "reversible", "cheap", entry), planOf(t, 32, length, "reversible", "cheap", entry)
		require.LessOrEqual(t, float64(many.Passing), 1.05*float64(few.Passing), entry)
		// Outputs are gradients of weights and the loss of each row: nothing that grows is hidden there.
		require.Less(t, many.Outputs, 8*few.Outputs, entry)
		t.Logf("%s: passing %s and %s, chosen %s and %s", entry, engine.Bytes(few.Passing), engine.Bytes(many.Passing), engine.Bytes(few.Whole), engine.Bytes(many.Whole))
	}
	reformer := func(depth int, recompute string) *engine.Plan { // Hugging Face's own
		return planOfModel(t, length, recompute, fmt.Sprintf(`{"model_type":"reformer","is_decoder":true,"vocab_size":64,"hidden_size":48,"num_attention_heads":3,
			"attention_head_size":16,"feed_forward_size":128,"attn_layers":[%s],"num_hashes":2,"lsh_attn_chunk_length":32,"local_attn_chunk_length":32,"num_buckets":[16,16],
			"axial_pos_shape":[64,64],"axial_pos_embds_dim":[16,32],"max_position_embeddings":4096}`, strings.Repeat(`"local","lsh",`, depth/2-1)+`"local","lsh"`))
	}
	few, many := reformer(4, "cheap"), reformer(32, "cheap")
	require.LessOrEqual(t, float64(many.Passing), 1.05*float64(few.Passing), "reformer")
	require.Greater(t, reformer(32, "every:4").Passing, many.Passing+8*stream)
	t.Logf("reformer: passing %s and %s, chosen %s and %s", engine.Bytes(few.Passing), engine.Bytes(many.Passing), engine.Bytes(few.Whole), engine.Bytes(many.Whole))
	stored, block := planOf(t, 32, length, "plain", "none", all[0]), planOf(t, 32, length, "plain", "block", all[0])
	back, anchored := planOf(t, 32, length, "reversible", "cheap", all[0]), planOf(t, 32, length, "reversible", "every:4", all[0])
	require.Greater(t, stored.Passing, 10*back.Passing)
	require.Greater(t, block.Passing, 2*back.Passing)
	rows := planOf(t, 4, length, "plain", "cheap", all[0], `,"chunk_size_feed_forward":1024`)
	require.Less(t, float64(rows.Passing), 0.8*float64(planOf(t, 4, length, "plain", "cheap", all[0]).Passing), "the inner width is there for 1,024 rows at a time")
	require.InDelta(t, (8*2-1)*stream, anchored.Passing-back.Passing, 2*stream, "both streams of the first anchor are one")
}

// TestReversibleLearnsTheSame: computed back, with anchors, or with anchors so near that nothing is computed back, training goes the same way.
func TestReversibleLearnsTheSame(t *testing.T) {
	losses := map[string][]float64{}
	for _, recompute := range []string{"none", "cheap", "block", "every:2", "every:3"} {
		j := DefaultJob()
		j.Model = []byte(`{"model_type":"decoder","vocab_size":97,"hidden_size":24,"intermediate_size":40,"num_hidden_layers":6,"num_attention_heads":3,
			"max_position_embeddings":31,"residual":"reversible","hidden_dropout_prob":0.1,"attention":[{"type":"band","window_left":7},{"type":"full"}]}`)
		j.Data.Task = "needle(length=31)"
		j.Train.Steps, j.Train.SequenceLength, j.Train.BatchSize, j.Train.LR, j.Train.WarmupSteps, j.Train.Recompute = 40, 31, 8, 3e-3, 5, recompute
		m, err := j.Check()
		require.NoError(t, err)
		corpus, err := j.Load(m)
		require.NoError(t, err)
		params, err := models.NewParams(m, tensor.Float32, 1)
		require.NoError(t, err)
		trainer, err := NewTrainer(m, params, corpus.Train, j.Train)
		require.NoError(t, err)
		for range j.Train.Steps {
			e, err := trainer.Step()
			require.NoError(t, err)
			losses[recompute] = append(losses[recompute], e.Loss)
		}
	}
	last := len(losses["none"]) - 1
	for recompute, loss := range losses {
		for i := range loss {
			require.Less(t, math.Abs(loss[i]-losses["none"][i]), 1e-3, "%s, step %d", recompute, i+1)
		}
	}
	require.Less(t, losses["none"][last], losses["none"][0])
	require.Equal(t, losses["none"], losses["cheap"], "what is cheap has the same bits")
	require.Equal(t, losses["cheap"], losses["block"], "a layer is what is computed back at a time anyway")
	require.NotEqual(t, losses["cheap"], losses["every:2"], "anchors change the rounding")
}
