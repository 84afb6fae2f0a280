package checkpoints

import "fmt"

// storages are the classes of memory, by name.
var storages = map[string]Dtype{
	"torch.DoubleStorage": F64, "torch.FloatStorage": F32, "torch.HalfStorage": F16, "torch.BFloat16Storage": BF16,
	"torch.LongStorage": I64, "torch.IntStorage": I32, "torch.ShortStorage": I16, "torch.CharStorage": I8, "torch.ByteStorage": U8,
	"torch.BoolStorage": Bool,
}

// callable are the functions that a state dict calls.
var callable = map[string]func(args pickleTuple) (any, error){
	"collections.OrderedDict": func(args pickleTuple) (any, error) {
		if len(args) > 0 {
			return nil, fmt.Errorf("makes an OrderedDict of arguments")
		}
		return &pickleDict{}, nil
	},
	"torch._utils._rebuild_tensor_v2": rebuildTensor,
	"torch._utils._rebuild_tensor":    rebuildTensor,
	"torch._utils._rebuild_parameter": func(args pickleTuple) (any, error) {
		if len(args) > 0 {
			if t, ok := args[0].(*pickleTensor); ok {
				return t, nil
			}
		}
		return nil, fmt.Errorf("makes a parameter of something that is no tensor")
	},
}

// rebuildTensor is (storage, offset, size, stride, …); what follows (requires_grad, hooks) has no effect on values.
func rebuildTensor(args pickleTuple) (any, error) {
	bad := fmt.Errorf("makes a tensor of wrong arguments")
	if len(args) < 4 {
		return nil, bad
	}
	t := &pickleTensor{}
	var ok [4]bool
	var offset int64
	t.storage, ok[0] = args[0].(*pickleStorage)
	offset, ok[1] = args[1].(int64)
	t.shape, ok[2] = ints(args[2])
	t.stride, ok[3] = ints(args[3])
	if ok != [4]bool{true, true, true, true} || offset < 0 || len(t.shape) != len(t.stride) || len(t.shape) > maxAxes {
		return nil, bad
	}
	t.offset = int(offset)
	return t, nil
}

func ints(v any) ([]int, bool) {
	t, ok := v.(pickleTuple)
	out := make([]int, len(t))
	for i, x := range t {
		n, is := x.(int64)
		if ok = ok && is && n >= 0; !ok {
			return nil, false
		}
		out[i] = int(n)
	}
	return out, ok
}

// call does what names and calls things: GLOBAL, STACK_GLOBAL, BINPERSID, REDUCE, BUILD.
func (u *unpickler) call(op byte) error {
	switch op {
	case 'c':
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		if err != nil {
			return err
		}
		return u.global(module + "." + name)
	case 0x93:
		name, err := u.pop()
		if err != nil {
			return err
		}
		module, err := u.pop()
		if err != nil {
			return err
		}
		return u.global(fmt.Sprint(module, ".", name))
	case 'Q':
		v, err := u.pop()
		if err != nil {
			return err
		}
		s, err := storageOf(v)
		if err != nil {
			return err
		}
		return u.push(s)
	}
	arg, err := u.pop()
	if err != nil {
		return err
	}
	target, err := u.pop()
	if err != nil {
		return err
	}
	if op == 'b' { // attributes of a dict, such as _metadata, are of no use here
		if d, ok := target.(*pickleDict); ok {
			return u.push(d)
		}
		return fmt.Errorf("sets the state of something that has none")
	}
	name, _ := target.(pickleName)
	args, ok := arg.(pickleTuple)
	if callable[string(name)] == nil || !ok {
		return fmt.Errorf("calls something that is no function of tensors")
	}
	v, err := callable[string(name)](args)
	if err != nil {
		return err
	}
	return u.push(v)
}

// global pushes a name, if it is one of tensors.
func (u *unpickler) global(name string) error {
	if callable[name] == nil && storages[name] == "" {
		return fmt.Errorf("names %s, which plain tensors do not need: it was not run", shorten(name))
	}
	return u.push(pickleName(name))
}

// storageOf reads a persistent id: ("storage", class, key, device, elements), in the old format followed by nil or (key, first, elements).
func storageOf(v any) (*pickleStorage, error) {
	bad := fmt.Errorf("names memory in an unknown way")
	t, ok := v.(pickleTuple)
	if !ok || len(t) < 5 || t[0] != "storage" {
		return nil, bad
	}
	class, _ := t[1].(pickleName)
	key, isKey := t[2].(string)
	n, isSize := t[4].(int64)
	s := &pickleStorage{key: key, dtype: storages[string(class)], size: int(n)}
	if s.dtype == "" || !isKey || !isSize || n < 0 {
		return nil, bad
	}
	if len(t) > 5 && t[5] != nil {
		view, _ := t[5].(pickleTuple)
		if len(view) != 3 {
			return nil, bad
		}
		first, isFirst := view[1].(int64)
		if size, isSize := view[2].(int64); !isFirst || !isSize || first < 0 || size < 0 || first+size > n {
			return nil, bad
		}
		s.view = int(first)
	}
	return s, nil
}
