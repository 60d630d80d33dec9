#!/usr/bin/env python3
"""Writes lpf_datasets/digits.inc, the handwritten digits that LPF embeds, from the published table.

    python3 make_digits.py digits.csv.gz                  (a line is 64 pixels and the label; plain or gzip)

The input is scikit-learn's sklearn/datasets/data/digits.csv.gz, a copy of the test part (optdigits.tes) of the UCI
repository's data set. Nothing is left out, reordered or rescaled. A pixel 0 … 16 becomes a letter 'a' … 'q', so an
image is a string of 64 letters, row by row, and the digit it shows follows as the 65th character.
"""
import argparse
import gzip
import pathlib

HEADER = """\
// Optical Recognition of Handwritten Digits (E. Alpaydin, C. Kaynak; UCI Machine Learning Repository, 1998,
// https://doi.org/10.24432/C50P49), licensed under CC BY 4.0. Changed: written as text, see ../README.md. Made by
// make_digits.py: 64 pixels, 'a' for 0 … 'q' for 16, row by row, then the label.
"""
COUNT = 1797


def records(path):
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    for number, line in enumerate(data.decode("ascii").split(), start=1):
        values = [int(float(v)) for v in line.split(",")]
        pixels, label = values[:-1], values[-1]
        if len(pixels) != 64 or not all(0 <= p <= 16 for p in pixels) or not 0 <= label <= 9:
            raise SystemExit(f"{path}: line {number} is not 64 pixels 0..16 and a label 0..9: {line}")
        yield "".join(chr(ord("a") + p) for p in pixels) + str(label)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="digits.csv or digits.csv.gz")
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent / "lpf_datasets" / "digits.inc")
    args = parser.parse_args()
    lines = [f'"{record}",\n' for record in records(args.table)]
    if len(lines) != COUNT:
        raise SystemExit(f"{args.table}: {len(lines)} lines, expected {COUNT}")
    args.out.write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
