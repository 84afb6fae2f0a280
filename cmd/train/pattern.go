package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/layers/attention"
)

func patternCommand(a *app) *cobra.Command {
	var (
		length            int
		out, model, input string
		table             bool
		sets              []string
	)
	c := &cobra.Command{
		Use:   "pattern [SPEC]",
		Short: "Statistics and picture of an attention pattern",
		Long: `Pattern says which keys the queries of an attention pattern read: how many, how densely, how many layers it takes until every position
has reached every other, whether the graph is strongly connected, and its spectral gap.

SPEC is an expression of these (docs/patterns.md has a picture of each):
  full  band(left,right)  dilated(left,right,gap)  global(i,...)  external(g)
  blocks(size[,overlap])  shifted-blocks(size,shift)  window-blocks(size,count)
  random(r,seed)  random-blocks(size,r,seed)  bernoulli(numerator,denominator,seed)
  big-bird(size,r,seed)  big-bird-window(size,r,seed)
  strided(stride)  fixed(stride,columns)  summary(stride,columns[,group])
  star  bp-tree(k)  cross-blocks(size)  row(h,w)  column(h,w)  image1d(query,memory)  image2d(h,w,qh,qw,mh,mw)
  image2d-generated(h,w,qh,qw,mh,mw)
  a + b is the union, a & b the intersection, causal(a) drops later keys, heads(a; b; ...) gives one pattern for each head,
  beyond(a; random(r,seed)) is the union where the draw takes none of the keys of a.

With --model it runs a model on the first sequence of --input and says the same of the pairs that every layer really read: of what layers chose by
content, too (routing, lsh, sac, topk, mips, sinkhorn, sortcut; where heads attend in several ways, a line for each). Where blocks are mixed it says
what counts: of the blocks that a slot is made of those with at least half the weight of the heaviest.

With --table it counts instead how attention compares with other kinds of layers: work, sequential steps, longest path.`,
		Example: examples(
			"pattern 'causal(band(255,0))' --length 4096", "the default model's layer",
			"pattern 'band(4,4) + global(0)' --length 64 --out p.png", "a picture",
			"pattern 'causal(dilated(8,0,4))' --length 1024 --out m.safetensors", "the mask, uint8 [heads, nodes, nodes]",
			"pattern --model runs/default --input a.txt --out p.png", "what a model chose, head by head",
			"pattern --table", "self-attention beside recurrent, convolutional and fully connected layers"),
		Args: func(c *cobra.Command, args []string) error {
			if table || model != "" {
				return exactly(0, "no pattern with --table or --model")(c, args)
			}
			return exactly(1, "the pattern, such as 'causal(band(255,0))'")(c, args)
		},
	}
	c.Flags().IntVar(&length, "length", 1024, "tokens of the sequence; for an image, its positions unless given")
	c.Flags().StringVar(&out, "out", "", "draw it (.png, .svg) or write its mask (.safetensors)")
	c.Flags().StringVar(&model, "model", "", "count what this model reads: a model folder, a run or a checkpoint")
	c.Flags().StringVar(&input, "input", "", "what it reads: text, .jsonl or .safetensors")
	addSet(c, &sets)
	c.Flags().BoolVar(&table, "table", false, "compare self-attention with other kinds of layers, counted on their graphs")
	return command(c, func(ctx context.Context, args []string) error {
		switch {
		case table:
			return a.table()
		case model != "":
			return a.readings(model, input, out, sets)
		case input != "" || len(sets) > 0:
			return usagef("--input and --set go with --model")
		}
		return interruptible(ctx, func() error { return a.pattern(args[0], length, c.Flags().Changed("length"), out) })
	})
}

// maxMask bounds a dense mask, in bytes.
const maxMask = 1 << 30

// maxLength bounds what is counted, which takes a time that is linear in it at least.
const maxLength = 1 << 22

