#!/usr/bin/env python3
"""Tests that docs/reading.md is true: its lines stand in the source, those of a stop's own file right after its mark, and
on the way a reader meets no word of graph capture, mixed precision, recomputation or inlining.

    python3 reading_test.py
"""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = re.sub(r"^<!-- lines of: .* -->\n", "", (ROOT / "docs/reading.md").read_text(), flags=re.M)
# What lies between the stops: a reader who follows the calls or the links passes through these too. backend/contract.hpp
# is quoted, but serves every operation, so that of it only the quoted lines count.
BETWEEN = ["include/lpf/" + name for name in (
    "nn/linear.hpp", "optim/optimizer.hpp", "optim/lion.hpp", "core/slices.hpp", "core/gaussian.hpp", "filter/unfused.hpp",
    "filter/lpf_gradient.hpp", "backend/cpu/vectors.hpp", "backend/cpu/simd_noise.hpp")]
ELSEWHERE = r"captur|replay|autocast|mixed precision|recomput|remateriali|pending|LPF_ONCE|gnu_inline|inlin(?!e )"


def stops():
    """(number, file, text) of each stop of the page."""
    parts = re.split(r"^## (\d+)\. .*\]\(\.\./([^)]+)\)$", PAGE, flags=re.M)
    return [(int(n), path, text) for n, path, text in zip(parts[1::3], parts[2::3], parts[3::3])]


def blocks(path, text):
    """(file, code) of each block of a stop: the file is that of the link and colon before the block, or the stop's own."""
    for before, code in re.findall(r"(.*?)^```cpp\n(.*?)^```$", text, flags=re.M | re.S):
        link = re.search(r"\]\(\.\./([^)]+)\):\s*$", before)
        yield link.group(1) if link else path, code


class Reading(unittest.TestCase):
    def test_stops_are_numbered_and_few(self):
        numbers = [number for number, _, _ in stops()]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        self.assertEqual(len(numbers), len(re.findall(r"^## ", PAGE, flags=re.M)), "a heading that is no stop")
        self.assertLessEqual(len(numbers), 8)

    def test_lines_stand_in_the_source(self):
        for number, path, text in stops():
            own = 0
            for file, code in blocks(path, text):
                with self.subTest(stop=number, file=file):
                    source = (ROOT / file).read_text()
                    self.assertEqual(source.count(code), 1, code)
                    if file != path or number == 1:  # the mark of the quickstart is in the line itself
                        continue
                    own += 1
                    mark = f"// [reading {number}]\n"
                    self.assertEqual(source.count(mark), 1, mark)
                    between = source.split(mark)[1].split("// [reading")[0].partition(code)
                    self.assertTrue(between[1], f"not between {mark.strip()} and the next mark")
                    if own == 1:  # only comments stand between the mark and the lines
                        self.assertRegex(between[0], r"\A(\s*//[^\n]*\n)*\Z")
            self.assertTrue(number == 1 or own, f"stop {number} shows no line of {path}")
        self.assertEqual((ROOT / "examples/quickstart.cpp").read_text().count("// (*)"), 1)

    def test_marks_have_stops(self):
        marked = {}
        for path in (ROOT / "include/lpf").rglob("*.hpp"):
            for number in re.findall(r"\[reading (\d+)\]", path.read_text()):
                marked[int(number)] = str(path.relative_to(ROOT))
        self.assertEqual(marked, {number: path for number, path, _ in stops() if number > 1})

    def test_nothing_else_is_on_the_way(self):
        texts = {path: (ROOT / path).read_text() for path in {path for _, path, _ in stops()} | set(BETWEEN)}
        for number, path, text in stops():
            texts[f"stop {number}"] = "".join(code for _, code in blocks(path, text))
        for path, text in texts.items():
            for line, words in enumerate(text.splitlines(), 1):
                self.assertIsNone(re.search(ELSEWHERE, words, flags=re.I), f"{path}:{line}: {words.strip()}")

    def test_links_lead_to_files(self):
        for path in re.findall(r"\]\(([^)\s#:]+)\)", PAGE):
            self.assertTrue((ROOT / "docs" / path).is_file(), path)

    def test_the_pass_is_short(self):
        lines = (ROOT / "include/lpf/filter/perturbation.hpp").read_text().splitlines()
        self.assertLess(len(lines), 200)


if __name__ == "__main__":
    unittest.main()
