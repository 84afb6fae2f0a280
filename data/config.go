package data

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/internal/config"
)

// Config chooses the data of a run: a path, a set by name, a task, or by default the embedded book. JSON keys are those of "data".
type Config struct {
	// Path is a text file, a folder of .txt files, a .jsonl, .csv or .tsv file, each also compressed by gzip or bzip2, a .parquet file, or a
	// name of Sets; "" is the embedded book. Of images: a folder of .png and .jpg, an IDX or .csv file, or a name of ImageSets; "" is the embedded digits.
	Path string `json:"path,omitempty"`
	// Task is a synthetic task with its parameters, such as needle(length=64), see Tasks; one that is made from text takes that of Path.
	Task string `json:"task,omitempty"`
	// Tokenizer is "bytes" (the default; with Specials where the objective needs them), "bytes+special", "bpe:SIZE", which is trained on
	// the train part, or the path of a tokenizer.json or of the folder that holds one.
	Tokenizer string `json:"tokenizer,omitempty"`
	// Objective is what is asked of the text, a task of a model: causal_lm, masked_lm, sequence_classification,
	// seq2seq_lm or question_answering; of images image_density or sequence_classification. "" is causal_lm.
	Objective string `json:"objective,omitempty"`

	// TextField is the field of a jsonl line, or the column of a csv, tsv or parquet file, that holds the text (the source of a pair); "" is "text".
	// A column is its name in the first line, or its number from 1 if the file has no names.
	TextField string `json:"text_field,omitempty"`
	// TargetField holds the target of a pair; "" is "target". Of question_answering it holds the answer; "" is "answer", and TextField is "context".
	TargetField string `json:"target_field,omitempty"`
	// LabelField holds the class; "" is "label". In a folder the class is the name of the folder that a file is in.
	LabelField string `json:"label_field,omitempty"`
	// QuestionField holds the question; "" is "question". StartField holds the character of the text at which the answer begins; "" is
	// "answer_start", and where a source has no such field the answer is the first place with its words.
	QuestionField string `json:"question_field,omitempty"`
	StartField    string `json:"answer_start_field,omitempty"`
	// DocStride is how many tokens of a long text lie between the beginnings of two windows for one question; 0: half of a window.
	DocStride int `json:"doc_stride,omitempty"`
	// GroupField, if set, holds what keeps lines together: those with the same value come into the same part.
	GroupField string `json:"group_field,omitempty"`
	// Join makes one document of the lines of a group, with a section for each.
	Join bool `json:"join,omitempty"`
	// Classes are the classes, in the order of their numbers; empty: those of the source, sorted.
	Classes []string `json:"classes,omitempty"`
	// TargetLength is U, the tokens of the target of a pair; 0: the sequence length.
	TargetLength int `json:"target_length,omitempty"`

	// Streaming reads the files of Path while they are trained on, for data larger than memory: see Part.Sampler. A folder may also hold .jsonl, .csv, .tsv or .parquet
	// files. Of causal_lm, masked_lm and sequence_classification.
	Streaming bool `json:"streaming,omitempty"`
	// ShuffleBuffer is how many examples of a stream wait in memory, among which the next one is drawn; 1 keeps their order; 0: 1,000.
	ShuffleBuffer int `json:"shuffle_buffer,omitempty"`
	// HeldOut is how many documents at the beginning of a stream, by the paths of its files, are held out of the training; the first half of them is the
	// validation part, the others are the test part. Of plain text a document is a piece of 4 kB here. 0: 200.
	HeldOut int `json:"held_out,omitempty"`

	// MaskProbability is the part of the tokens that masked_lm hides; 0 is 0.15.
	MaskProbability float64 `json:"mask_probability,omitempty"`
	// MaskUnit is what is hidden at once: token (the default), word or span.
	MaskUnit string `json:"mask_unit,omitempty"`

	// ImageSize makes images [height, width] (one number: both) by means; empty: as they are. Images of different sizes need it.
	ImageSize []int `json:"image_size,omitempty"`
	// ImageLevels is K, the levels that a channel is told in: level = floor(value*K/values); 0: as many as the source has values.
	ImageLevels int `json:"image_levels,omitempty"`
	// ImageValues is what the numbers of a .csv or IDX file are less than; 0: 256, of digits 17.
	ImageValues int `json:"image_values,omitempty"`
	// Channels is 1 (grey) or 3 (RGB); 0: 3 of photographs, 1 of others.
	Channels int `json:"channels,omitempty"`
	// Order is the order in which an image is generated: raster (the default), or blocks(HEIGHT,WIDTH) in pixels.
	Order string `json:"order,omitempty"`
	// LowSize gives each image beside it, made so small, [height, width], by means: what a model for super-resolution reads.
	LowSize []int `json:"low_size,omitempty"`
	// PatchSize cuts images into [height, width] before they are resized; PatchStride is from one to the next, 0: side by side.
	PatchSize   []int `json:"patch_size,omitempty"`
	PatchStride int   `json:"patch_stride,omitempty"`

	trained  Tokenizer // in place of one that is trained
	sections bool      // documents without sections get their sentences as such
}

// Objectives are the values of Config.Objective.
var Objectives = []string{"causal_lm", "masked_lm", "sequence_classification", "seq2seq_lm", "question_answering", "image_density"}

// With returns the configuration with a tokenizer that there is already, as it was loaded by LoadTokenizer from the folder of a model. It takes the
// place of any but bytes that are asked for by name: a "bpe:SIZE" is then not trained anew. Other tokenizers change nothing.
func (c Config) With(tok Tokenizer) Config {
	switch tok.(type) {
	case *BPE, *Pretrained:
		c.trained = tok
	}
	return c
}

