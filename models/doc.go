// Package models holds complete networks, one file for each family: its configuration, what its weights are called, and how it
// differs from its relatives. All of them are read from and written as a config.json beside a model.safetensors, under the names
// that Hugging Face's transformers use wherever the architecture exists there.
//
// Shapes in comments: B batch, T sequence, H heads, D head size, C model width, F feed-forward width, V vocabulary.
package models
