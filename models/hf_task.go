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
	{"ForTokenClassification", "token_classification"}, {"ForQuestionAnswering", "question_answering"},
}

// hfTask is the head that a config.json asks for and how many labels it has: by task, which is ours, else by architectures[0], else
// masked_lm. rest is made to say the same in Hugging Face's words.
func (p *problems) hfTask(family, task string, rest extra) (string, int) {
	var architectures []string
	var problem string
	labels := 2
	if task == "regression" {
		labels = 1
	}
	p.key(rest, "architectures", &architectures)
	p.key(rest, "problem_type", &problem)
	p.key(rest, "num_labels", &labels)
	var names map[string]string
	if p.key(rest, "id2label", &names); names != nil {
		labels = len(names)
	}
	p.size("num_labels", labels, maxSize)
	p.want(problem != "multi_label_classification", "problem_type", problem, "single_label_classification or regression: several labels at once are not supported")
	switch {
	case task != "":
		p.oneOf("task", task, "masked_lm", "sequence_classification", "token_classification", "question_answering", "regression")
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
		if task = hfTasks[k].task; task == "sequence_classification" && (problem == "regression" || problem == "" && labels == 1) {
			task = "regression"
		}
		if !labelled(task) {
			labels = 0
		}
		return task, labels
	}
	for _, h := range hfTasks {
		if h.task == task {
			rest["architectures"], _ = json.Marshal([]string{family + h.class})
		}
	}
	if delete(rest, "problem_type"); task == "regression" {
		rest["problem_type"] = json.RawMessage(`"regression"`)
	}
	if !labelled(task) {
		return task, 0
	}
	return task, labels
}

// key reads a key of Hugging Face that is kept as it is.
func (p *problems) key(rest extra, key string, dst any) {
	if v, ok := rest[key]; ok && json.Unmarshal(v, dst) != nil {
		p.add(&config.FieldError{Path: key, Value: v, Want: fmt.Sprintf("want %s", strings.TrimPrefix(fmt.Sprintf("%T", dst), "*"))})
	}
}
