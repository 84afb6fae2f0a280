package attention

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// maxNumber bounds the numbers of a pattern, so that sums of positions cannot overflow.
const maxNumber = math.MaxInt32

// SyntaxError tells where a pattern expression is wrong.
type SyntaxError struct {
	Source string
	Column int // 1-based, in bytes
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("pattern %q, column %d: %s", e.Source, e.Column, e.Reason)
}

// word is a name of the pattern language.
type word struct {
	usage    string
	min, max int  // number of arguments; max -1 is any
	negative bool // whether arguments may be negative
	build    func(a []int) (Pattern, error)
}

// words are the atoms of the language; causal and heads take patterns and are read by the parser itself.
var words = map[string]word{
	"full":    {"full", 0, 0, false, func([]int) (Pattern, error) { return Full{}, nil }},
	"band":    {"band(left,right)", 2, 2, false, func(a []int) (Pattern, error) { return Band{Left: a[0], Right: a[1]}, nil }},
	"dilated": {"dilated(left,right,gap)", 3, 3, false, newDilated},
	"blocks":  {"blocks(size), blocks(size,overlap) or blocks(size,left,right)", 1, 3, false, newBlocks},
	"global":  {"global(i,j,…)", 1, -1, true, func(a []int) (Pattern, error) { return NewGlobal(a...), nil }},

	"external":          {"external(g)", 1, 1, false, newExternal},
	"random":            {"random(r,seed)", 2, 3, false, newRandom},
	"random-blocks":     {"random-blocks(size,r,seed)", 3, 4, false, newRandomBlocks},
	"big-bird":          {"big-bird(size,r,seed)", 3, 4, false, newBigBird},
	"big-bird-window":   {"big-bird-window(size,r,seed)", 3, 4, false, newBigBirdWindow},
	"bernoulli":         {"bernoulli(numerator,denominator,seed)", 3, 4, false, newBernoulli},
	"window-blocks":     {"window-blocks(size,count)", 2, 2, false, newWindowBlocks},
	"shifted-blocks":    {"shifted-blocks(size,shift)", 2, 2, false, newShiftedBlocks},
	"cross-blocks":      {"cross-blocks(size)", 1, 1, false, newCrossBlocks},
	"strided":           {"strided(stride)", 1, 1, false, newStrided},
	"fixed":             {"fixed(stride,columns)", 2, 2, false, newFixed},
	"summary":           {"summary(stride,columns) or summary(stride,columns,group)", 2, 3, false, newSummary},
	"star":              {"star", 0, 0, false, func([]int) (Pattern, error) { return Star{}, nil }},
	"bp-tree":           {"bp-tree(k)", 1, 1, false, newBPTree},
	"image1d":           {"image1d(query,memory)", 2, 2, false, newImage1D},
	"image2d":           {"image2d(height,width,query_height,query_width,memory_height,memory_width)", 6, 6, false, newImage2D},
	"image2d-generated": {"image2d-generated(height,width,query_height,query_width,memory_height,memory_width)", 6, 6, false, newImage2DGenerated},
	"row":               {"row(height,width)", 2, 2, false, newRow},
	"column":            {"column(height,width)", 2, 2, false, newColumn},
}

func newDilated(a []int) (Pattern, error) {
	if a[2] < 1 {
		return nil, fmt.Errorf("gap is %d; the smallest is 1 (no gap)", a[2])
	}
	return Dilated{Left: a[0], Right: a[1], Gap: a[2]}, nil
}

// maxExternal bounds external nodes: unlike all other numbers, theirs adds to what is laid out.
const maxExternal = 1 << 16

func newExternal(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("number of nodes is %d; the smallest is 1", a[0])
	}
	if a[0] > maxExternal {
		return nil, fmt.Errorf("number of nodes is %d; the largest is %d", a[0], maxExternal)
	}
	return External{Count: a[0]}, nil
}

func newBlocks(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("block size is %d; the smallest is 1", a[0])
	}
	b := Blocks{Size: a[0]}
	if len(a) > 1 {
		b.Left, b.Right = a[1], a[len(a)-1]
	}
	return b, nil
}

