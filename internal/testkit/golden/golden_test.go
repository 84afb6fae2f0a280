package golden

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func allCases(t *testing.T) []*Case {
	root, err := Root()
	require.NoError(t, err)
	paths, err := Cases(root)
	require.NoError(t, err)
	var cases []*Case
	for _, p := range paths {
		c, err := Open(p)
		require.NoError(t, err)
		cases = append(cases, c)
	}
	return cases
}

// Every tensor compares equal with itself in both precisions, and with a spoiled copy in neither.
func TestEveryCaseCompares(t *testing.T) {
	seen := 0
	check := func(c *Case, full string, compare func(got any, p Precision) Result) {
		want := c.Tensor(full)
		for _, p := range []Precision{Float32, Float64} {
			require.True(t, compare(want.Float64s(), p).OK, "%s %s", c.ID(), full)
			for i := range want.Size() {
				bad := want.Float64s()
				bad[i] += 2*math.Abs(bad[i]) + 1e3*(1+largest(bad, func(int) bool { return true }))
				if math.IsNaN(bad[i]) {
					bad[i] = 0
				}
				r := compare(bad, p)
				if r.OK { // only a row that does not count may differ
					require.NotEmpty(t, c.Tolerance.CompareRows, "%s %s", c.ID(), full)
				} else {
					require.Equal(t, i, r.Worst)
				}
				if i > 3 {
					break
				}
			}
		}
		seen++
	}
	for _, c := range allCases(t) {
		for _, n := range c.Outputs() {
			full := "out64/" + n
			if c.Out64(n) == nil {
				full = "out/" + n
			}
			check(c, full, func(got any, p Precision) Result { return c.CompareOut(n, got, p) })
		}
		for _, n := range c.Names("grad/") {
			check(c, "grad/"+n, func(got any, p Precision) Result { return c.CompareGrad(n, got, p) })
		}
		for _, n := range c.Names("grad_in/") {
			check(c, "grad_in/"+n, func(got any, p Precision) Result { return c.CompareGradIn(n, got, p) })
		}
		for _, n := range c.Names("") {
			if !strings.Contains(n, "/") {
				check(c, n, func(got any, p Precision) Result { return c.CompareTensor(n, got, p) })
			}
		}
	}
	require.NotZero(t, seen)
}

func TestParams(t *testing.T) {
	for _, c := range allCases(t) {
		for _, n := range c.Params() {
			require.NotNil(t, c.Param(n), "%s %s", c.ID(), n)
		}
		for tied, stored := range c.Tied {
			require.Equal(t, c.Param(stored).F, c.Param(tied).F)
			require.NotNil(t, c.Param(tied), "%s %s", c.ID(), tied)
		}
		for _, n := range c.Names("grad/") {
			require.NotNil(t, c.Param(n), "%s %s", c.ID(), n)
			require.Equal(t, c.Param(n).Shape, c.Grad(n).Shape)
		}
		if c.HFFolder != "" {
			require.FileExists(t, filepath.Join(c.HFFolder, "config.json"))
			require.FileExists(t, filepath.Join(c.HFFolder, "model.safetensors"))
		}
		require.Nil(t, c.Param("no such parameter"))
	}
}

func testCase(rows string, tensors map[string]*Tensor) *Case {
	return &Case{System: "s", Name: "c", tensors: tensors, Tolerance: Tolerance{CompareRows: rows}, WithoutGrad: []string{"dead"}}
}

func TestTolerances(t *testing.T) {
	c := testCase("", map[string]*Tensor{
		"out/x":      {Shape: []int{3}, Dtype: "F32", F: []float64{1, -100, 3}},
		"out64/x":    {Shape: []int{3}, Dtype: "F64", F: []float64{1, -100, 3}},
		"out/single": {Shape: []int{}, Dtype: "F32", F: []float64{7}},
		"out/ids":    {Shape: []int{2}, Dtype: "I64", I: []int64{4, 5}},
		"grad/a":     {Shape: []int{1}, Dtype: "F32", F: []float64{50}},
		"grad/b":     {Shape: []int{1}, Dtype: "F64", F: []float64{50}},
		"param/dead": {Shape: []int{2}, Dtype: "F32", F: []float64{8, 9}},
	})
	x := func(d float64) []float64 { return []float64{1 + d, -100, 3} }
	require.True(t, c.CompareOut("x", x(0.9e-9), Float64).OK)
	require.False(t, c.CompareOut("x", x(1.1e-9), Float64).OK)
	require.True(t, c.CompareOut("x", x(0.01), Float32).OK) // 2e-5 + 1e-4*100
	require.False(t, c.CompareOut("x", x(0.0101), Float32).OK)
	require.True(t, c.CompareOut("single", 7.0007, Float64).OK) // recorded in float32 only
	require.False(t, c.CompareOut("single", 7.0009, Float64).OK)
	require.True(t, c.CompareOut("ids", []int32{4, 5}, Float32).OK)
	require.False(t, c.CompareOut("ids", []int32{4, 6}, Float32).OK)
	require.True(t, c.CompareGrad("a", []float64{50 + 6e-6}, Float64).OK) // 1e-9 + 1.2e-7*50
	require.False(t, c.CompareGrad("a", []float64{50 + 6.1e-6}, Float64).OK)
	require.True(t, c.CompareGrad("b", []float64{50 + 0.9e-8}, Float64).OK)
	require.False(t, c.CompareGrad("b", []float64{50 + 1.2e-8}, Float64).OK)
	require.True(t, c.CompareGrad("a", []float32{50.05}, Float32).OK) // 5e-5 + 1e-3*50
	require.False(t, c.CompareGrad("a", []float32{50.06}, Float32).OK)
	require.True(t, c.CompareGrad("dead", []float32{0, 0}, Float32).OK)
	require.True(t, c.CompareGrad("dead", nil, Float32).OK)
	require.False(t, c.CompareGrad("dead", []float32{0, 1}, Float32).OK)
	require.False(t, c.CompareGrad("none", []float32{0}, Float32).OK)
	require.Contains(t, c.CompareOut("x", []float64{1}, Float64).String(), "has 1 values, want 3")
	require.Contains(t, c.CompareOut("x", "text", Float64).String(), "string")
}

