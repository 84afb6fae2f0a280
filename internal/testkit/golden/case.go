package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/euryale-ml/euryale/checkpoints"
)

// EnvDir names the environment variable with the folder of cases that replaces the copy in the repository.
const EnvDir = "EURYALE_GOLDEN"

// Case is one recorded run of a reference.
type Case struct {
	System string // as described, else the name of the folder
	Name   string // name of the file without its ending
	Path   string // of the tensors

	Kind             string            // how it was made: hf, lucid, block, block_const, adamw, definition ...
	Variant          string            // definition cases: what to build
	ModelClass       string            // hf cases: class of the model
	Class            string            // package cases: class of the module
	Config           json.RawMessage   // hyper-parameters; nil if there are none
	Kwargs           json.RawMessage   // package cases: arguments of the constructor
	HFFolder         string            // path of a Hugging Face folder with the same weights; "" if there is none
	TrainMode        bool              // the reference ran in training mode, with dropout 0
	Tied             map[string]string // name of a parameter that is not stored -> stored name
	WithoutGrad      []string          // parameters that do not reach the loss
	PositionalInputs []string          // package cases: in/* in the order of the call
	AllowNonFinite   bool              // values may be NaN or infinite and must be so in the result
	Tolerance        Tolerance
	ReferenceError   float64 // largest difference of the reference's float32 outputs from those in float64, where out64/* has some of them

	fields  map[string]json.RawMessage
	tensors map[string]*Tensor
	plain   map[string]*Tensor
}

// header is what is decoded of a case's description; the rest is reached by Decode.
type header struct {
	System      string            `json:"system"`
	Kind        string            `json:"kind"`
	Variant     string            `json:"variant"`
	ModelClass  string            `json:"model_class"`
	Class       string            `json:"class"`
	Config      json.RawMessage   `json:"config"`
	Kwargs      json.RawMessage   `json:"kwargs"`
	HFFolder    string            `json:"hf_folder"`
	ParamsFile  string            `json:"params_file"`
	TrainMode   bool              `json:"train_mode"`
	Tied        map[string]string `json:"tied_parameters"`
	WithoutGrad []string          `json:"parameters_without_grad"`
	Positional  []string          `json:"positional_inputs"`
	NonFinite   bool              `json:"allow_nonfinite"`
	Tolerance   Tolerance         `json:"tolerance"`
	Error       float64           `json:"f32_vs_f64_max_abs_out"`
}

// Root is the folder of cases: that of EURYALE_GOLDEN, else testdata/golden of the module that holds the current folder.
func Root() (string, error) {
	if dir := os.Getenv(EnvDir); dir != "" {
		return dir, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "testdata", "golden"), nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("golden cases: no go.mod above the current folder; set " + EnvDir)
		}
	}
}

// Cases lists the descriptions (paths of the .json files) of all cases of a folder, sorted: those in the folders of systems, and
// those in the folder itself that have tensors beside them. Hugging Face folders (hf/) are no cases.
func Cases(root string) ([]string, error) {
	if _, err := os.Stat(root); err != nil {
		return nil, err
	}
	systems, err := filepath.Glob(filepath.Join(root, "*", "*.json"))
	if err != nil {
		return nil, err
	}
	own, err := filepath.Glob(filepath.Join(root, "*.json"))
	if err != nil {
		return nil, err
	}
	paths := slices.DeleteFunc(own, func(path string) bool {
		_, err := os.Stat(strings.TrimSuffix(path, ".json") + ".safetensors")
		return err != nil
	})
	for _, path := range systems {
		if filepath.Base(filepath.Dir(path)) != "hf" {
			paths = append(paths, path)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: no golden cases", root)
	}
	slices.Sort(paths)
	return paths, nil
}

// Open reads the case whose description is at the given path.
func Open(jsonPath string) (*Case, error) {
	b, err := os.ReadFile(jsonPath)
	if err != nil {
		return nil, err
	}
	return open(strings.TrimSuffix(jsonPath, ".json")+".safetensors", jsonPath, b)
}

// OpenReference reads a file of reference tensors. A description beside it (F.json for F.safetensors) is used if it is there;
// without one the default tolerances hold.
func OpenReference(path string) (*Case, error) {
	jsonPath := strings.TrimSuffix(path, filepath.Ext(path)) + ".json"
	b, err := os.ReadFile(jsonPath)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = []byte("{}"), nil
	}
	if err != nil {
		return nil, err
	}
	return open(path, jsonPath, b)
}

