#!/usr/bin/env python3
"""Tests that docs/reading.md is true: each stop's lines stand in its file after its mark, and on the way a reader meets no
word of graph capture, mixed precision, recomputation or inlining.

    python3 reading_test.py
"""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reading.md").read_text()
# What lies between the stops: a reader who follows the calls passes through these too.
BETWEEN = ["include/lpf/nn/linear.hpp", "include/lpf/optim/optimizer.hpp"]
ELSEWHERE = r"captur|replay|autocast|mixed precision|recomput|remateriali|pending|LPF_ONCE|gnu_inline|inlin(?!e )"


def stops():
    """(number, file, code) of each stop of the page."""
    parts = re.split(r"^## (\d+)\. .*\]\(\.\./([^)]+)\)$", PAGE, flags=re.M)
    for number, path, body in zip(parts[1::3], parts[2::3], parts[3::3]):
        yield int(number), path, re.search(r"^```cpp\n(.*?)^```$", body, flags=re.M | re.S).group(1)


class Reading(unittest.TestCase):
    def test_stops_are_numbered_and_few(self):
        numbers = [number for number, _, _ in stops()]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertEqual(len(numbers), len(re.findall(r"^## ", PAGE, flags=re.M)), "a heading that is no stop")
        self.assertLessEqual(len(numbers), 8)

    def test_lines_stand_in_the_source(self):
        for number, path, code in stops():
            with self.subTest(stop=number, file=path):
                source = (ROOT / path).read_text()
                if number == 1:  # the mark of the quickstart is in the line itself
                    self.assertEqual(source.count("// (*)"), 1)
                    after = source
                else:
                    mark = f"// [reading {number}]"
                    self.assertEqual(source.count(mark), 1, mark)
                    after = source.split(mark)[1].split("// [reading")[0]
                self.assertIn(code, after)

    def test_marks_have_stops(self):
        marked = {}
        for path in (ROOT / "include/lpf").rglob("*.hpp"):
            for number in re.findall(r"\[reading (\d+)\]", path.read_text()):
                marked[int(number)] = str(path.relative_to(ROOT))
        self.assertEqual(marked, {number: path for number, path, _ in stops() if number > 1})

    def test_nothing_else_is_on_the_way(self):
        for path in {path for _, path, _ in stops()} | set(BETWEEN):
            for line, text in enumerate((ROOT / path).read_text().splitlines(), 1):
                self.assertIsNone(re.search(ELSEWHERE, text, flags=re.I), f"{path}:{line}: {text.strip()}")

    def test_the_pass_is_short(self):
        lines = (ROOT / "include/lpf/filter/perturbation.hpp").read_text().splitlines()
        self.assertLess(len(lines), 200)


if __name__ == "__main__":
    unittest.main()
