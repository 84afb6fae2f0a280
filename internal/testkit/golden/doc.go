// Package golden reads recorded outputs and gradients of reference implementations and compares results with them.
//
// A case is a pair NAME.json and NAME.safetensors in a folder named after the system. Tensors are named by what they are:
//
//	param/*                       parameters (or all tensors of the file that `params_file` names, under plain names)
//	in/*                          inputs, labels, loss weights
//	rand/*                        random draws, to be injected
//	out/*, out64/*                results of the float32 and of the float64 run
//	grad/*, grad_in/*             gradients of the loss, from the float64 run
//	state_before/*, state_after/*, state_after64/*   buffers that the call changes
//	mid64/*                       intermediate values, for finding an error
//
// Language models of the Hugging Face families are built from a case or a folder and run by Run; CheckModel compares all that
// a case holds. Adapters for the other systems are test files, where the quirks of their packages belong.
//
// Tests and the commands verify and predict share this package, so it knows nothing of *testing.T.
package golden
