package models

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// hfTasks are the heads of Hugging Face's encoders: what follows the name of the family in architectures, and the task it is for. A base
// model has no task; its outputs are the stream and what the pooler makes of it.
var hfTasks = []struct{ class, task string }{
	{"Model", ""}, {"ForMaskedLM", "masked_lm"}, {"ForSequenceClassification", "sequence_classification"}, {"ForSequenceClassification", "regression"},
	{"ForSequenceClassification", "multi_label_classification"}, {"ForTokenClassification", "token_classification"}, {"ForQuestionAnswering", "question_answering"},
}

// hfTask is the head that a config.json asks for and how many labels it has: by task, which is ours, else by architectures[0], else
// masked_lm. rest is made to say the same in Hugging Face's words.
func (p *problems) hfTask(family, task string, rest extra) (string, int) {
	var architectures []string
	p.key(rest, "architectures", &architectures)
	problem, labels := p.hfLabels(task, rest)
	switch {
	case task != "":
		p.oneOf("task", task, "masked_lm", "sequence_classification", "multi_label_classification", "token_classification", "question_answering", "regression")
	case len(architectures) == 0:
		task = "masked_lm"
	default:
		k := slices.IndexFunc(hfTasks, func(h struct{ class, task string }) bool { return family+h.class == architectures[0] })
		if k < 0 {
			var have []string
			for _, h := range hfTasks {
				if c := family + h.class; !slices.Contains(have, c) {
					have = append(have, c)
				}
			}
			p.add(&config.FieldError{Path: "architectures", Value: architectures, Want: "want one of " + strings.Join(have, ", ")})
			return "", 0
		}
		return ofProblem(hfTasks[k].task, problem, labels)
	}
	for _, h := range hfTasks {
		if h.task == task {
			rest["architectures"], _ = json.Marshal([]string{family + h.class})
		}
	}
	if delete(rest, "problem_type"); task == "regression" || task == "multi_label_classification" {
		rest["problem_type"], _ = json.Marshal(task)
	}
	return ofProblem(task, "", labels)
}

// hfLabels is what a head for labels tells apart, and how many of them there are.
func (p *problems) hfLabels(task string, rest extra) (problem string, labels int) {
	if labels = 2; task == "regression" {
		labels = 1
	}
	p.key(rest, "problem_type", &problem)
	p.key(rest, "num_labels", &labels)
	var names map[string]string
	if p.key(rest, "id2label", &names); names != nil {
		labels = len(names)
	}
	p.size("num_labels", labels, maxSize)
	if problem != "" {
		p.oneOf("problem_type", problem, "single_label_classification", "multi_label_classification", "regression")
	}
	return problem, labels
}

// ofProblem is the task of a class, and how many labels its head has.
func ofProblem(task, problem string, labels int) (string, int) {
	switch {
	case !labelled(task):
		return task, 0
	case task == "sequence_classification" && (problem == "regression" || problem == "" && labels == 1):
		return "regression", labels
	case task == "sequence_classification" && problem == "multi_label_classification":
		return problem, labels
	}
	return task, labels
}

// ofExamples tells of tasks whose answer is one for a whole example.
func ofExamples(task string) bool {
	return task == "sequence_classification" || task == "multi_label_classification" || task == "regression"
}

// key reads a key of Hugging Face that is kept as it is; null leaves dst alone.
func (p *problems) key(rest extra, key string, dst any) {
	if v, ok := rest[key]; ok && string(v) != "null" && len(v) > 0 && json.Unmarshal(v, dst) != nil {
		p.add(&config.FieldError{Path: key, Value: v, Want: fmt.Sprintf("want %s", strings.TrimPrefix(fmt.Sprintf("%T", dst), "*"))})
	}
}
