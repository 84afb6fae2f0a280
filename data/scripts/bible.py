#!/usr/bin/env python3
"""Verses of the Bible in three translations, as a table: reference, King James, World English, Reina-Valera 1909.

    python3 bible.py KJV WEB RV > bible_kjv_web_rv.tsv

KJV is what `bible -f -l 100000 "Gen1:1-Rev22:21"` prints, the other two what `diatheke -f OSIS` prints.

Left out are verses that one of the texts lacks, and those whose lengths differ so much that the numbers cannot mean the same verse.
"""
import collections
import re
import sys


def plain(osis):
    """The text of a verse without its notes, headings and marks."""
    osis = re.sub(r"<note.*?</note>|<title.*?</title>", "", osis)
    osis = osis.replace("</w><w>", "</w> <w>")
    osis = re.sub(r"<[^>]+>", "", osis)
    osis = re.sub(r"\((engWEB2015eb|spaRV1909eb)\)", "", osis)
    return re.sub(r"\s+", " ", osis).strip()


def read_rv(path):
    """Verses by (book, chapter, verse), in order. A line without a reference goes on with the verse before."""
    reference = re.compile(r"^([1-3IV]* ?[A-Z][A-Za-z ]+?) (\d+):(\d+): (.*)$")
    verses, at = {}, None
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            line = line.rstrip("\n")
            if found := reference.match(line):
                at = (found[1], int(found[2]), int(found[3]))
                verses[at] = found[4]
            elif at:
                verses[at] += " " + line
    return {at: plain(text) for at, text in verses.items()}


def read_web(path, books):
    """Verses by (book, chapter, verse). The module writes the last heading again before every later reference; it is taken off."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    names = "|".join(re.escape(book) for book in sorted(books, key=len, reverse=True))
    reference = re.compile(rf"({names}) (\d+):(\d+): ")
    found = list(reference.finditer(text))
    verses = {}
    for this, following in zip(found, found[1:] + [None]):
        end = following.start() if following else len(text)
        verses[this[1], int(this[2]), int(this[3])] = plain(text[this.end():end])

    count = collections.Counter()
    for line in text.split("\n"):
        first = reference.search(line)
        heading = plain(line[:first.start()] if first else line)
        if heading and len(heading) < 400:
            count[heading] += 1
    headings = sorted((h for h, n in count.items() if n >= 2), key=len, reverse=True)
    for at, verse in verses.items():
        again = True
        while again:
            again = False
            for heading in headings:
                if verse.endswith(heading) and len(verse) > len(heading):
                    verse, again = verse[:-len(heading)].strip(), True
        verses[at] = verse
    return verses


def read_kjv(path):
    """(short name of the book, chapter, verse, text), in order."""
    verse = re.compile(r"^([0-9]?[A-Za-z]+?)(\d+):(\d+) (.*)$")
    with open(path, encoding="latin-1") as lines:
        for line in lines:
            if found := verse.match(line.rstrip("\n")):
                yield found[1], int(found[2]), int(found[3]), found[4]


def alike(a, b):
    return 0.4 < len(a) / len(b) < 2.5


def main():
    kjv_path, web_path, rv_path = sys.argv[1:]
    rv = read_rv(rv_path)
    books = list(dict.fromkeys(book for book, _, _ in rv))
    web = read_web(web_path, books)
    kjv = list(read_kjv(kjv_path))
    short = list(dict.fromkeys(book for book, *_ in kjv))
    if not len(short) == len(books) == 66:
        sys.exit(f"{len(short)} and {len(books)} books instead of 66: are all packages installed?")
    for book, chapter, number, old in kjv:
        at = (books[short.index(book)], chapter, number)
        new, spanish = web.get(at), rv.get(at)
        if new and spanish and alike(new, spanish) and alike(old, new):
            print(f"{at[0]} {chapter}:{number}\t{old}\t{new}\t{spanish}")


main()
