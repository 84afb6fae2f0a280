package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// TestRecipesAreWhole: every recipe says all that is asked of one, and its job and those of its baselines have no fault; the small ones can be trained.
func TestRecipesAreWhole(t *testing.T) {
	all, err := recipes()
	require.NoError(t, err)
	require.NotEmpty(t, all)
	shipped := map[string]bool{} // systems
	for _, r := range all {
		require.Contains(t, systems, r.System, r.Name)
		require.NotEmpty(t, r.Claim, r.Name)
		require.NotEmpty(t, r.Metric, r.Name)
		require.NotEmpty(t, r.Bar, r.Name)
		require.Greater(t, r.Minutes, 0.0, r.Name)
		require.LessOrEqual(t, r.Minutes, 10.0, r.Name)
		line, j, err := r.line()
		require.NoError(t, err, r.Name)
		require.NotEmpty(t, line.Data, r.Name)
		if j.Data.Task != "" || j.Data.Path == "" {
			shipped[r.System] = true
		}
		for _, spec := range append([]string{r.Name}, prefixed(r.Name+":", r.baselines())...) {
			for _, smoke := range []bool{false, true} {
				r, err := findRecipe(spec)
				require.NoError(t, err, spec)
				j := train.DefaultJob()
				require.NoError(t, r.job(smoke, &j), spec)
				m, err := j.Check()
				require.NoError(t, err, "%s, smoke %t", spec, smoke)
				if smoke {
					corpus, err := j.Load(m)
					require.NoError(t, err, spec)
					params, err := models.NewParams(m, tensor.Float32, 1)
					require.NoError(t, err, spec)
					_, err = train.NewTrainer(m, params, corpus.Train, j.Train)
					require.NoError(t, err, spec)
					require.LessOrEqual(t, j.Train.SequenceLength, 256, spec)
					require.Equal(t, 4, j.Train.Steps, spec)
					require.True(t, j.Data.Task != "" || j.Data.Path == "", "%s: data that are not shipped", spec)
				}
			}
		}
	}
	for _, r := range all {
		require.True(t, shipped[r.System], "%s has no recipe with data that are shipped or made", r.System)
	}
}

func prefixed(prefix string, names []string) []string {
	all := slices.Clone(names)
	for i := range all {
		all[i] = prefix + all[i]
	}
	return all
}

// TestRecipesRun takes every recipe, in small, through fit, a stop, resume, eval and, where it is causal, generate.
func TestRecipesRun(t *testing.T) {
	all, err := recipes()
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	for _, r := range all {
		t.Run(r.Name, func(t *testing.T) {
			whole := euryale(t, "fit", "--recipe", r.Name, "--smoke", "--json").ok(t).last(t)
			require.Equal(t, 4.0, whole["steps"])
			require.Contains(t, whole["checkpoint"], filepath.Join("runs", r.Name)+string(filepath.Separator))
			half := filepath.Join("half", r.Name)
			euryale(t, "fit", "--recipe", r.Name, "--smoke", "--json", "--run", half, "--steps", "2").ok(t)
			resumed := euryale(t, "resume", half, "--json").ok(t).last(t)
			same(t, whole["checkpoint"].(string), resumed["checkpoint"].(string))
			require.Equal(t, whole["val_loss"], resumed["val_loss"])
			require.Equal(t, whole["test_loss"], resumed["test_loss"])

			e := euryale(t, "eval", resumed["checkpoint"].(string), "--json").ok(t).last(t)
			require.Equal(t, whole["test_loss"], e["loss"])
			require.Contains(t, e, strings.Split(strings.Split(r.Metric, " ")[0], ",")[0], "the metric of the recipe is a number of eval")
			if r.System == "block_local" {
				e = euryale(t, "eval", half, "--json", "--period", "32").ok(t).last(t)
				require.Len(t, e["by_offset"], 8)
			}
			if m := taskOf(t, half); m == "causal_lm" || m == "seq2seq_lm" {
				g := euryale(t, "generate", half, "--json", "--max-new-tokens", "3", "--prompt", promptFor(r)).ok(t)
				require.EqualValues(t, 3, g.last(t)["tokens"])
			}
		})
	}
}

func taskOf(t *testing.T, run string) string {
	t.Helper()
	l, err := (&app{out: &output{}}).load(run, nil)
	require.NoError(t, err)
	return l.model.Task()
}

// promptFor is text in the tokens of a recipe's data.
func promptFor(r Recipe) string {
	if strings.Contains(string(r.Smoke), `"task"`) {
		return "0 s1 k1 v1 n1 n2 c0 Q"
	}
	return "Call"
}

func TestRecipesCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	list := euryale(t, "recipes", "--json").ok(t).events(t)
	all, err := recipes()
	require.NoError(t, err)
	require.Len(t, list, len(all))
	for _, line := range list {
		require.ElementsMatch(t, []string{"name", "system", "claim", "metric", "bar", "minutes", "data", "baselines"}, keys(line))
	}
	require.Contains(t, euryale(t, "recipes").ok(t).stdout, "band-needle")

	one := euryale(t, "recipes", "band-needle", "--json").ok(t).events(t)
	require.Len(t, one, 1)
	j := train.DefaultJob()
	text, err := json.Marshal(one[0]["job"])
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &j))
	require.Equal(t, 320, j.Train.SequenceLength)
	require.Contains(t, euryale(t, "recipes", "band-needle").ok(t).stdout, "fit --recipe band-needle:full")

	for _, bad := range []struct {
		args []string
		want string
	}{
		{[]string{"recipes", "bandneedle"}, "did you mean band-needle?"},
		{[]string{"fit", "--recipe", "nothing"}, "recipes` lists them"},
		{[]string{"fit", "--recipe", "band-needle:nothing"}, "it has full, no-curriculum"},
		{[]string{"fit", "--smoke"}, "--recipe"},
		{[]string{"fit", "--recipe", "band-needle", "--config", "x.json"}, "exclude each other"},
		{[]string{"fit", "--recipe", "band-needle", "--set", "train.curriculum.start=0"}, "train.curriculum.start"},
	} {
		r := euryale(t, bad.args...)
		require.Equal(t, 2, r.code, "%v", bad.args)
		require.Contains(t, r.stderr, bad.want)
	}
	t.Setenv("EURYALE_DATA", "")
	r := euryale(t, "fit", "--recipe", "full-sotu")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.stderr, "EURYALE_DATA")
	require.Contains(t, r.stderr, "fetch.sh")
}
