//go:build amd64 && !noasm

package kernels

func elemAVX2() elemKernels {
	return elemKernels{
		act: [numActivations]func(x, y []float32){goCopy[float32], geluAVX2, geluTanhAVX2, quickGELUAVX2, siluAVX2, reluAVX2, leakyReLUAVX2,
			softplusAVX2, sigmoidAVX2, tanhAVX2},
		actGrad: [numActivations]func(x, dy, dx []float32){goCopyGrad[float32], geluGradAVX2, geluTanhGradAVX2, quickGELUGradAVX2,
			siluGradAVX2, reluGradAVX2, leakyReLUGradAVX2, softplusGradAVX2, sigmoidGradAVX2, tanhGradAVX2},
		exp: expAVX2, exp2: exp2AVX2, add: addAVX2, mul: mulAVX2, axpy: axpyAVX2, scale: scaleAVX2, addRow: addRowAVX2,
		colSum: colSumAVX2, sum: sumAVX2, sumSq: sumSqAVX2, finite: finiteAVX2,
		layerNorm: layerNormAVX2, layerNormGrad: layerNormGradAVX2, rmsNorm: rmsNormAVX2, rmsNormGrad: rmsNormGradAVX2,
		maxOf: maxOfAVX2, expSub: expSubAVX2, sumExp: sumExpAVX2, subSub: subSubAVX2,
		softmaxGrad: softmaxGradAVX2, logSoftmaxGrad: logSoftmaxGradAVX2,
		adamW: adamWAVX2, dropout: dropoutAVX2, rope: ropeAVX2,
	}
}

func elemAVX512() elemKernels {
	return elemKernels{
		act: [numActivations]func(x, y []float32){goCopy[float32], geluAVX512, geluTanhAVX512, quickGELUAVX512, siluAVX512, reluAVX512,
			leakyReLUAVX512, softplusAVX512, sigmoidAVX512, tanhAVX512},
		actGrad: [numActivations]func(x, dy, dx []float32){goCopyGrad[float32], geluGradAVX512, geluTanhGradAVX512, quickGELUGradAVX512,
			siluGradAVX512, reluGradAVX512, leakyReLUGradAVX512, softplusGradAVX512, sigmoidGradAVX512, tanhGradAVX512},
		exp: expAVX512, exp2: exp2AVX512, add: addAVX512, mul: mulAVX512, axpy: axpyAVX512, scale: scaleAVX512,
		addRow: addRowAVX512, colSum: colSumAVX512, sum: sumAVX512, sumSq: sumSqAVX512, finite: finiteAVX512,
		layerNorm: layerNormAVX512, layerNormGrad: layerNormGradAVX512, rmsNorm: rmsNormAVX512, rmsNormGrad: rmsNormGradAVX512,
		maxOf: maxOfAVX512, expSub: expSubAVX512, sumExp: sumExpAVX512, subSub: subSubAVX512,
		softmaxGrad: softmaxGradAVX512, logSoftmaxGrad: logSoftmaxGradAVX512,
		adamW: adamWAVX512, dropout: dropoutAVX512, rope: ropeAVX512,
	}
}
