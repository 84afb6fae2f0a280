// Package train turns a model and a corpus into a trained checkpoint: optimiser, learning-rate schedule, training loop with
// exact resume, evaluation, metrics and text generation.
//
// Words: a step is one update of the weights. A step reads global_batch sequences, batch_size of them at a time; the gradients
// of the parts are added up (gradient accumulation). Sequences are numbered from the start of training, so that the position in
// the data is one number.
package train
