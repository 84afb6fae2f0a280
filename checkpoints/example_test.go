package checkpoints_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"gorgonia.org/tensor"

	"github.com/euryale-ml/euryale/checkpoints"
	"github.com/euryale-ml/euryale/models"
)

// A model folder is written at once or not at all, and opened wherever a command says MODEL.
func ExampleWriteModel() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	m, err := models.New([]byte(`{"model_type": "decoder", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}`))
	if err != nil {
		log.Fatal(err)
	}
	params, err := models.NewParams(m, tensor.Float32, 1)
	if err != nil {
		log.Fatal(err)
	}
	config, err := m.Config()
	if err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "mine")
	if err := checkpoints.WriteModel(path, config, models.Tensors(params), map[string][]byte{"README.md": []byte("# Mine\n")}); err != nil {
		log.Fatal(err)
	}

	again, err := checkpoints.Resolve(path)
	if err != nil {
		log.Fatal(err)
	}
	defer again.Close()
	info, _ := again.Tensors.Info(again.Tensors.Names()[0])
	fmt.Println(len(again.Tensors.Names()), "tensors, the first", again.Tensors.Names()[0], info.Shape)
	// Output:
	// 15 tensors, the first decoder.h.0.attn.out.bias [32]
}

// The newest checkpoints are kept, and the best one. A checkpoint that is damaged is passed over.
func ExampleSave() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for step := 1; step <= 4; step++ {
		weights := tensor.New(tensor.WithShape(2), tensor.WithBacking([]float32{float32(step), 0}))
		err := checkpoints.Save(dir, checkpoints.Snapshot{Step: step, Best: 1, Config: []byte("{}"), State: map[string]int{"seen": 100 * step},
			Model: []checkpoints.Tensor{models.Tensor("w", weights)}}, checkpoints.Options{Keep: 2})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(checkpoints.StepDir(dir, 4), "model.safetensors"), 9); err != nil {
		log.Fatal(err)
	}
	snap, report, err := checkpoints.Load(dir)
	if err != nil {
		log.Fatal(err)
	}
	var state struct{ Seen int }
	if err := snap.DecodeState(&state); err != nil {
		log.Fatal(err)
	}
	fmt.Println("step", snap.Step, "has seen", state.Seen, "- passed over:", len(report.Skipped))
	best, err := checkpoints.Best(dir)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("best: step", best.Step)
	// Output:
	// step 3 has seen 300 - passed over: 1
	// best: step 1
}
