package models

import (
	"fmt"
	"testing"
	"time"

	"gorgonia.org/tensor"
)

// BenchmarkDraw draws images of 28x28 by an Axial Transformer and by a dense decoder of its size, which keeps its keys and values, in turn: milliseconds an
// image of each, and how many times faster the first is, by the fastest of all rounds. go test ./models -run XXX -bench Draw -benchtime 5x -cpu 1
func BenchmarkDraw(b *testing.B) {
	const sizes = `"task":"image_density","vocab_size":16,"hidden_size":128,"intermediate_size":512,"num_attention_heads":4`
	parts := [2]string{
		`{"model_type":"axial_transformer","height":28,"width":28,"encoder_layers":0,"outer_layers":2,"inner_layers":2,` + sizes + `}`,
		`{"model_type":"decoder","num_hidden_layers":4,"max_position_embeddings":784,"position_embedding_type":"factorized","position_shape":[28,28],"tie_word_embeddings":false,
			"lm_head_bias":true,"hidden_act":"quick_gelu","attention":[{"type":"full"}],` + sizes + `}`,
	}
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprint(n, "images"), func(b *testing.B) {
			var draw [2]func() error
			for i, text := range parts {
				m, err := New([]byte(text))
				if err != nil {
					b.Fatal(err)
				}
				params, err := NewParams(m, tensor.Float32, 1)
				if err != nil {
					b.Fatal(err)
				}
				if a, ok := m.(*AxialTransformer); ok {
					draw[i] = func() error {
						drawn := int32(0)
						_, err := a.Paint(params, Painting{Images: n, Next: func(int, []float32) int32 {
							drawn++
							return drawn % 16
						}})
						return err
					}
					continue
				}
				draw[i] = func() error {
					s, err := NewSession(m.(Causal), params, 784)
					if err != nil {
						return err
					}
					s.Select(make([]int, n))
					next := make([]int32, n)
					for t := range 784 {
						if _, err := s.Step(next...); err != nil {
							return err
						}
						next[0] = int32(t % 16)
					}
					return nil
				}
			}
			best := [2]time.Duration{1 << 60, 1 << 60}
			for range b.N {
				for i := range draw {
					start := time.Now()
					if err := draw[i](); err != nil {
						b.Fatal(err)
					}
					best[i] = min(best[i], time.Since(start))
				}
			}
			b.ReportMetric(best[0].Seconds()*1000/float64(n), "axial-ms/image")
			b.ReportMetric(best[1].Seconds()*1000/float64(n), "dense-ms/image")
			b.ReportMetric(best[1].Seconds()/best[0].Seconds(), "times-faster")
		})
	}
}
