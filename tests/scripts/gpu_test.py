#!/usr/bin/env python3
"""Tests how scripts/gpu reports its steps, on any machine, with programs that do nothing instead of the GPU's,
CMake's and the library's.

    python3 gpu_test.py
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
TOOLS = {"nvidia-smi": "echo 'GPU 0: none'", "nvcc": "", "cmake": 'echo "cmake $*"', "ninja": "", "g++": "",
         "compute-sanitizer": 'echo "$*"', "python3": "exit 1"}
OURS = ("test_cuda", "test_ops", "test_autograd", "test_nn", "test_optim", "test_filter", "test_models", "step", "noise",
        "gpu_kernels", "train")
TRAIN = 'while [ "$1" != --out ]; do shift; done; mkdir -p "$2"; echo weights >"$2/best.safetensors"'


class Gpu(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        shutil.copytree(SCRIPTS, self.root / "scripts")
        for name, body in TOOLS.items():
            self.program("tools/" + name, body)
        for name in OURS:
            self.program("build/cuda/bin/" + name, TRAIN if name == "train" else 'echo "$0 $*"')
        common = self.root / "scripts/common.sh"  # headers are not looked for
        common.write_text(common.read_text().replace("have() {", "have() {\n  return 0", 1))

    def program(self, name, body):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run_gpu(self, *steps):
        """The exit code, and the result of each step."""
        done = subprocess.run([self.root / "scripts/gpu", "--out", self.root / "out", *steps], capture_output=True,
                              env=os.environ | {"PATH": f"{self.root / 'tools'}:/usr/bin:/bin"})
        lines = (self.root / "out/summary.txt").read_text().splitlines()
        return done.returncode, {line.split()[0]: " ".join(line.split()[3:]) for line in lines}

    def test_every_step_runs(self):
        code, results = self.run_gpu()
        self.assertEqual((code, set(results.values())), (0, {"ok"}), results)
        self.assertGreater(len(results), 12)
        self.assertIn("test_models", (self.root / "out/tests_on_device.txt").read_text())
        self.assertIn("--tool racecheck", (self.root / "out/racecheck.txt").read_text())

    def test_a_step_that_fails_or_hangs_is_named(self):
        self.program("build/cuda/bin/test_nn", "exit 3")
        self.program("build/cuda/bin/noise", "exit 77")
        gpu = self.root / "scripts/gpu"
        gpu.write_text(gpu.read_text().replace("step test_cuda 90 ", "step test_cuda 1 ", 1))
        self.program("build/cuda/bin/test_cuda", "sleep 30")
        code, results = self.run_gpu("test_cuda", "tests_on_device", "noise")
        self.assertEqual(code, 1)
        self.assertEqual(results, {"test_cuda": "FAILED: not done in 1 s", "tests_on_device": "FAILED with 1",
                                   "noise": "skipped"})

    def test_no_gpu(self):
        self.program("tools/nvidia-smi", "echo 'No devices were found'; exit 6")
        code, _ = self.run_gpu()
        self.assertEqual(code, 2)
        self.assertIn("No devices were found", (self.root / "out/summary.txt").read_text())


if __name__ == "__main__":
    unittest.main()
