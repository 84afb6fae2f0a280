#!/bin/sh
# Writes the assembly of all parts (or of those named) for both vector widths: sh regen.sh [gemm|elem|attention]...
set -e
cd "$(dirname "$0")"
for part in ${*:-gemm elem attention}; do
	for set in avx2 avx512; do
		go run main.go width.go $(ls "$part"*.go) -part "$part" -set "$set" -pkg kernels \
			-out "../${part}_${set}_amd64.s" -stubs "../${part}_${set}_amd64.go"
	done
done
