// Package checkpoints keeps what a training run must not lose: weights, optimiser moments, counters.
//
// A checkpoint is a folder
//
//	checkpoints/step-00001200/
//	    config.json            what was trained, as the caller wrote it
//	    model.safetensors      weights
//	    optimizer.safetensors  moments
//	    state.json             step, best step, and the caller's state (schedule, data position, versions)
//	    manifest.json          size and sha256 of each file; written last
//
// It is written beside its final name, synced, and renamed: a reader sees all of it or nothing. A folder without a valid
// manifest is not a checkpoint; readers walk back to the newest one that is and say what they skipped.
// Weights are read and written as safetensors by a parser of our own that trusts no declared size.
//
// Everything read is taken as hostile, every fault is a *FileError that wraps one of the Err values.
package checkpoints
