"""Writes chains.jsonl.gz: small byte-level tokenizers with every form of Unicode before them and every way of trimming behind them, and what
tokenizers 0.23.3 makes of strings with many marks, new characters and blanks. Needs: pip install tokenizers==0.23.3"""
import gzip, json, random
from tokenizers import Tokenizer, decoders, models, normalizers as N, pre_tokenizers, processors

rng = random.Random(9)
marks = [chr(c) for c in list(range(0x300, 0x370)) + list(range(0x20D0, 0x20F0)) + list(range(0x591, 0x5BE)) + [0x93C, 0x9BC, 0xE38, 0xF71, 0x1CF2, 0x1DF7, 0x3099, 0x309A]]
letters = list("aAeEoOsSuUnN dD") + [chr(c) for c in list(range(0xC0, 0x180)) + list(range(0x1E00, 0x1F00)) + list(range(0x1F00, 0x1FFF)) + list(range(0x915, 0x940))]
rare = [chr(c) for c in list(range(0x1100, 0x1200)) + list(range(0xAC00, 0xAC40)) + list(range(0xF900, 0xF940)) + list(range(0xFB00, 0xFB50)) + list(range(0xFF60, 0xFFA0))
        + list(range(0x2460, 0x24A0)) + list(range(0x3300, 0x3340)) + [0x1FBF7, 0x32FF, 0xA7F2, 0x11935, 0x11930, 0x11938, 0x10781, 0x1E030, 0x1D15E, 0x1D1BC, 0x340, 0x344, 0x958, 0x2ADC, 0x212B]]


def one():
    out = []
    for _ in range(rng.randrange(1, 9)):
        pool = rng.choice([letters, letters, rare, [" ", "  ", "   ", "\t"]])
        out.append(rng.choice(pool))
        out += rng.choices(marks, k=rng.choice([0, 0, 1, 1, 2, 3, 5]))
    return rng.choice(["", "", " ", "  ", "   "]) + "".join(out) + rng.choice(["", " "])


def tokenizer(form=None, prefix=False, trim=False):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(letters + ["ĠĠ"])}, merges=[("Ġ", "Ġ")]))
    if form:
        t.normalizer = form
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=not trim)
    t.decoder = decoders.ByteLevel()
    if trim:
        t.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=prefix)
    return t


chains = [tokenizer(f) for f in (N.NFC(), N.NFD(), N.NFKC(), N.NFKD(), N.Sequence([N.NFKD(), N.StripAccents(), N.Lowercase()]), N.Sequence([N.NFC(), N.NFKD(), N.NFC()]))]
chains += [tokenizer(None, True, True), tokenizer(None, False, True), tokenizer(N.NFKC(), True, True)]
with gzip.GzipFile("chains.jsonl.gz", "wb", mtime=0) as f:
    for t in chains:
        rows = []
        for s in (one() for _ in range(120)):
            e = t.encode(s)
            rows.append({"s": s, "ids": e.ids, "offsets": [x for o in e.offsets for x in o]})
        f.write(json.dumps({"tokenizer": json.loads(t.to_str()), "rows": rows}).encode() + b"\n")
