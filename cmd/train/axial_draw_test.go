package main

import (
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/internal/splitmix"
	"github.com/euryale-ml/euryale/models"
)

// gumbel draws by fixed noise: a level is the largest of logit - log(-log u), u of (image, how many it has, level).
type gumbel struct {
	drawn  []uint64
	logits []float32
}

func (g *gumbel) next(image int, logits []float32) int32 {
	g.logits = append(g.logits, logits...)
	best, largest := 0, math.Inf(-1)
	for level, x := range logits {
		u := (float64(splitmix.Mix(uint64(image)<<40+g.drawn[image]<<20+uint64(level))>>11) + 0.5) / (1 << 53)
		if y := float64(x) - math.Log(-math.Log(u)); y > largest {
			best, largest = level, y
		}
	}
	g.drawn[image]++
	return int32(best)
}

// TestPaintedRun draws four images by a trained Axial Transformer, the run that EURYALE_TEST_AXIAL names, row by row and by a pass of the whole network
// for each level: under the same noise they are the same.
func TestPaintedRun(t *testing.T) {
	run := os.Getenv("EURYALE_TEST_AXIAL")
	if run == "" {
		t.Skip("EURYALE_TEST_AXIAL names no run of an Axial Transformer")
	}
	l, err := (&app{out: &output{}}).load(run, nil)
	require.NoError(t, err)
	m, ok := l.model.(*models.AxialTransformer)
	require.True(t, ok)
	const n = 4
	fast, slow := &gumbel{drawn: make([]uint64, n)}, &gumbel{drawn: make([]uint64, n)}
	a, err := m.Paint(l.params, models.Painting{Images: n, Next: fast.next})
	require.NoError(t, err)
	b, err := m.PaintSlowly(l.params, models.Painting{Images: n, Next: slow.next})
	require.NoError(t, err)
	worst := 0.0
	for i, x := range fast.logits {
		worst = max(worst, math.Abs(float64(x-slow.logits[i])))
	}
	t.Logf("%d levels drawn, logits differ by %.1e at most", n*len(a[0]), worst)
	require.Equal(t, b, a)
}
