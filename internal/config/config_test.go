package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type base struct {
	Seed uint64 `json:"seed"`
	Name string `json:"name"`
}

type choice string

func (c *choice) UnmarshalText(b []byte) error {
	if string(b) != "left" && string(b) != "right" {
		return fmt.Errorf("want left or right")
	}
	*c = choice(b)
	return nil
}

// inner reads itself by Decode, as a model's configuration does.
type inner struct{ Size int }

func (c *inner) UnmarshalJSON(b []byte) error {
	var plain struct {
		Size int `json:"size"`
	}
	err := Decode(b, &plain)
	c.Size = plain.Size
	return err
}

func (c inner) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `{"size":%d}`, c.Size), nil }

type part struct {
	Type  string `json:"type"`
	Left  int    `json:"window_left"`
	Right *int   `json:"window_right"`
}

type settings struct {
	base
	Train struct {
		Rate    float64 `json:"lr"`
		Steps   int     `json:"steps"`
		Small   int8    `json:"small"`
		Flag    bool    `json:"flag"`
		Sizes   []int   `json:"sizes"`
		Tags    []string
		Pair    [2]float32 `json:"pair"`
		private int
		Skipped int `json:"-"`
	} `json:"train"`
	Parts  []part          `json:"parts"`
	Model  json.RawMessage `json:"model"`
	Any    any             `json:"any"`
	Side   choice          `json:"side"`
	Inner  inner           `json:"inner"`
	Labels map[string]part `json:"labels"`
	Maybe  *float64        `json:"maybe"`
}

func TestDecode(t *testing.T) {
	c := settings{base: base{Seed: 7, Name: "default"}, Parts: []part{{Type: "old", Left: 3}}}
	c.Train.Flag = true
	require.NoError(t, Decode([]byte(`{
	  "seed": 18446744073709551615, "train": {"lr": 1e-3, "steps": 2e3, "sizes": [3, 5], "Tags": ["a\u00e9"], "pair": [1, 2.5]},
	  "parts": [{"type": "band"}, {"window_right": 0}], "model": {"b": 1,  "a": [true, null]}, "any": {"x": [1]},
	  "side": "left", "inner": {"size": 11}, "labels": {"p": {"window_left": 2}}, "maybe": 0.5}`), &c))
	require.Equal(t, uint64(1<<64-1), c.Seed)
	require.Equal(t, "default", c.Name, "what is not named stays")
	require.True(t, c.Train.Flag)
	require.Equal(t, 2000, c.Train.Steps)
	require.Equal(t, []int{3, 5}, c.Train.Sizes)
	require.Equal(t, []string{"aé"}, c.Train.Tags)
	require.Equal(t, [2]float32{1, 2.5}, c.Train.Pair)
	require.Equal(t, "band", c.Parts[0].Type)
	require.Zero(t, c.Parts[0].Left, "a list replaces, it does not merge")
	require.Zero(t, *c.Parts[1].Right)
	require.Equal(t, `{"b": 1,  "a": [true, null]}`, string(c.Model))
	require.Equal(t, map[string]any{"x": []any{1.0}}, c.Any)
	require.Equal(t, choice("left"), c.Side)
	require.Equal(t, 11, c.Inner.Size)
	require.Equal(t, 2, c.Labels["p"].Left)
	require.Equal(t, 0.5, *c.Maybe)
	require.NoError(t, Decode([]byte(`{"maybe": null, "parts": null}`), &c))
	require.Nil(t, c.Maybe)
	require.Nil(t, c.Parts)
}

