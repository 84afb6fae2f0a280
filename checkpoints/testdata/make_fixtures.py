"""Writes the fixtures of this folder with Python's safetensors (0.8.0): python3 make_fixtures.py"""
import os
import torch
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
special = [0.0, -0.0, 1.0, -2.0, 65504.0, 5.9604644775390625e-08, 0.333251953125, float("inf"), float("-inf"), float("nan")]
mixed = {
    "z.f64": torch.arange(6, dtype=torch.float64).reshape(2, 3) / 3,
    "f32": torch.arange(35, dtype=torch.float32).reshape(5, 7) / 7 - 2,
    "half": torch.tensor(special, dtype=torch.float16),
    "bf16": torch.tensor(special, dtype=torch.bfloat16),
    "i64": torch.tensor([[-(2**62)], [7], [2**31]], dtype=torch.int64),
    "i32": torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
    "i16": torch.tensor([-32768, 32767], dtype=torch.int16),
    "i8": torch.tensor([-128, 127, 5], dtype=torch.int8),
    "u8": torch.tensor([0, 255, 3], dtype=torch.uint8),
    "flag": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5, dtype=torch.float32),
    "empty": torch.zeros(0, 3, dtype=torch.float32),
    'name "with" <quotes>\u00e9': torch.tensor([1.0]),
}
save_file(mixed, os.path.join(here, "mixed.safetensors"), metadata={"format": "pt", "note": "x"})
floats = {k: mixed[k] for k in ("f32", "scalar", "empty", 'name "with" <quotes>\u00e9')}
save_file(floats, os.path.join(here, "float32.safetensors"), metadata={"format": "pt"})

# views.bin, views-old.bin and nested.bin: what torch.save makes of views of one table.
table = torch.arange(35, dtype=torch.float32).reshape(5, 7)
views = {
    "whole": table, "turned": table.t(), "part": table[1:4, 2:7:2], "row": table[3], "shared": table,
    "half": torch.arange(6).to(torch.float16) / 4, "brain": torch.arange(6).to(torch.bfloat16) / 4,
    "long": torch.arange(3) - 1, "bool": torch.tensor([True, False]), "param": torch.nn.Parameter(torch.ones(2, 3)),
    "scalar": torch.tensor(2.5, dtype=torch.float64), "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 3), "none": torch.zeros(0, 4),
}
torch.save(views, os.path.join(here, "views.bin"))
torch.save(views, os.path.join(here, "views-old.bin"), _use_new_zipfile_serialization=False)
torch.save({"state_dict": views, "epoch": 3}, os.path.join(here, "nested.bin"))
