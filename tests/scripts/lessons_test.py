#!/usr/bin/env python3
"""The programs of docs/lessons print what their pages show: exactly where it does not depend on the machine, and otherwise
within what another instruction set changes.

    python3 tests/scripts/lessons_test.py FOLDER_OF_THE_PROGRAMS [name of a test]
"""
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LESSONS = ROOT / "docs/lessons"
folder = pathlib.Path(sys.argv[1]).resolve()
programs = ["lesson1_smoothing", "lesson2_digits", "lesson3_flatness", "smoothing_animation", "lesson1_solutions",
            "lesson2_solutions", "lesson3_solutions"]
NUMBER = re.compile(r"[-−]?\d+(?:\.\d+)?(?:e[-+]\d+)?")


def output(program, *flags):
    done = subprocess.run([folder / program, *flags], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


def number(text):
    return float(text.replace("−", "-"))


def shown(page, program):
    """The output block of a page below the command."""
    text = (LESSONS / page).read_text()
    return re.search(rf"```bash\n{program}\n```\n(?:<!-- output -->\n)?\n?```text\n(.*?)```", text, flags=re.S).group(1)


def rows(text):
    """The cells of the tables' rows, by the columns' places: at least two spaces apart."""
    return [re.split(r"  +", line.strip()) for line in text.splitlines()]


class Lessons(unittest.TestCase):
    maxDiff = None

    def nearly(self, page, program, relative, absolute):
        """Runs a program; the words are those of the page, and the numbers near them. Returns the rows."""
        wanted, found = shown(page, program), output(program)
        words = [re.sub(r"[ ─]+", " ", NUMBER.sub("0", t)) for t in (wanted, found)]
        self.assertEqual(words[1].split(), words[0].split())
        for a, b in zip(NUMBER.findall(wanted), NUMBER.findall(found)):
            x, y = number(a), number(b)
            self.assertLessEqual(abs(x - y), max(absolute, relative * max(abs(x), abs(y))), (a, b, found))
        return rows(found)

    def test_lesson_1_prints_what_its_page_shows(self):
        for program in ("lesson1_smoothing", "lesson1_solutions"):
            self.assertEqual(output(program).rstrip(), shown("1-smoothing.md", program).rstrip())
        self.assertNotEqual(output("lesson1_smoothing", "--sigma", "0.2"), output("lesson1_smoothing"))

    def test_lesson_2_prints_nearly_what_its_page_shows(self):
        table = self.nearly("2-digits.md", "lesson2_digits", 0.35, 3)[3:]
        error = {(r[0], r[1], r[2]): float(r[3]) for r in table}
        learned = {(r[0], r[1], r[2]): float(r[4]) for r in table}
        sgd, lpf = ("SGD", "1", "0"), ("LPF-SGD", "8", "0.06")
        self.assertLess(error[lpf], error[sgd] / 2)
        self.assertGreater(learned[sgd], 40)
        self.assertLess(learned[lpf], 20)

    def test_lesson_3_prints_nearly_what_its_page_shows(self):
        table = self.nearly("3-flatness.md", "lesson3_flatness", 0.35, 0.06)
        minima = {r[0]: [float(x) for x in r[1:]] for r in table if len(r) == 6 and r[0] in ("SGD", "LPF-SGD")}
        for measure in (2, 3, 4):  # LPF, trace, λ_max
            self.assertLess(minima["LPF-SGD"][measure], minima["SGD"][measure])
        scaled = [r for r in table if len(r) == 7 and r[0] in ("SGD", "LPF-SGD")]
        self.assertEqual(len(scaled), 4)
        for before, after in (scaled[:2], scaled[2:]):
            self.assertEqual(before[2], after[2])  # the loss
            self.assertEqual((before[4], before[6]), (after[4], after[6]))  # in units of the filters
            self.assertNotEqual((before[3], before[5]), (after[3], after[5]))

    def test_solutions_of_lessons_2_and_3_print_nearly_what_their_pages_show(self):
        self.nearly("2-digits.md", "lesson2_solutions", 0.35, 8)
        self.nearly("3-flatness.md", "lesson3_solutions", 0.35, 0.06)

    def test_the_picture_is_that_of_the_program(self):
        stored, made = (LESSONS / "smoothing.svg").read_text(), output("smoothing_animation")
        self.assertLess(len(stored.encode()), 100_000)
        self.assertEqual(NUMBER.sub("0", made), NUMBER.sub("0", stored))
        for a, b in zip(NUMBER.findall(stored), NUMBER.findall(made)):
            self.assertLessEqual(abs(number(a) - number(b)), 0.11)
        for words in ("prefers-reduced-motion", "prefers-color-scheme", "weight θ", ">loss<", "<title", "<desc"):
            self.assertIn(words, stored)

    def test_help_and_wrong_flags(self):
        for program in programs:
            self.assertIn("--help", output(program, "--help"))
            if program != "smoothing_animation":
                self.assertIn("--seed", output(program, "--help"))
            done = subprocess.run([folder / program, "--sead", "1"], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn("there is no flag '--sead'", done.stderr)


if __name__ == "__main__":
    missing = [p for p in programs if not (folder / p).exists()]
    if missing:
        print("not built:", ", ".join(missing))
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + ["Lessons." + name for name in sys.argv[2:]])
