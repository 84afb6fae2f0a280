package kernels

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAttentionFloat64(t *testing.T) {
	causal := func(_, _, i, j int) bool { return j <= i }
	band := func(_, h, i, j int) bool { return j <= i && j > i-70-h }
	for name, c := range map[string]attnCase{
		"one":    {b: 1, h: 1, tq: 1, tk: 1, d: 8, dv: 8, sees: causal},
		"causal": {b: 2, h: 3, tq: 130, tk: 130, d: 7, dv: 5, sees: causal, dLSE: true},
		"band":   {b: 1, h: 2, tq: 257, tk: 257, d: 8, dv: 16, sees: band},
		"cross":  {b: 2, h: 1, tq: 65, tk: 131, d: 5, dv: 3, sees: func(_, _, i, j int) bool { return (i*7+j*3)%5 > 1 }},
		"lens": {b: 3, h: 2, tq: 130, tk: 130, d: 5, dv: 3, sees: func(_, _, i, j int) bool { return i != 3 && (i-j)%3 != 1 },
			lensQ: []int32{130, 0, 67}, lensK: []int32{65, 130, 1}, dLSE: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.scale, c.seed = 0.3, 1
			x := c.data()
			want := attnReference[float64](&c, x)
			requireClose(t, want, want, attnRun[float64](t, &c, x), 1, 1e-12)
			require.NotZero(t, worst(want.dk, make([]float64, len(want.dk)))+float64(1-c.tq/2))
		})
	}
}