func open(path, jsonPath string, description []byte) (*Case, error) {
	var h header
	if err := json.Unmarshal(description, &h); err != nil {
		return nil, fmt.Errorf("%s: not a description of a case: %w", jsonPath, err)
	}
	c := &Case{
		System: filepath.Base(filepath.Dir(path)), Name: strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), Path: path,
		Kind: h.Kind, Variant: h.Variant, ModelClass: h.ModelClass, Class: h.Class, Config: h.Config, Kwargs: h.Kwargs, TrainMode: h.TrainMode,
		Tied: h.Tied, WithoutGrad: h.WithoutGrad, PositionalInputs: h.Positional, AllowNonFinite: h.NonFinite, Tolerance: h.Tolerance, ReferenceError: h.Error,
		tensors: map[string]*Tensor{},
	}
	if h.System != "" {
		c.System = h.System
	}
	if err := json.Unmarshal(description, &c.fields); err != nil {
		return nil, fmt.Errorf("%s: %w", jsonPath, err)
	}
	if err := readAll(path, c.tensors); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if h.HFFolder != "" {
		c.HFFolder = filepath.Join(filepath.Dir(dir), filepath.FromSlash(h.HFFolder))
	}
	if h.ParamsFile != "" {
		c.plain = map[string]*Tensor{}
		if err := readAll(filepath.Join(dir, filepath.FromSlash(h.ParamsFile)), c.plain); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func readAll(path string, into map[string]*Tensor) error {
	f, err := checkpoints.OpenSafetensors(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, name := range f.Names() {
		if into[name], err = readTensor(f, name); err != nil {
			return err
		}
	}
	return nil
}

// ID is "system/case".
func (c *Case) ID() string { return c.System + "/" + c.Name }

// Has reports whether the description has a field.
func (c *Case) Has(field string) bool { _, ok := c.fields[field]; return ok }

// Decode decodes a field of the description, such as "eps" or "options".
func (c *Case) Decode(field string, v any) error {
	raw, ok := c.fields[field]
	if !ok {
		return fmt.Errorf("%s: the description has no field %q", c.ID(), field)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: field %q: %w", c.ID(), field, err)
	}
	return nil
}

// Tensor returns a tensor by its full name, nil if there is none.
func (c *Case) Tensor(full string) *Tensor { return c.tensors[full] }

// Names lists, sorted and without the prefix, the tensors whose name begins with it: Names("in/"). Names("") are all.
func (c *Case) Names(prefix string) []string {
	var names []string
	for full := range c.tensors {
		if rest, ok := strings.CutPrefix(full, prefix); ok {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names
}

// Params lists the parameters by their plain names.
func (c *Case) Params() []string {
	names := c.Names("param/")
	for name := range c.plain {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Param returns a parameter, also under the name of one that is tied to it; nil if there is none.
func (c *Case) Param(name string) *Tensor {
	for range 2 {
		if t := c.tensors["param/"+name]; t != nil {
			return t
		}
		if t := c.plain[name]; t != nil {
			return t
		}
		name = c.Tied[name]
	}
	return nil
}

// In returns an input, nil if there is none.
func (c *Case) In(name string) *Tensor { return c.tensors["in/"+name] }

// Rand returns a random draw, nil if there is none.
func (c *Case) Rand(name string) *Tensor { return c.tensors["rand/"+name] }

// Out returns a result of the float32 run or a discrete result, nil if there is none.
func (c *Case) Out(name string) *Tensor { return c.tensors["out/"+name] }

// Out64 returns a result of the float64 run, nil if there is none.
func (c *Case) Out64(name string) *Tensor { return c.tensors["out64/"+name] }

// Mid64 returns an intermediate value of the float64 run, nil if there is none.
func (c *Case) Mid64(name string) *Tensor { return c.tensors["mid64/"+name] }

// Grad returns the gradient of a parameter, nil if it was not stored.
func (c *Case) Grad(name string) *Tensor { return c.tensors["grad/"+name] }

// GradIn returns the gradient of an input, nil if it was not stored.
func (c *Case) GradIn(name string) *Tensor { return c.tensors["grad_in/"+name] }

// StateBefore returns a buffer before the call, nil if there is none.
func (c *Case) StateBefore(name string) *Tensor { return c.tensors["state_before/"+name] }

// StateAfter returns a buffer after the call, from the float64 run if it was recorded; nil if there is none.
func (c *Case) StateAfter(name string) *Tensor {
	if t := c.tensors["state_after64/"+name]; t != nil {
		return t
	}
	return c.tensors["state_after/"+name]
}

// Outputs lists the results to compare: every name of out/* and out64/* once, sorted.
func (c *Case) Outputs() []string {
	names := append(c.Names("out/"), c.Names("out64/")...)
	slices.Sort(names)
	return slices.Compact(names)
}

// HasGrad reports whether a parameter reaches the loss. The gradient of one that does not is zero, or absent.
func (c *Case) HasGrad(param string) bool { return !slices.Contains(c.WithoutGrad, param) }

// LossWeight returns in/loss_weight.NAME, the factor of out/NAME in the loss; nil if the loss is the model's own.
func (c *Case) LossWeight(out string) *Tensor { return c.In("loss_weight." + out) }
