#!/usr/bin/env python3
"""Every operation is tested on special numbers (tests/ops/special_values_test.cpp), every optimizer too, and each
difference from PyTorch that the fixtures record is a sentence of docs/pytorch.md.

    python3 special_values_test.py
"""
import json
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FUNCTION = re.compile(r"^(?:LPF_ONCE|inline) (?:\[\[nodiscard\]\] )?[\w:<>*& ]+?\b(\w+|operator[^\w\s(]+)\(",
                      re.MULTILINE)
INTERNAL = re.compile(r"^namespace (?:lpf::)?detail \{.*?^\}  // namespace (?:lpf::)?detail$",
                      re.MULTILINE | re.DOTALL)
# What is exported by include/lpf/ops and computes nothing of an element's value, or is tested elsewhere.
EXEMPT = {
    "max": "amax() of all elements", "min": "amin() of all elements", "copy_": "to()", "fill_": "full()",
    "copy_to_host": "to()", "one_hot": "its operand is labels",
    "rand": "has no operand", "randn": "has no operand",
    "scalar": "a number of the step as a tensor",
    "sum_to": "sum() and reshape()", "sum_replicas": "sum() of replicas", "mean_replicas": "sum_replicas()", "replicate": "expand() to replicas",
    "per_sample": "copies, of replicas", "slice_mean": "mean() of slices",
    "expand_replicas": "expand() of replicas", "to_string": "writes text"
}


def without_internals(text):
    """The text without the contents of `namespace detail {...}`."""
    return INTERNAL.sub("", text)


def operations():
    """The public functions of include/lpf/ops, by name, and the file of each."""
    found = {}
    for header in sorted((ROOT / "include/lpf/ops").glob("*.hpp")):
        for name in FUNCTION.findall(without_internals(header.read_text(encoding="utf-8"))):
            found.setdefault(name, header.name)
    return found


def calls(name, text):
    if name.startswith("operator"):
        symbol = re.escape(name[len("operator"):])
        return re.search(rf"(?:[\w)] |\W){symbol}\s?[\w(]", text)
    return re.search(rf"(?<!\w){name}\s*[(),]", text)


def fixture():
    raw = (ROOT / "tests/fixtures/special.safetensors").read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    return {k: json.loads(v) for k, v in header["__metadata__"].items() if v.startswith("{")}


class SpecialValues(unittest.TestCase):
    def test_every_operation_is_tested(self):
        text = (ROOT / "tests/ops/special_values_test.cpp").read_text(encoding="utf-8")
        found = operations()
        self.assertGreater(len(found), 80)
        missing = [f"{name} of {header}" for name, header in found.items()
                   if name not in EXEMPT and not calls(name, text)]
        self.assertEqual(missing, [])
        self.assertEqual([name for name in EXEMPT if name not in found], [])

    def test_every_optimizer_is_tested(self):
        text = (ROOT / "tests/optim/special_values_test.cpp").read_text(encoding="utf-8")
        for header in sorted((ROOT / "include/lpf/optim").glob("*.hpp")):
            for name in re.findall(r"^class (\w+)(?: final)? : public (?:Optimizer<|Adam)",
                                   header.read_text(encoding="utf-8"), re.MULTILINE):
                self.assertRegex(text, rf"<(optim::)?{name}>")
        for name in ("SAM", "SmoothOut"):  # around an optimizer
            self.assertRegex(text, rf"<optim::{name}\b")

    def test_differences_are_documented(self):
        page = " ".join((ROOT / "docs/pytorch.md").read_text(encoding="utf-8").split())
        reasons = {why for case in fixture().values() for why in case.get("differs", [])}
        self.assertGreater(len(reasons), 10)
        self.assertEqual([why for why in sorted(reasons) if why not in page], [])

    def test_a_missing_operation_is_found(self):
        header = ("LPF_ONCE Tensor new_one(const Tensor& x) {\nnamespace detail {\nLPF_ONCE Tensor g(int) {\n"
                  "}  // namespace detail\n")
        self.assertEqual(FUNCTION.findall(without_internals(header)), ["new_one"])
        self.assertFalse(calls("new_one", 't["new_ones"] = of_x(relu), newer_new_one(x)'))
        for text in ("new_one(x)", "of_x(new_one)", "of_x(new_one, 4)", "g(a, new_one)"):
            self.assertTrue(calls("new_one", text), text)
        self.assertTrue(calls("operator-", "return -x;"))
        self.assertTrue(calls("operator+", "a + b"))
        self.assertFalse(calls("operator*", "a + b"))


if __name__ == "__main__":
    unittest.main()
