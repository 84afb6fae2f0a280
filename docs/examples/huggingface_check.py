"""Does a folder that Euryale wrote open in transformers, with the same outputs?

    pip install torch transformers safetensors
    python docs/examples/huggingface_check.py FOLDER [--euryale ./euryale] [--length 40]

Random token ids go through both; the largest difference of the outputs is printed, and the exit code is 1 if it is more than 1e-5, or more than
1e-5 of the largest output where that is above 1: both compute in single precision. A Reformer draws its rotations anew in every call, so those of
transformers are handed over with the ids; where it hashes in several rounds, transformers' own sums in single precision are off by up to 1e-2, and
both are compared with what it gives in double precision.
"""
import argparse, json, os, subprocess, sys, tempfile
import torch
import transformers
from safetensors.torch import load_file, save_file

p = argparse.ArgumentParser()
p.add_argument("folder")
p.add_argument("--euryale", default="./euryale")
p.add_argument("--length", type=int, default=40)
a = p.parse_args()

config = json.load(open(os.path.join(a.folder, "config.json")))
model = getattr(transformers, config["architectures"][0]).from_pretrained(a.folder, attn_implementation="eager").eval()
drawn = {}  # the rotations of a Reformer, of each of its layers that hash


def hash_with(layer, name):
    def draw(shape, device=None, dtype=None):
        if name not in drawn:
            drawn[name] = randn(shape)
        return drawn[name].to(dtype)

    def hashed(*args, **kwargs):
        torch.randn = draw
        try:
            return vectors(*args, **kwargs)
        finally:
            torch.randn = randn

    vectors, randn = layer._hash_vectors, torch.randn
    layer._hash_vectors = hashed


if config["model_type"] == "reformer":
    hashing = [layer for layer in model.modules() if hasattr(layer, "_hash_vectors")]
    for i, layer in enumerate(hashing):
        hash_with(layer, f"rand/lsh{i}.rotations")
    if hasattr(model, "lm_head"):
        model.lm_head.decoder.bias = model.lm_head.bias  # which some versions 5 leave out
    model = model.double()
torch.manual_seed(0)
ids = torch.randint(min(7, config["vocab_size"] - 2), config["vocab_size"], (2, a.length))
inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
if model.config.is_encoder_decoder:
    inputs["decoder_input_ids"] = ids[:, : a.length // 2].clone()
if config["model_type"] == "imagegpt":
    del inputs["attention_mask"]
if config["architectures"][0].endswith("QuestionAnswering") and "sep_token_id" in config:
    sep = config["sep_token_id"]
    ids[:, 5], ids[:, 6 if config["model_type"] == "longformer" else 5], ids[:, -1] = sep, sep, sep
with torch.no_grad():
    out = model(**inputs)
wanted = {k: out[k] for k in ("logits", "start_logits", "end_logits", "last_hidden_state") if k in out}
with tempfile.TemporaryDirectory() as tmp:
    given, made = os.path.join(tmp, "in.safetensors"), os.path.join(tmp, "out.safetensors")
    save_file({"in/" + k: v.contiguous() for k, v in inputs.items()} | drawn, given)
    subprocess.run([a.euryale, "predict", a.folder, "--input", given, "--output", made], check=True)
    ours = load_file(made)
worst = max((ours["out/" + k].double() - v.double()).abs().max().item() / max(1, v.abs().max().item()) for k, v in wanted.items())
print(f"{a.folder}: {', '.join(wanted)}: the largest difference is {worst:.2g}")
sys.exit(worst > 1e-5)