func TestEveryFaultIsReported(t *testing.T) {
	var c settings
	err := Decode([]byte(`{"train": {"learning_rate": 1, "lr": "fast", "step": 3, "small": 300,
  "flag": 1, "sizes": [1, 2.5, "x"], "pair": [1], "Skipped": 1, "private": 1, "steps": 1, "steps": 2},
  "parts": [{"type": "band"}, {"typo": 1, "window_left": null}, 3],
  "seed": -1, "side": "up", "inner": {"sise": 3,
     "size": true}, "model": {"a": 1, "a": 2}, "name": 5, "nmae": "x", "labels": {"q": {"tipe": 1}, "q": {}}}`), &c)
	var got []string
	for _, f := range Faults(err) {
		var fault *FieldError
		require.ErrorAs(t, f, &fault)
		got = append(got, f.Error())
	}
	require.Equal(t, []string{
		`line 1 column 12: train.learning_rate: unknown key; valid are lr, steps, small, flag, sizes, Tags, pair`,
		`line 1 column 38: train.lr is "fast": want a number`,
		`line 1 column 46: train.step: unknown key; did you mean "train.steps"?`,
		`line 1 column 66: train.small is 300: want a whole number in range`,
		`line 2 column 11: train.flag is 1: want true or false`,
		`line 2 column 27: train.sizes[1] is 2.5: want a whole number in range`,
		`line 2 column 32: train.sizes[2] is "x": want a whole number`,
		`line 2 column 46: train.pair is [1]: want a list of 2`,
		`line 2 column 51: train.Skipped: unknown key; valid are lr, steps, small, flag, sizes, Tags, pair`,
		`line 2 column 65: train.private: unknown key; valid are lr, steps, small, flag, sizes, Tags, pair`,
		`line 2 column 91: train.steps: given twice; keep one`,
		`line 3 column 32: parts[1].typo: unknown key; did you mean "parts[1].type"?`,
		`line 3 column 58: parts[1].window_left is null: want a whole number`,
		`line 3 column 65: parts[2] is 3: want an object`,
		`line 4 column 11: seed is -1: want a whole number from 0`,
		`line 4 column 23: side is "up": want left or right`,
		`line 4 column 39: inner.sise: unknown key; did you mean "inner.size"?`,
		`line 5 column 14: inner.size is true: want a whole number`,
		`line 5 column 39: model.a: given twice; keep one`,
		`line 5 column 56: name is 5: want a string`,
		`line 5 column 59: nmae: unknown key; did you mean "name"?`,
		`line 5 column 89: labels.q.tipe: unknown key; did you mean "labels.q.type"?`,
		`line 5 column 101: labels.q: given twice; keep one`,
	}, got)
	named := (&FileError{"c.json", err}).Error()
	require.True(t, strings.HasPrefix(named, "c.json: 23 faults\n  line 1 column 12: "), named)
}

// TestManyFaults: a text with a hundred thousand of them, a few megabytes, is refused at once.
func TestManyFaults(t *testing.T) {
	const n = 100_000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, ",\"key_that_is_none_%d\":1", i)
	}
	var dst struct {
		Known  int            `json:"known"`
		Counts map[string]int `json:"counts"`
	}
	for _, src := range []string{
		"{" + text.String()[1:] + "}",
		`{"counts":{` + strings.ReplaceAll(text.String()[1:], ":1", ":true") + "}}",
		`{"counts":[` + strings.Repeat("0,", n) + "0]}",
	} {
		began := time.Now()
		faults := Faults(Decode([]byte(src), &dst))
		require.Less(t, time.Since(began), 5*time.Second)
		require.NotEmpty(t, faults)
		require.LessOrEqual(t, len(faults), maxFaults+1)
		if len(faults) > 1 {
			require.Len(t, faults, maxFaults+1)
			require.ErrorContains(t, faults[maxFaults], "more than 100 faults")
			require.ErrorContains(t, faults[0], "key_that_is_none_0")
		}
	}
}

