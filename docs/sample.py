"""Prints comment blocks of the sources, drawn by a seed: python docs/sample.py SEED [COUNT]

A block is a run of comment lines of one kind (`//!`, `///`, `//`) in a `.rs` file under src. Blocks are ordered by the SHA-256 of
the seed, the path and the text, so the same seed and sources give the same sample. Each block is printed with the code line
after it, for a reader who judges whether the comment is plain English (docs/style.md).
"""

import hashlib
import pathlib
import re
import sys

KIND = re.compile(r"\s*(//!|///|//)")


def blocks(path):
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        found = KIND.match(lines[at])
        if not found:
            at += 1
            continue
        start = at
        while at < len(lines) and (same := KIND.match(lines[at])) and same.group(1) == found.group(1):
            at += 1
        yield start + 1, lines[start:at], lines[at].strip() if at < len(lines) else ""


def main():
    seed, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 100
    root = pathlib.Path(__file__).resolve().parent.parent
    drawn = []
    for path in sorted(root.glob("src/**/*.rs")):
        name = path.relative_to(root).as_posix()
        for line, block, after in blocks(path):
            place = hashlib.sha256("\0".join([seed, name, *block]).encode()).hexdigest()
            drawn.append((place, name, line, block, after))
    for number, (_, name, line, block, after) in enumerate(sorted(drawn)[:count], 1):
        print(f"[{number}] {name}:{line}")
        print("\n".join(text.strip() for text in block))
        print(f"    {after}\n")


if __name__ == "__main__":
    main()
