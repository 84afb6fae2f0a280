package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/internal/config"
	"github.com/euryale-ml/euryale/train"
)

//go:embed recipes/*.json
var recipeFiles embed.FS

// Recipe is an experiment that can be reproduced: a file of recipes/, whose name is the recipe's.
type Recipe struct {
	Name    string  `json:"-"`
	System  string  `json:"system"`  // one of systems
	Claim   string  `json:"claim"`   // what it shows
	Metric  string  `json:"metric"`  // of eval, by which it is judged
	Bar     string  `json:"bar"`     // what has to be reached
	Minutes float64 `json:"minutes"` // on two cores, about

	Job   json.RawMessage `json:"job"`   // as in a --config file
	Smoke json.RawMessage `json:"smoke"` // what --smoke changes in it: T of at most 256, four steps, data that are shipped or made

	// Baselines are what it is compared with, by name: what each changes in the job. They are trained by --recipe NAME:BASELINE.
	Baselines map[string]json.RawMessage `json:"baselines"`
	// Evals are other ways to evaluate what was trained, by name: values of --set for eval, such as another attention with the same weights.
	Evals map[string][]string `json:"evals"`

	baseline json.RawMessage // the changes of the one that is asked for; nil: none
}

// systems are the values of Recipe.System.
var systems = []string{"full", "global", "band", "dilated", "random", "block_local", "star_transformer", "longformer", "etc", "big_bird",
	"sparse_transformer", "bp_transformer", "image_transformer", "axial_transformer", "topk", "routing", "reformer", "sac", "sinkhorn", "sortcut", "reversible"}

// recipes lists the recipes, in the order of the systems and of the names within one.
func recipes() ([]Recipe, error) {
	files, err := recipeFiles.ReadDir("recipes")
	if err != nil {
		return nil, err
	}
	var all []Recipe
	for _, f := range files {
		text, err := recipeFiles.ReadFile(path.Join("recipes", f.Name()))
		if err != nil {
			return nil, err
		}
		r := Recipe{Name: strings.TrimSuffix(f.Name(), ".json")}
		if err := config.Decode(text, &r); err != nil {
			return nil, &config.FileError{Name: f.Name(), Err: err}
		}
		all = append(all, r)
	}
	slices.SortStableFunc(all, func(a, b Recipe) int { return slices.Index(systems, a.System) - slices.Index(systems, b.System) })
	return all, nil
}

// findRecipe finds NAME or NAME:BASELINE.
func findRecipe(spec string) (Recipe, error) {
	all, err := recipes()
	if err != nil {
		return Recipe{}, err
	}
	name, baseline, other := strings.Cut(spec, ":")
	var names []string
	for _, r := range all {
		if r.Name != name {
			names = append(names, r.Name)
			continue
		}
		if !other {
			return r, nil
		}
		changes, ok := r.Baselines[baseline]
		if !ok {
			return r, usagef("--recipe %s: %s has no baseline %q; it has %s", spec, name, baseline, strings.Join(r.baselines(), ", "))
		}
		r.baseline = changes
		return r, nil
	}
	near := ""
	if n := config.Nearest(name, names); n != "" {
		near = fmt.Sprintf("did you mean %s? ", n)
	}
	return Recipe{}, usagef("there is no recipe %q: %s`%s recipes` lists them", name, near, program())
}

