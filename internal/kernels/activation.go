package kernels

import "fmt"

// Activation names an elementwise nonlinearity.
type Activation uint8

// The activations, and the words Hugging Face configurations use for them.
const (
	None      Activation = iota // y = x: "none", "linear", "identity"
	GELU                        // x Φ(x), by the error function: "gelu"
	GELUTanh                    // the tanh form of GELU: "gelu_new", "gelu_pytorch_tanh", "gelu_fast"
	QuickGELU                   // x σ(1.702 x): "quick_gelu"
	SiLU                        // x σ(x): "silu", "swish"
	ReLU                        // max(x, 0): "relu"
	LeakyReLU                   // x if x > 0, else 0.01 x: "leaky_relu"
	Softplus                    // log(1 + eˣ): "softplus"
	Sigmoid                     // σ(x) = 1/(1 + e⁻ˣ): "sigmoid"
	Tanh                        // "tanh"

	numActivations
)

// leak is the slope of LeakyReLU below zero.
const leak = 0.01

var activationNames = [numActivations]string{"none", "gelu", "gelu_new", "quick_gelu", "silu", "relu", "leaky_relu", "softplus",
	"sigmoid", "tanh"}

var activationAliases = map[string]Activation{"": None, "linear": None, "identity": None, "gelu_python": GELU,
	"gelu_pytorch_tanh": GELUTanh, "gelu_python_tanh": GELUTanh, "gelu_fast": GELUTanh, "gelu_accurate": GELUTanh, "swish": SiLU}

// String returns Hugging Face's word for a.
func (a Activation) String() string {
	if a < numActivations {
		return activationNames[a]
	}
	return fmt.Sprintf("Activation(%d)", uint8(a))
}

// ActivationError says that a word names no known activation.
type ActivationError struct{ Name string }

func (e *ActivationError) Error() string {
	return fmt.Sprintf("unknown activation %q: use one of %v", e.Name, activationNames)
}

// ParseActivation reads Hugging Face's word for an activation ("hidden_act"). The error is an *ActivationError.
func ParseActivation(name string) (Activation, error) {
	for a, s := range activationNames {
		if s == name {
			return Activation(a), nil
		}
	}
	if a, ok := activationAliases[name]; ok {
		return a, nil
	}
	return None, &ActivationError{name}
}