func TestTornJSON(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "line 1 column 1: the text ends where a value should be"},
		{"{\n \"seed\": 3,", "line 2 column 12: the text ends where a key in double quotes should be"},
		{"{\"seed\": 3\n  \"name\": 1}", `line 2 column 3: '"' where ',' or '}' should be`},
		{`{"seed" 3}`, `line 1 column 9: '3' where ':' after the key "seed" should be`},
		{`{"é": tru}`, `line 1 column 7: 't' where a value should be`},
		{`{"seed": 1}}`, "line 1 column 12: something follows after the end"},
		{`{"seed": 01}`, "line 1 column 10: not a number"},
		{`{"name": "a\qb"}`, "line 1 column 10: a string with a wrong escape"},
		{"{\"name\": \"a\nb\"}", "line 1 column 12: a control character in a string"},
		{`{"name": "ab`, "line 1 column 13: the text ends within a string"},
		{`{"name": "ab\`, "line 1 column 14: the text ends within a string"},
		{`[1 2]`, "line 1 column 4: '2' where ',' or ']' should be"},
		{strings.Repeat("[", 100), "line 1 column 66: nested deeper than 64"},
		{"{'a': 1}", `line 1 column 2: '\'' where a key in double quotes should be`},
	} {
		var dst settings
		err := Decode([]byte(c.text), &dst)
		var syntax *SyntaxError
		require.ErrorAs(t, err, &syntax, c.text)
		require.Equal(t, c.want+"; repair the JSON there", err.Error(), c.text)
	}
	err := Decode(make([]byte, MaxBytes+1), &settings{})
	require.ErrorContains(t, err, "larger than 16 MiB")
	err = Decode([]byte("["+strings.Repeat("1,", maxNodes)+"1]"), new(any))
	require.ErrorContains(t, err, "more than 1048576 values")
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.json")
	err := ReadFile(path, &settings{})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, 1, strings.Count(err.Error(), path))
	require.NoError(t, os.WriteFile(path, []byte(`{"seed": "x"}`), 0o644))
	require.EqualError(t, ReadFile(path, &settings{}), path+`: line 1 column 10: seed is "x": want a whole number from 0`)
	require.NoError(t, os.WriteFile(path, []byte(`{"seed": 5}`), 0o644))
	var c settings
	require.NoError(t, ReadFile(path, &c))
	require.Equal(t, uint64(5), c.Seed)
}

func TestSet(t *testing.T) {
	two := 2
	c := settings{Model: json.RawMessage(`{"hidden_size": 128, "attention": [{"type":"band"}]}`), Parts: []part{{Type: "full", Right: &two}}}
	require.NoError(t, Set(&c, "train.lr=1e-3", "train.steps=1e3", "name=123", `train.Tags=a, "b c",7`, "train.sizes=[3,5]", "train.pair=1,2",
		"train.flag=true", "seed=9", "side=right", "inner.size=13", "maybe=0.25", "labels.q.type=x=y", "parts[0].window_left=4",
		"parts[1].type=band", "any.deep[0].x=1", "model.hidden_size=256", "model.attention[0].window_left=511",
		"model.attention[1]={\"type\":\"full\"}", "model.hidden_act=gelu", "model.new.key=true"))
	require.Equal(t, 1e-3, c.Train.Rate)
	require.Equal(t, 1000, c.Train.Steps)
	require.Equal(t, "123", c.Name)
	require.Equal(t, []string{"a", "b c", "7"}, c.Train.Tags)
	require.Equal(t, []int{3, 5}, c.Train.Sizes)
	require.Equal(t, [2]float32{1, 2}, c.Train.Pair)
	require.Equal(t, []any{true, uint64(9), choice("right"), 13, 0.25}, []any{c.Train.Flag, c.Seed, c.Side, c.Inner.Size, *c.Maybe})
	require.Equal(t, "x=y", c.Labels["q"].Type)
	require.Equal(t, []part{{Type: "full", Left: 4, Right: &two}, {Type: "band"}}, c.Parts)
	require.Equal(t, map[string]any{"deep": []any{map[string]any{"x": 1.0}}}, c.Any)
	require.JSONEq(t, `{"hidden_size":256,"attention":[{"type":"band","window_left":511},{"type":"full"}],"hidden_act":"gelu","new":{"key":true}}`, string(c.Model))
	require.NoError(t, Set(&c, "train.sizes=7", "train.Tags=", "model=null", "maybe=null", `name="q"`, "parts=[]"))
	require.Equal(t, []int{7}, c.Train.Sizes)
	require.Empty(t, c.Train.Tags)
	require.Nil(t, c.Maybe)
	require.Equal(t, "q", c.Name)
	require.Empty(t, c.Parts)
}

func TestSetFaults(t *testing.T) {
	c := settings{Model: json.RawMessage(`{"hidden_size": 128}`), Parts: []part{{}}}
	for _, f := range []struct{ set, want string }{
		{"train.lr", `train.lr: write it as path=value, for example train.lr=1e-3`},
		{"=3", `a path such as train.lr or model.attention[0].type`},
		{"train..lr=3", `train..lr: a path such as train.lr or model.attention[0].type`},
		{"train.lr=fast", `train.lr is "fast": want a number`},
		{"train.steps=1.5", `train.steps is 1.5: want a whole number in range`},
		{"train.sizes=1,b", `train.sizes[1] is "b": want a whole number`},
		{"train.sizes=[1,", `train.sizes is "[1,": line 1 column 4: the text ends where a value should be; repair the JSON there`},
		{"train.stps=3", `train.stps: unknown key; did you mean "train.steps"?`},
		{"trian.lr=3", `trian: unknown key; did you mean "train"?`},
		{"train.lr.x=3", `train.lr.x: train.lr has no keys below it`},
		{"parts[2].type=a", `parts[2]: there are only 1`},
		{"parts.type=a", `parts.type: want an index, such as parts[0]`},
		{"parts[x]=a", `parts[x]: a number between [ and ]`},
		{"parts[0=a", `parts[0: a ']' after the index`},
		{"parts[0]a=a", `parts[0]a: a '.' after ']'`},
		{"parts[0]={\"typ\":1}", `parts[0].typ: unknown key; did you mean "parts[0].type"?`},
		{"side=up", `side is "up": want left or right`},
		{"inner.sise=1", `inner.sise: unknown key; did you mean "inner.size"?`},
		{"model.hidden_size.x=1", `model.hidden_size.x: the value above is a number and has no keys`},
		{"model.list[1]=1", `model.list[1]: want an index of 0 to 0`},
		{"model={\"a\":1,\"a\":2}", `model.a: given twice; keep one`},
	} {
		before, err := json.Marshal(c)
		require.NoError(t, err)
		err = Set(&c, f.set)
		require.Error(t, err, f.set)
		require.Contains(t, err.Error(), f.want, f.set)
		after, err := json.Marshal(c)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), "%s changed something", f.set)
	}
	require.Len(t, Faults(Set(&c, "train.lr=x", "seed=1", "nope=1")), 2)
	require.Equal(t, uint64(1), c.Seed)
}

func TestNearest(t *testing.T) {
	words := []string{"hidden_size", "num_hidden_layers", "lr", "steps", "window_left", "window_right"}
	for word, want := range map[string]string{
		"hiden_size": "hidden_size", "Hidden_Size": "hidden_size", "step": "steps", "rl": "lr", "window_lfet": "window_left", "window": "window_left",
		"num_layers": "", "x": "", "": "", "completely_else": "",
	} {
		require.Equal(t, want, Nearest(word, words), word)
	}
	require.Equal(t, 1, edits("abcd", "abdc"))
	require.Equal(t, 3, edits("kitten", "sitting"))
	require.Equal(t, 0, edits("same", "same"))
}

func TestFaults(t *testing.T) {
	a, b, c := errors.New("a"), errors.New("b"), errors.New("c")
	require.Equal(t, []error{a, b, c}, Faults(errors.Join(a, &FileError{"f", errors.Join(b, c)})))
	require.Nil(t, Faults(nil))
	f := &FieldError{Path: "sise", Want: "unknown key", Near: "size", Line: 3, Col: 4}
	require.EqualError(t, Prefix("model", f), `model.sise: unknown key; did you mean "model.size"?`)
	require.EqualError(t, Prefix("model.x", &FieldError{Want: "want an object"}), "model.x: want an object")
	require.EqualError(t, Prefix("model", a), "model: a")
	require.Equal(t, "f: a", (&FileError{"f", a}).Error())
}

// FuzzDecode looks for panics, and for texts that the own parser and encoding/json judge differently.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"train":{"lr":1e-3,"sizes":[1,2]},"model":{"a":[{}]},"inner":{"size":3},"side":"left"}`,
		`{"seed":1,"seed":2}`, `[1,2,`, `"\ud800"`, `{"labels":{"a":{"type":"b"}}}`, `null`, `{"any":1e999}`, "\ufeff{}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := parse([]byte(s))
		if valid := json.Valid([]byte(s)); valid != (err == nil) && strings.Count(s, "[")+strings.Count(s, "{") <= maxDepth {
			t.Fatalf("encoding/json says valid=%v, parse says %v", valid, err)
		}
		var c settings
		if err := Decode([]byte(s), &c); err == nil {
			var again settings
			if err := json.Unmarshal([]byte(s), &again); err != nil && !strings.ContainsAny(s, "eE.") {
				t.Fatalf("encoding/json refuses it: %v", err)
			}
		}
	})
}

// FuzzSet looks for panics.
func FuzzSet(f *testing.F) {
	for _, s := range []string{"train.lr=1", "parts[0].type=x", "model.a[0].b=1", "any[0]=", "train.Tags=a,b", "labels.x={}"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, s string) {
		var c settings
		_ = Set(&c, s)
	})
}

// A mark before UTF-8 does no harm in a file.
func TestByteOrderMark(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.json")
	require.NoError(t, os.WriteFile(path, []byte("\ufeff{\"n\": 7}"), 0o600))
	var got struct {
		N int `json:"n"`
	}
	require.NoError(t, ReadFile(path, &got))
	require.Equal(t, 7, got.N)
	require.NoError(t, os.WriteFile(path, []byte("\xfe\xff\x00{"), 0o600))
	require.ErrorContains(t, ReadFile(path, &got), "UTF-16")
}
