package testkit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/euryale-ml/euryale/data"
	"github.com/euryale-ml/euryale/layers/attention"
	"github.com/euryale-ml/euryale/models"
	"github.com/euryale-ml/euryale/train"
)

// pages are the pages of the documentation, by name.
func pages(t *testing.T) map[string]string {
	found, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	require.NoError(t, err)
	found = append(found, filepath.Join("..", "..", "README.md"))
	all := map[string]string{}
	for _, path := range found {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		all[filepath.Base(path)] = string(text)
	}
	require.Greater(t, len(all), 20)
	return all
}

// TestKeysAreDocumented: docs/formats.md has every type of model and of attention, and every key that they, a training and its data take,
// but for keys of images, which are in docs/images.md, and those of a family, which are on its page.
func TestKeysAreDocumented(t *testing.T) {
	all := pages(t)
	formats := all["formats.md"]
	between := func(from, to string) string {
		_, text, ok := strings.Cut(formats, from)
		require.True(t, ok, from)
		text, _, ok = strings.Cut(text, to)
		require.True(t, ok, to)
		return text
	}
	model, training, source := between("\n### model", "\n### "), between("\n### train", "\n### "), between("\n### data", "\n## ")
	says := func(text, word, what string) {
		if !strings.Contains(text, "`"+word+"`") {
			t.Errorf("%s `%s` is in no table", what, word)
		}
	}
	for _, name := range models.Types() {
		says(model, name, "the type of models")
	}
	for _, key := range slices.Concat(keysOf(models.DecoderConfig{}), keysOf(models.EncoderConfig{})) {
		says(model, key, "the key of skeletons")
	}
	for _, key := range keysOf(train.DefaultConfig()) {
		says(training, key, "the key of train")
	}
	for _, key := range keysOf(data.Config{}) {
		says(source+all["images.md"], key, "the key of data")
	}
	for page, c := range map[string]any{"star_transformer.md": models.StarTransformerConfig{}, "etc.md": models.ETCConfig{}, "bp_transformer.md": models.BPTransformerConfig{},
		"image_transformer.md": models.ImageTransformerConfig{}, "axial_transformer.md": models.AxialTransformerConfig{}, "encoder_decoder.md": models.EncoderDecoderConfig{}} {
		for _, key := range keysOf(c) {
			says(all[page]+model, key, page+": the key")
		}
	}

	rows := map[string]string{} // by type of entry
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|.*$").FindAllStringSubmatch(between("\n| type | fields | reads |", "\n### "), -1) {
		for _, name := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(row[1], -1) {
			rows[name[1]] = row[0]
		}
	}
	for _, name := range attention.EntryTypes() {
		says(rows[name], name, "the type of attention")
		for _, key := range fieldsOf(t, name) {
			says(rows[name], key, name+": the field")
		}
	}
}

// keysOf lists the JSON keys of a struct, those of embedded structs included.
func keysOf(c any) (keys []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeOf(c)) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" && name != "model_type" {
			keys = append(keys, name)
		}
	}
	return keys
}

// fieldsOf lists the fields of a type of attention, as the fault of an unknown one tells them.
func fieldsOf(t *testing.T, name string) (keys []string) {
	var e attention.Entry
	err := json.Unmarshal([]byte(`{"type": "`+name+`", "qqqqqqqqqqqqqqqqqqqqqqqq": 1}`), &e)
	require.Error(t, err, name)
	_, list, ok := strings.Cut(err.Error(), "valid are ")
	require.True(t, ok, "%s: %v", name, err)
	list, _, _ = strings.Cut(list, "\n")
	for _, key := range strings.Split(list, ", ") {
		require.Regexp(t, "^[a-z][a-z0-9_]*$", key, "%s: %v", name, err)
		if key != "type" {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestConfigurationsOfPages: every model of the pages can be made.
func TestConfigurationsOfPages(t *testing.T) {
	made := map[string]int{}
	for page, text := range pages(t) {
		for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(text, -1) {
			for d := json.NewDecoder(bytes.NewReader([]byte(block[1]))); d.More(); {
				var whole map[string]json.RawMessage
				if err := d.Decode(&whole); err != nil {
					require.NotContains(t, block[1], "\n{", "%s: %v in\n%s", page, err, block[1])
					break // a part of a configuration
				}
				raw := whole["model"]
				if _, ok := whole["model_type"]; ok {
					raw, _ = json.Marshal(whole)
				}
				var head struct {
					ModelType string `json:"model_type"`
				}
				if raw == nil || json.Unmarshal(raw, &head) != nil || head.ModelType == "" || bytes.Contains(raw, []byte("…")) {
					continue
				}
				_, err := models.New(raw)
				require.NoError(t, err, "%s:\n%s", page, raw)
				made[page]++
			}
		}
	}
	require.Greater(t, len(made), 10)
}