// newWindowBlocks is a window of whole blocks around a query's own; of an even number one more stands on the left.
func newWindowBlocks(a []int) (Pattern, error) {
	size, count := a[0], a[1]
	switch {
	case size < 1:
		return nil, fmt.Errorf("block size is %d; the smallest is 1", size)
	case count < 1:
		return nil, fmt.Errorf("number of blocks is %d; the smallest is 1, a query's own", count)
	case count/2 > maxNumber/size:
		return nil, fmt.Errorf("%d blocks of %d reach further than %d", count, size, maxNumber)
	}
	return Blocks{Size: size, Left: size * (count / 2), Right: size * ((count - 1) / 2)}, nil
}

func newCrossBlocks(a []int) (Pattern, error) {
	if a[0] < 1 {
		return nil, fmt.Errorf("block size is %d; the smallest is 1", a[0])
	}
	return CrossBlocks{Size: a[0]}, nil
}

func newShiftedBlocks(a []int) (Pattern, error) {
	switch {
	case a[0] < 1:
		return nil, fmt.Errorf("block size is %d; the smallest is 1", a[0])
	case a[1] >= a[0]:
		return nil, fmt.Errorf("shift is %d; give 0 to %d, less than a block", a[1], a[0]-1)
	}
	return ShiftedBlocks{Size: a[0], Shift: a[1]}, nil
}

// wordNames lists every name of the language, sorted.
func wordNames() []string {
	names := []string{"beyond", "causal", "heads"}
	for n := range words {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// choice says what could have been meant by a name that does not exist.
func choice(name string, names []string) string {
	there := "there are " + strings.Join(names, ", ")
	if near := config.Nearest(name, names); near != "" {
		return fmt.Sprintf("; did you mean %q? (%s)", near, there)
	}
	return "; " + there
}

// Parse reads a pattern expression. Atoms are full, band(left,right), dilated(left,right,gap), blocks(size),
// blocks(size,overlap), blocks(size,left,right) and global(i,…); a + b is the union, a & b the intersection (which binds
// tighter), causal(a) drops later keys, heads(a; b; …) gives one pattern for each head. Errors are of type *SyntaxError.
func Parse(source string) (Pattern, error) {
	if len(source) > maxSource {
		return nil, &SyntaxError{source[:20] + "…", maxSource + 1, fmt.Sprintf("longer than %d bytes, not a pattern", maxSource)}
	}
	p := &parser{source: source}
	pattern, err := p.union()
	if err == nil && p.peek() != 0 {
		err = p.fail(p.at, "%s is left over; join patterns by + or &", p.here())
	}
	if err != nil {
		return nil, err
	}
	return pattern, nil
}

// Bounds of what is read, so that a wrong file cannot exhaust the stack.
const (
	maxSource = 1 << 14
	maxDepth  = 64
)

type parser struct {
	source string
	at     int
	depth  int
}

func (p *parser) fail(at int, format string, args ...any) error {
	return &SyntaxError{p.source, at + 1, fmt.Sprintf(format, args...)}
}

// peek skips space and returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	for p.at < len(p.source) && strings.IndexByte(" \t\r\n", p.source[p.at]) >= 0 {
		p.at++
	}
	if p.at == len(p.source) {
		return 0
	}
	return p.source[p.at]
}

// here names what stands at the current place.
func (p *parser) here() string {
	if p.peek() == 0 {
		return "the end"
	}
	end := p.at
	for end < len(p.source) && isWord(p.source[end]) {
		end++
	}
	if end == p.at {
		for _, r := range p.source[p.at:] {
			return strconv.QuoteRune(r)
		}
	}
	return strconv.Quote(p.source[p.at:end])
}

func isWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

func (p *parser) expect(c byte, why string) error {
	if p.peek() != c {
		return p.fail(p.at, "%q is missing before %s: %s", c, p.here(), why)
	}
	p.at++
	return nil
}