// WithEnds returns the configuration with the tokens with which a model's targets start and end, where its tokenizer was trained elsewhere. One
// that was trained here has its own.
func (c Config) WithEnds(start, end int32) Config {
	if t, ok := c.trained.(*Pretrained); ok {
		c.trained = t.withEnds(start, end)
	}
	return c
}

// Validate reports every fault of the values at once, as joined *config.FieldError with the paths of a job's file.
func (c Config) Validate() error {
	var faults []error
	fault := func(ok bool, path string, value any, want string) {
		if !ok {
			faults = append(faults, &config.FieldError{Path: "data." + path, Value: value, Want: "want " + want})
		}
	}
	fault(c.Objective == "" || slices.Contains(Objectives, c.Objective), "objective", c.Objective, strings.Join(Objectives, ", "))
	fault(c.TargetLength >= 0 && c.TargetLength <= maxTaskLength && c.TargetLength != 1, "target_length", c.TargetLength, fmt.Sprintf("2 to %d, or 0: the sequence length", maxTaskLength))
	fault(c.DocStride >= 0, "doc_stride", c.DocStride, "at least 0 (0: half of a window)")
	fault(c.MaskProbability >= 0 && c.MaskProbability < 1, "mask_probability", c.MaskProbability, "a number of at least 0 and less than 1 (0: 0.15)")
	fault(c.MaskUnit == "" || slices.Contains(maskUnits, c.MaskUnit), "mask_unit", c.MaskUnit, strings.Join(maskUnits, ", "))
	fault(!c.Join || c.GroupField != "" || c.Path == bibleName, "join", c.Join, "false without data.group_field")
	fault(!c.Join || c.objective() != "question_answering", "join", c.Join, "false for questions, which are lines of their own")
	for i, name := range c.Classes {
		fault(name != "" && !slices.Contains(c.Classes[:i], name), fmt.Sprintf("classes[%d]", i), name, "names that differ")
	}
	c.validateStream(fault)
	c.validateImages(fault)
	return errors.Join(faults...)
}

// objective is what is asked of the text.
func (c Config) objective() string {
	if c.Objective == "" {
		return "causal_lm"
	}
	return c.Objective
}

// view is what is asked of windows of the text.
func (c Config) view(classes int) view {
	switch c.objective() {
	case "masked_lm":
		m := maskedView{c.MaskProbability, c.MaskUnit}
		if m.probability == 0 {
			m.probability = 0.15
		}
		return m
	case "sequence_classification":
		return labelView{classes}
	case "seq2seq_lm":
		return pairView{c.TargetLength}
	case "question_answering":
		return questionView{c.DocStride}
	}
	return causalView{}
}

// Spec returns the configuration with the data that SPEC of the command line names: "task:NAME" or a path. A task that is made from text
// leaves the path as it is.
func (c Config) Spec(spec string) Config {
	path := c.Path
	c.Path, c.Task = "", ""
	if task, ok := strings.CutPrefix(spec, "task:"); ok {
		c.Task = task
		if kind, _, ok := taskKindOf(task); task == graphTask || ok && kind.text {
			c.Path = path
		}
		if task == "" {
			c.Task = "?" // not "no task": Load names those that there are
		}
	} else {
		c.Path = spec
	}
	return c
}

// Source is what the data are called: a task, a path or a name.
func (c Config) Source() string {
	switch {
	case c.Task != "":
		return "task:" + c.Task
	case c.ofImages():
		return c.imagePath()
	case c.Path == "":
		return EmbeddedName
	}
	return c.Path
}

// NewTokenizer returns the tokenizer of the data: that of the task, or the one that is named. One that has to be trained is
// an error here; Load trains it.
//
// Errors: ErrTokenizer; ErrUnknownTask and ErrTask; those of LoadTokenizer.
func (c Config) NewTokenizer() (Tokenizer, error) {
	if c.ofImages() {
		_, levels, _ := c.imageValues()
		return Levels(levels), nil
	}
	if c.Task == "" {
		return c.tokenizer(c.objective() != "causal_lm", c.objective())
	}
	t, err := c.readTask()
	if err != nil {
		return nil, err
	}
	switch {
	case t.words != nil:
		return t.words, nil
	case !t.special:
		return Bytes{}, nil
	}
	return c.tokenizer(true, "task:"+c.Task)
}

// tokenizer returns the tokenizer that is named, with Specials if what it is for needs them.
func (c Config) tokenizer(special bool, what string) (tok Tokenizer, err error) {
	named := c.Tokenizer == "bytes" || c.Tokenizer == BytesSpecial{}.Name()
	switch {
	case c.trained != nil && !named:
		tok = c.trained
	case special && (c.Tokenizer == "" || c.Tokenizer == "bytes"):
		tok = BytesSpecial{}
	default:
		if tok, err = NewTokenizer(c.Tokenizer); err != nil {
			return nil, err
		}
	}
	if t, ok := tok.(*Pretrained); ok {
		if missing := t.lacks(c.objective()); special && missing != "" {
			return nil, &Error{Kind: ErrTokenizer, What: fmt.Sprintf("the tokenizer %q has no %s, which %s needs", tok.Name(), missing, what), Fix: "use the tokenizer of a model that was made for this"}
		}
		return tok, nil
	}
	if special && !hasSpecials(tok) {
		return nil, &Error{Kind: ErrTokenizer, What: fmt.Sprintf("the tokenizer %q has not the special tokens that %s needs (%s, as ids %d to %d)", tok.Name(), what, strings.Join(Specials, ", "), firstSpecial, leastBPE-1),
			Fix: "use bytes, or one that was trained here"}
	}
	return tok, nil
}
