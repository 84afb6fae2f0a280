package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/euryale-ml/euryale/train"
)

// generationSettings are what generation_config.json beside a model says about writing, in Hugging Face's words; what it does not say is nil.
type generationSettings struct {
	DoSample      *bool           `json:"do_sample"`
	Temperature   *float64        `json:"temperature"`
	TopK          *int            `json:"top_k"`
	TopP          *float64        `json:"top_p"`
	NumBeams      *int            `json:"num_beams"`
	LengthPenalty *float64        `json:"length_penalty"`
	EarlyStopping any             `json:"early_stopping"`
	MaxNewTokens  *int            `json:"max_new_tokens"`
	EOS           json.RawMessage `json:"eos_token_id"`
}

// readGenerationSettings reads the file of a folder; without one nothing is said.
func readGenerationSettings(dir string) (s generationSettings, err error) {
	path := filepath.Join(dir, "generation_config.json")
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("%s: cannot be read (%w); check the file", path, cause(err))
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("%s: is damaged (%w); repair or remove it", path, err)
	}
	if _, err := s.ends(); err != nil {
		return s, fmt.Errorf("%s: %w; repair or remove it", path, err)
	}
	return s, nil
}

// ends are the tokens that end a text: one number or a list.
func (s generationSettings) ends() ([]int32, error) {
	if len(s.EOS) == 0 || string(s.EOS) == "null" {
		return nil, nil
	}
	var one int32
	if json.Unmarshal(s.EOS, &one) == nil {
		return []int32{one}, nil
	}
	var all []int32
	if json.Unmarshal(s.EOS, &all) != nil {
		return nil, fmt.Errorf("eos_token_id is %s, want a number or a list", s.EOS)
	}
	return all, nil
}

// apply sets what the file says and no flag has said.
func (s generationSettings) apply(d *train.Decoding, changed func(flag string) bool) {
	drawn := func(flag string, set func()) { // what is drawn, unless the file or a flag wants the likeliest
		if !changed(flag) && !changed("beams") {
			set()
		}
	}
	if s.Temperature != nil {
		drawn("temperature", func() { d.Temperature = *s.Temperature })
	}
	if s.TopK != nil {
		drawn("top-k", func() { d.TopK = *s.TopK })
	}
	if s.TopP != nil && *s.TopP < 1 {
		drawn("top-p", func() { d.TopP = *s.TopP })
	}
	if s.DoSample != nil && !*s.DoSample {
		drawn("temperature", func() { d.Temperature = 0 })
	}
	if s.NumBeams != nil && *s.NumBeams > 1 && !changed("beams") && !changed("temperature") && !changed("top-k") && !changed("top-p") {
		d.Beams, d.Temperature, d.TopK, d.TopP = *s.NumBeams, 0, 0, 0
	}
	if s.LengthPenalty != nil && !changed("length-penalty") {
		d.LengthPenalty = *s.LengthPenalty
	}
	if stop, ok := s.EarlyStopping.(bool); ok && !changed("early-stopping") {
		d.EarlyStopping = stop
	}
	if s.MaxNewTokens != nil && !changed("max-new-tokens") {
		d.MaxNewTokens = *s.MaxNewTokens
	}
	more, _ := s.ends()
	for _, id := range more {
		if !slices.Contains(d.EOS, id) {
			d.EOS = append(d.EOS, id)
		}
	}
}