func TestCompareRows(t *testing.T) {
	y := &Tensor{Shape: []int{1, 3, 2}, Dtype: "F64", F: []float64{1, 2, 3, 4, 99, 99}}
	c := testCase("rows of y with in/valid = 1", map[string]*Tensor{
		"in/valid": {Shape: []int{1, 3}, Dtype: "U8", I: []int64{1, 1, 0}}, "out64/y": y, "out64/other": {Shape: []int{3, 1, 2}, Dtype: "F64", F: y.F},
	})
	require.True(t, c.CompareOut("y", []float64{1, 2, 3, 4, 0, math.NaN()}, Float64).OK)
	require.False(t, c.CompareOut("y", []float64{1, 2, 3, 5, 99, 99}, Float64).OK)
	require.False(t, c.CompareOut("other", []float64{1, 2, 3, 4, 0, 0}, Float64).OK)
	// What a left out row holds must not widen the tolerance of the others.
	require.Equal(t, 4*1e-4+2e-5, c.CompareOut("y", y.F, Float32).Limit)

	c = testCase("rows whose example id > 0 (out64/long, out64/global)", map[string]*Tensor{
		"in/long_example_ids": {Shape: []int{1, 3}, Dtype: "I64", I: []int64{2, 1, 0}}, "out64/long": y})
	require.True(t, c.CompareOut("long", []float64{1, 2, 3, 4, 0, 0}, Float64).OK)
	c = testCase("encoder hidden states: only positions with in/attention_mask == 1", map[string]*Tensor{
		"in/attention_mask": {Shape: []int{1, 3}, Dtype: "I64", I: []int64{1, 1, 0}}, "out64/encoder_x": y, "out64/logits": y})
	require.True(t, c.CompareOut("encoder_x", []float64{1, 2, 3, 4, 0, 0}, Float64).OK)
	require.False(t, c.CompareOut("logits", []float64{1, 2, 3, 4, 0, 0}, Float64).OK)
}

func TestCompareNonFinite(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	cmp := func(got, want float64) Result {
		return Compare("x", []float64{got}, []float64{want}, []int{1}, 1, 1, nil)
	}
	require.True(t, cmp(nan, nan).OK)
	require.True(t, cmp(-inf, -inf).OK)
	for _, p := range [][2]float64{{nan, 1}, {1, nan}, {inf, 1}, {1, inf}, {inf, -inf}, {nan, inf}, {inf, nan}} {
		r := cmp(p[0], p[1])
		require.False(t, r.OK, "%v", p)
		require.False(t, math.IsInf(r.MaxAbs, 0) || math.IsNaN(r.MaxRel)) // JSON has neither
	}
}

func TestWorstPlace(t *testing.T) {
	r := Compare("x", []float64{0, 0, 0, 0, 5, 0}, make([]float64, 6), []int{2, 3}, 1, 0, nil)
	require.Equal(t, []int{1, 1}, r.At)
	require.Equal(t, 4, r.Worst)
	require.Contains(t, r.String(), "at [1 1] (index 4): got 5, want 0")
	require.Empty(t, Coordinates(0, nil))
}

func TestReferenceWithoutDescription(t *testing.T) {
	root := ownCopy(t)
	b, err := os.ReadFile(filepath.Join(root, "blocks", "layer_norm.safetensors"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "ref.safetensors")
	require.NoError(t, os.WriteFile(path, b, 0o666))
	c, err := OpenReference(path)
	require.NoError(t, err)
	require.NotEmpty(t, c.Outputs())
	require.False(t, c.Has("tolerance"))
	_, err = OpenReference(path + "x")
	require.Error(t, err)
}
