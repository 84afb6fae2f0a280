"""Writes strings.jsonl.gz and templates.json: what the originals make of strings of mixed scripts.

python3 make_fixtures.py [strings seed]   with tokenizers 0.23.3, sentencepiece 0.2.3, protobuf, Python 3.11 (characters assigned in Unicode 14)

A line of strings.jsonl.gz is {"s": string, "h": [crc32 of what each tokenizer makes of it]}, and the first ones have everything in "full".
The text that is hashed is "ids|offsets|decoded", numbers separated by blanks. Order of the tokenizers: wordpiece, bpe, unigram (tokenizer.json),
SentencePiece.
"""
import gzip, json, os, random, sys, unicodedata, zlib
import sentencepiece, tokenizers
import sentencepiece.sentencepiece_model_pb2 as proto
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

here = os.path.dirname(os.path.abspath(__file__))
path = lambda name: os.path.join(here, name)
count, seed = int(sys.argv[1]) if len(sys.argv) > 1 else 10000, int(sys.argv[2]) if len(sys.argv) > 2 else 7
rng = random.Random(seed)

def chars(*ranges):
    return [chr(c) for lo, hi in ranges for c in range(lo, hi) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]

pools = {
    "ascii": chars((32, 127)), "latin": chars((0xa0, 0x250), (0x1e00, 0x1f00)), "greek": chars((0x370, 0x400), (0x1f00, 0x2000)),
    "cyrillic": chars((0x400, 0x530)), "right to left": chars((0x590, 0x700)), "indic": chars((0x900, 0xe00)), "thai": chars((0xe00, 0x1000)),
    "hangul": chars((0x1100, 0x1200), (0xac00, 0xad00)), "kana": chars((0x3000, 0x3200)), "han": chars((0x4e00, 0x4f00), (0x20000, 0x20020)),
    "wide": chars((0xff00, 0xfff0)), "emoji": chars((0x1f300, 0x1f700)) + ["\u200d", "\ufe0f", "\U0001f3fd", "\U0001f1e9", "\U0001f1ea"],
    "marks": chars((0x300, 0x370), (0x20d0, 0x20f0)), "control": chars((0, 32), (0x7f, 0xa0)) + ["\u200e", "\u202e", "\ufeff", "\ufffd", "\u00ad", "\ue000"],
    "symbols": chars((0x2010, 0x2200), (0x2460, 0x2500)), "any": chars((1, 0x20000)),
    "space": [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\u1680", "\u0085", "\x0b", "\x0c"],
}
words = ("the of and whale Ahab's sea, It's don't we'll I'm you've she'd THE Unbelievable internationalization 1851 3.14 12,345 e.g. (so-called) naive "
         "na\u00efve caf\u00e9 \u00c5ngstr\u00f6m stra\u00dfe \u0130stanbul \ufb01n \u2460 \u3314 [MASK] [CLS] <s> <unk> <|endoftext|> ##ing \u2581 \u2581\u2581x <0x41> "
         "http://a.b/c?d=e loooooong aaaaaaaaaaaaaaaaaaaa \u201cquoted\u201d --- ... !!").split()

def string():
    kind, n, out = rng.random(), rng.randrange(0, 12), []
    if kind < .25:
        return "".join(rng.choice(words) + rng.choice([" ", " ", " ", "  ", "\n", ", "]) for _ in range(n))
    if kind < .6:
        some = rng.sample(list(pools), rng.randrange(1, 4))
        return "".join(rng.choice(pools[rng.choice(some)]) for _ in range(2 * n))
    for _ in range(n):
        r = rng.random()
        if r < .5:
            out.append(rng.choice(words))
        elif r < .65:
            out.append(rng.choice(pools["space"]))
        else:
            pool = pools[rng.choice(list(pools))]
            out.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 5))))
        if rng.random() < .5:
            out.append(" ")
    return "".join(out)

wordpiece = Tokenizer.from_str(gzip.open(path("wordpiece.json.gz"), "rt").read())
wordpiece.no_truncation()
wordpiece.no_padding()
vocab = json.load(gzip.open(path("gpt2-vocab.json.gz"), "rt"))
merges = [tuple(line.split()) for line in gzip.open(path("gpt2-merges.txt.gz"), "rt").read().split("\n")[1:] if line]
bpe = Tokenizer(models.BPE(vocab=vocab, merges=merges))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
bpe.add_special_tokens(["<|endoftext|>"])
model = proto.ModelProto()
model.ParseFromString(open(path("unigram.model"), "rb").read())
unigram = Tokenizer(models.Unigram([(p.piece, p.score) for p in model.pieces], unk_id=0, byte_fallback=False))
unigram.normalizer = normalizers.Sequence([normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap), normalizers.Replace(Regex(" {2,}"), " ")])
unigram.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
unigram.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
unigram.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)])
unigram.add_special_tokens(["<unk>", "<s>", "</s>"])
with gzip.GzipFile(path("unigram.json.gz"), "wb", 9, mtime=0) as f:
    f.write(unigram.to_str().encode())
pieces = sentencepiece.SentencePieceProcessor(model_file=path("unigram.model"))

def made(s):
    for t in (wordpiece, bpe, unigram):
        e = t.encode(s, add_special_tokens=False)
        yield e.ids, [x for o in e.offsets for x in o], t.decode(e.ids, skip_special_tokens=True)
    p = pieces.encode(s, return_type="proto").pieces
    at = lambda n: len(s.encode()[:n].decode(errors="ignore"))
    yield [x.id for x in p], [y for x in p for y in (at(x.begin), at(x.end))], pieces.decode([x.id for x in p])

with gzip.GzipFile(path("strings.jsonl.gz"), "wb", 9, mtime=0) as f:
    for i in range(count):
        s = string()
        full = list(made(s))
        texts = ["|".join([" ".join(map(str, ids)), " ".join(map(str, offsets)), text]) for ids, offsets, text in full]
        row = {"s": s, "h": [zlib.crc32(t.encode()) for t in texts]}
        if i < 100:
            row["full"] = texts
        f.write((json.dumps(row, ensure_ascii=False) + "\n").encode())

# Templates, truncation and padding, of RoBERTa's parts too.
roberta = Tokenizer(models.BPE(vocab=vocab, merges=merges))
roberta.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
roberta.decoder = decoders.ByteLevel()
roberta.post_processor = processors.RobertaProcessing(("<|endoftext|>", 50256), ("!", 0), trim_offsets=True, add_prefix_space=True)
rows = []
for name, t in (("wordpiece", wordpiece), ("unigram", unigram), ("roberta", roberta)):
    for texts in (["Call me  Ishmael."], ["Some years ago", "never mind how long precisely"], ["having little or no money in my purse", "and nothing"], [""]):
        for limit in (0, 5, 6, 9):
            t.no_truncation()
            if limit:
                t.enable_truncation(limit)
            e = t.encode(*texts)
            rows.append({"tokenizer": name, "texts": texts, "limit": limit, "ids": e.ids, "types": e.type_ids, "tokens": e.tokens, "offsets": e.offsets, "special": e.special_tokens_mask})
json.dump(rows, open(path("templates.json"), "w"), ensure_ascii=False)
print(count, "strings; tokenizers", tokenizers.__version__, "sentencepiece", sentencepiece.__version__, "Unicode", unicodedata.unidata_version)