// baselines are the names of the baselines, sorted.
func (r Recipe) baselines() []string {
	names := make([]string, 0, len(r.Baselines))
	for n := range r.Baselines {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// job puts the recipe into a job that holds the defaults.
func (r Recipe) job(smoke bool, j *train.Job) error {
	text, err := r.Job, error(nil)
	if smoke {
		text, err = config.Patch(text, r.Smoke)
	}
	if err == nil && r.baseline != nil {
		text, err = config.Patch(text, r.baseline)
		if err == nil && smoke { // of other data there is no small form but that of the recipe
			text, err = config.Patch(text, dataOf(r.Smoke, r.baseline))
		}
	}
	if err == nil {
		err = config.Decode(text, j)
	}
	if err != nil {
		return &config.FileError{Name: "recipe " + r.Name, Err: err}
	}
	return nil
}

// dataOf is what the small form says about data and their length, if a baseline has data of its own; else nothing.
func dataOf(smoke, baseline json.RawMessage) json.RawMessage {
	var small, other struct {
		Data  json.RawMessage            `json:"data,omitempty"`
		Train map[string]json.RawMessage `json:"train,omitempty"`
	}
	if json.Unmarshal(smoke, &small) != nil || json.Unmarshal(baseline, &other) != nil || other.Data == nil || small.Data == nil {
		return json.RawMessage("{}")
	}
	length, ok := small.Train["sequence_length"]
	if small.Train = nil; ok {
		small.Train = map[string]json.RawMessage{"sequence_length": length}
	}
	text, err := json.Marshal(small)
	if err != nil {
		return json.RawMessage("{}")
	}
	return text
}

// recipeLine is the line of a recipe.
type recipeLine struct {
	Name      string   `json:"name"`
	System    string   `json:"system"`
	Claim     string   `json:"claim"`
	Metric    string   `json:"metric"`
	Bar       string   `json:"bar"`
	Minutes   float64  `json:"minutes"`
	Data      string   `json:"data"` // as --data takes it
	Baselines []string `json:"baselines"`
}

func (r Recipe) line() (recipeLine, train.Job, error) {
	j := train.DefaultJob()
	err := r.job(false, &j)
	return recipeLine{r.Name, r.System, r.Claim, r.Metric, r.Bar, r.Minutes, dataSpec(j.Data), r.baselines()}, j, err
}

// dataSpec names data.
func dataSpec(c data.Config) string {
	switch {
	case c.Task != "" && c.Path != "":
		return "task:" + c.Task + " of " + c.Path
	case c.Task != "":
		return "task:" + c.Task
	case c.Path == "" && c.Objective == "image_density":
		return data.DigitsName
	case c.Path == "":
		return data.EmbeddedName
	}
	return c.Path
}

func recipesCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "recipes [NAME]",
		Short: "What can be reproduced, each with its claim and its bar",
		Long: `Recipes lists the experiments that this program brings along: which attention each is about, what it claims, on which data, by which
number of eval it is judged and what has to be reached, in about how many minutes on two cores. With NAME it prints the whole recipe
and the commands that run it.

fit --recipe NAME runs one, fit --recipe NAME:BASELINE what it is compared with, and --smoke the same in small, within seconds.
Sets that do not come with the program are looked for in the folder that EURYALE_DATA names.`,
		Example: examples("recipes", "all of them", "recipes band-needle", "one", "fit --recipe band-needle --smoke", "try it"),
		Args:    cobra.MaximumNArgs(1),
	}
	return command(c, func(_ context.Context, args []string) error {
		if len(args) == 1 {
			return a.recipe(args[0])
		}
		return a.recipes()
	})
}

func (a *app) recipes() error {
	all, err := recipes()
	if err != nil {
		return err
	}
	for _, r := range all {
		line, _, err := r.line()
		if err != nil {
			return err
		}
		a.out.event(line)
		a.out.text("%-24s %s, on %s, about %g min\n    %s\n    bar: %s\n", r.Name, r.System, line.Data, r.Minutes, r.Claim, r.Bar)
	}
	a.out.text("\n%s\n", examples("recipes "+all[0].Name, "one of them", "fit --recipe "+all[0].Name, "run it"))
	return nil
}

func (a *app) recipe(name string) error {
	r, err := findRecipe(name)
	if err != nil {
		return err
	}
	line, j, err := r.line()
	if err != nil {
		return err
	}
	job, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	a.out.event(struct {
		recipeLine
		Job   json.RawMessage     `json:"job"`
		Evals map[string][]string `json:"evals,omitempty"`
	}{line, job, r.Evals})
	a.out.text("%s (%s)\n%s\ndata    %s\nbar     %s (%s of eval), in about %g minutes\n", r.Name, r.System, r.Claim, line.Data, r.Bar, r.Metric, r.Minutes)
	pairs := []string{"fit --recipe " + r.Name, "run it", "fit --recipe " + r.Name + " --smoke", "within seconds"}
	for _, b := range line.Baselines {
		pairs = append(pairs, "fit --recipe "+r.Name+":"+b, "for comparison")
	}
	pairs = append(pairs, "eval runs/"+r.Name, "the numbers")
	for _, name := range slices.Sorted(maps.Keys(r.Evals)) {
		command := "eval runs/" + r.Name
		for _, set := range r.Evals[name] {
			command += " --set " + quoteArg(set)
		}
		pairs = append(pairs, command, "the same weights, "+name)
	}
	a.out.text("\n%s\n\nits job, resolved:\n%s\n", examples(pairs...), job)
	return nil
}