func (a *app) pattern(spec string, length int, given bool, out string) error {
	p, err := attention.Parse(spec)
	if err != nil {
		return err
	}
	if size := attention.ImageSize(p); size > 0 && !given {
		length = size
	}
	if length < 1 || length > maxLength {
		return usagef("--length is %d: give 1 to %d", length, maxLength)
	}
	if err := attention.CheckLength(p, length); err != nil {
		return usagef("--length %d: %v", length, err)
	}
	if err := drawable(out); err != nil {
		return err
	}
	if fewer := attention.Exhausted(p, length); fewer != "" {
		a.out.note("note: %s", fewer)
	}
	s := attention.Measure(p, length)
	a.out.event(s)
	a.out.text("pattern       %s\n", p)
	a.measured(s)
	if out == "" {
		return nil
	}
	file, err := drawn(p, s.Nodes, strings.ToLower(filepath.Ext(out)))
	if err != nil {
		return fmt.Errorf("%s: %w", out, err)
	}
	return a.written(out, file)
}

// drawable says why a file cannot be written.
func drawable(out string) error {
	if ext := strings.ToLower(filepath.Ext(out)); out != "" && ext != ".png" && ext != ".svg" && ext != ".safetensors" {
		return usagef("--out %s: end it with .png, .svg or .safetensors", out)
	}
	return nil
}

// written writes the file.
func (a *app) written(out string, file []byte) error {
	if err := checkpoints.WriteFile(out, file); err != nil {
		return err
	}
	a.out.text("written to    %s\n", out)
	return nil
}

// measured prints statistics for people.
func (a *app) measured(s attention.Stats) {
	path := "never (some pair is never reached)"
	if s.MaxPath != nil {
		path = plural(*s.MaxPath, "layer")
	}
	a.out.text("length        %d (%d nodes)\n", s.Length, s.Nodes)
	a.out.text("pairs         %d, density %s\n", s.NNZ, percent(s.Density))
	a.out.text("keys a query  %d to %d\n", s.MinRow, s.MaxRow)
	a.out.text("longest path  %s\n", path)
	connected := "not strongly (some node never reaches some other)"
	if s.StronglyConnected {
		connected = "strongly (every node reaches every other)"
	}
	a.out.text("connected     %s\n", connected)
	a.out.text("spectral gap  %.4f\n", s.SpectralGap)
}

// plural writes so many of something.
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// table prints how attention compares with other layers.
func (a *app) table() error {
	rows, err := attention.Survey()
	if err != nil {
		return err
	}
	a.out.text("%-44s %-10s %-22s   %s\n", "layer over T tokens of D channels", "work", "sequential operations", "longest path, in layers")
	a.out.text("%-44s %-10s", "", "")
	for _, t := range rows[0].Lengths {
		a.out.text(" %6s", fmt.Sprint("T=", t))
	}
	a.out.text("  ")
	for _, t := range rows[0].Lengths {
		a.out.text(" %5s", fmt.Sprint("T=", t))
	}
	a.out.text("\n")
	for _, r := range rows {
		a.out.event(r)
		a.out.text("%-44s %-10s", r.Layer, r.Complexity)
		for _, s := range r.Sequential {
			a.out.text(" %6.3g", s)
		}
		a.out.text("  ")
		for _, l := range r.MaxPath {
			a.out.text(" %5d", l)
		}
		a.out.text("\n")
	}
	return nil
}

// drawn is the content of a picture or of a mask file of n nodes.
func drawn(p attention.Pattern, n int, ext string) ([]byte, error) {
	var file bytes.Buffer
	var err error
	switch ext {
	case ".png":
		err = attention.WritePNG(&file, p, n)
	case ".svg":
		err = attention.WriteSVG(&file, p, n)
	default:
		if float64(p.Heads())*float64(n)*float64(n) > maxMask {
			return nil, fmt.Errorf("a mask of %d heads and %d nodes is larger than 1 GiB; give a smaller --length", p.Heads(), n)
		}
		mask := checkpoints.Tensor{Name: "mask", Shape: []int{p.Heads(), n, n}, Data: attention.Mask(p, p.Heads(), n)}
		err = checkpoints.WriteSafetensors(&file, []checkpoints.Tensor{mask})
	}
	return file.Bytes(), err
}

func percent(x float64) string { return fmt.Sprintf("%.3g %%", 100*x) }