func (p *parser) union() (Pattern, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, p.fail(p.at, "brackets stand deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	return p.chain('+', p.intersection, Union)
}

func (p *parser) intersection() (Pattern, error) { return p.chain('&', p.term, Intersection) }

// chain reads operands joined by one operator.
func (p *parser) chain(operator byte, operand func() (Pattern, error), join func(a, b Pattern) (Pattern, error)) (Pattern, error) {
	left, err := operand()
	for err == nil && p.peek() == operator {
		at := p.at
		p.at++
		var right Pattern
		if right, err = operand(); err != nil {
			return nil, err
		}
		if left, err = join(left, right); err != nil {
			return nil, p.fail(at, "%v", err)
		}
	}
	return left, err
}

// term reads an atom, causal(…), heads(…) or a bracket.
func (p *parser) term() (Pattern, error) {
	if p.peek() == '(' {
		p.at++
		inner, err := p.union()
		if err != nil {
			return nil, err
		}
		return inner, p.expect(')', "the bracket is open")
	}
	at := p.at
	for p.at < len(p.source) && isWord(p.source[p.at]) {
		p.at++
	}
	name := p.source[at:p.at]
	switch name {
	case "":
		return nil, p.fail(at, "a pattern is missing before %s", p.here())
	case "causal":
		parts, err := p.patterns(name)
		if err != nil {
			return nil, err
		}
		if len(parts) != 1 {
			return nil, p.fail(at, "causal takes one pattern, not %d", len(parts))
		}
		if err := CheckCausal(parts[0]); err != nil {
			return nil, p.fail(at, "%v", err)
		}
		return Causal(parts[0]), nil
	case "heads":
		parts, err := p.patterns(name)
		if err != nil {
			return nil, err
		}
		all, err := Heads(parts...)
		if err != nil {
			return nil, p.fail(at, "%v", err)
		}
		return all, nil
	case "beyond":
		parts, err := p.patterns(name)
		if err != nil {
			return nil, err
		}
		if len(parts) != 2 {
			return nil, p.fail(at, "beyond takes two patterns, not %d; write beyond(a; random(r,seed))", len(parts))
		}
		both, err := Beyond(parts[0], parts[1])
		if err != nil {
			return nil, p.fail(at, "%v", err)
		}
		return both, nil
	}
	w, ok := words[name]
	if !ok {
		return nil, p.fail(at, "there is no pattern %q%s", name, choice(name, wordNames()))
	}
	args, err := p.numbers(name, w)
	if err != nil {
		return nil, err
	}
	pattern, err := w.build(args)
	if err != nil {
		return nil, p.fail(at, "%s: %v", name, err)
	}
	return pattern, nil
}

// patterns reads (a; b; …).
func (p *parser) patterns(name string) ([]Pattern, error) {
	if err := p.expect('(', name+" takes patterns in brackets"); err != nil {
		return nil, err
	}
	var parts []Pattern
	for {
		part, err := p.union()
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if p.peek() != ';' {
			return parts, p.expect(')', name+" is open")
		}
		p.at++
	}
}

// numbers reads (1, 2, …), or nothing for a word without arguments.
func (p *parser) numbers(name string, w word) ([]int, error) {
	var args []int
	open := p.at
	if p.peek() == '(' {
		p.at++
		for p.peek() != ')' {
			if len(args) > 0 {
				if err := p.expect(',', "arguments of "+name+" are separated by commas"); err != nil {
					return nil, err
				}
			}
			k, err := p.number(name, w)
			if err != nil {
				return nil, err
			}
			args = append(args, k)
		}
		p.at++
	}
	if len(args) < w.min || w.max >= 0 && len(args) > w.max {
		return nil, p.fail(open, "%s has %d arguments; write %s", name, len(args), w.usage)
	}
	return args, nil
}

func (p *parser) number(name string, w word) (int, error) {
	p.peek()
	at, what := p.at, p.here()
	for p.at < len(p.source) && isWord(p.source[p.at]) {
		p.at++
	}
	k, err := strconv.ParseInt(p.source[at:p.at], 10, 64)
	switch {
	case at == p.at || err != nil && !isRange(err):
		return 0, p.fail(at, "%s is not a whole number; write %s", what, w.usage)
	case err != nil || k > maxNumber || k < -maxNumber:
		return 0, p.fail(at, "%s is beyond %d", what, maxNumber)
	case k < 0 && !w.negative:
		return 0, p.fail(at, "%d is negative; %s takes numbers from 0 on", k, name)
	}
	return int(k), nil
}

func isRange(err error) bool {
	e, ok := err.(*strconv.NumError)
	return ok && e.Err == strconv.ErrRange
}
