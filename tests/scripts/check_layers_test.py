#!/usr/bin/env python3
"""Tests that scripts/check-layers passes the headers as they are, and finds each kind of include that breaks a rule.

    python3 check_layers_test.py
"""
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class CheckLayers(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        shutil.copytree(ROOT / "include", self.root / "include")
        (self.root / "docs").mkdir()
        shutil.copy(ROOT / "docs/design.md", self.root / "docs")

    def check(self):
        return subprocess.run([ROOT / "scripts/check-layers", self.root], capture_output=True, text=True)

    def broken_by(self, file, include):
        path = self.root / "include/lpf" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else None
        path.write_text((before or "") + f'#include "{include}"\n')
        result = self.check()
        if before is None:
            shutil.rmtree(path.parent)
        else:
            path.write_text(before)
        self.assertEqual(result.returncode, 1, result.stdout)
        return result.stdout

    def test_the_map(self):
        result = self.check()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        layers = [line.split()[0] for line in result.stdout.splitlines()]
        self.assertEqual(layers[:4], ["core", "backend", "tensor", "autograd"])
        self.assertEqual(sorted(layers), sorted(p.name for p in (self.root / "include/lpf").iterdir() if p.is_dir()))

    def test_upward_includes(self):
        line = len((ROOT / "include/lpf/core/shape.hpp").read_text().splitlines()) + 1
        self.assertIn(f"core/shape.hpp:{line}: core includes backend, which is above it",
                      self.broken_by("core/shape.hpp", "lpf/backend/contract.hpp"))
        self.assertIn("autograd includes ops", self.broken_by("autograd/engine.hpp", "lpf/ops/replicate.hpp"))
        self.assertIn("train includes experiment", self.broken_by("train/metrics.hpp", "lpf/experiment/settings.hpp"))

    def test_umbrellas_and_folders(self):
        self.assertIn("includes the umbrella header lpf/dense.hpp", self.broken_by("nn/linear.hpp", "lpf/dense.hpp"))
        self.assertIn("the folder attic is no layer", self.broken_by("attic/thing.hpp", "lpf/core/error.hpp"))
        self.assertIn("attic is no layer", self.broken_by("nn/linear.hpp", "lpf/attic/thing.hpp"))

    def test_eigen_and_cuda(self):
        for file in ("nn/linear.hpp", "backend/cpu/gemm.hpp", "sharpness/units.hpp"):
            self.assertIn("Eigen belongs to backend/cpu/gemm_float64.hpp", self.broken_by(file, "Eigen/Core"))
        self.assertIn("CUDA belongs to", self.broken_by("backend/registry.hpp", "cuda_runtime.h"))

    def test_dense_includes_no_eigen(self):
        """A program of lpf/dense.hpp alone neither needs nor parses Eigen; one with float64 does."""
        def headers(name, seen):
            if name not in seen:
                seen.add(name)
                path = ROOT / "include" / name
                if path.exists():
                    for included in re.findall(r'^ *# *include *[<"]([^>"]+)', path.read_text(), re.M):
                        headers(included, seen)
            return seen

        def eigen(name):
            return [header for header in headers(name, set()) if header.startswith("Eigen/")]

        self.assertEqual(eigen("lpf/dense.hpp"), [])
        self.assertEqual(eigen("lpf/float64.hpp"), ["Eigen/Core"])

    def test_the_map_in_the_design(self):
        page = self.root / "docs/design.md"
        page.write_text(page.read_text().replace("    autograd    node", "    autograd    tape"))
        result = self.check()
        self.assertEqual(result.returncode, 1)
        self.assertIn("does not show the map", result.stdout)


if __name__ == "__main__":
    unittest.main()
