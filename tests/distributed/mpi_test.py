"""Several processes under mpirun: training beside one process, runs of `train`, and faults. Skipped without MPI.

    python3 tests/distributed/mpi_test.py FOLDER_OF_THE_PROGRAMS MPIEXEC equality|runs|programs|faults|studies [name of a test]
"""

import csv
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

folder = pathlib.Path(sys.argv[1]).resolve()
mpiexec = sys.argv[2]
train = folder / "train"
rank_variable = "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}"
# One thread a rank: there may be more ranks than cores. As root (in a container) Open MPI wants to be told twice.
environment = os.environ | {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                            "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


if not mpiexec or mpiexec.endswith("NOTFOUND"):
    skip("built without MPI (-DLPF_MPI=ON)")
if not train.exists():
    skip("the programs are not built")
open_mpi = "Open" in subprocess.run([mpiexec, "--version"], capture_output=True, text=True).stdout


def launcher():
    return [mpiexec] + (["--oversubscribe", "--bind-to", "none"] if open_mpi else [])


class Case(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)

    def mpirun(self, ranks, *command, timeout=120):
        return subprocess.run([*launcher(), "-np", str(ranks), *map(str, command)], cwd=self.dir, env=environment,
                              capture_output=True, text=True, timeout=timeout)

    def succeeds(self, ranks, *command, **options):
        done = self.mpirun(ranks, *command, **options)
        self.assertEqual(done.returncode, 0, (command, done.stdout[-4000:], done.stderr[-4000:]))
        return done.stdout


class Equality(Case):

    def test_collectives_and_training_on_1_2_3_and_4_ranks(self):
        for ranks in (1, 2, 3, 4):
            out = self.succeeds(ranks, folder / "test_distributed", "--test-case=mpi:*", "--no-colors=1")
            self.assertEqual(len(re.findall(r"test cases: +3 \| +3 passed \| +0 failed", out)), ranks, out)
            self.assertNotIn("skipped:", out)


class Runs(Case):
    flags = {"--epochs": "3", "--train-samples": "512", "--batch": "64", "--schedule": "constant", "--model": "mlp",
             "--width": "32"}

    def run_of(self, ranks, out, *flags, resume=False):
        own = self.flags | {"--out": out} | dict(zip(flags[::2], flags[1::2], strict=True))
        command = [train, *(x for pair in own.items() for x in pair), *(["--resume"] if resume else [])]
        if ranks > 0:
            return self.succeeds(ranks, *command)
        done = subprocess.run(list(map(str, command)), cwd=self.dir, env=environment, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def weights(self, out):
        return [(self.dir / out / name).read_bytes() for name in ("checkpoint.safetensors", "best.safetensors")]

    def log(self, out):
        timing = ("seconds", "images_per_second")
        with open(self.dir / out / "log.csv") as file:
            return [{k: v for k, v in row.items() if k not in timing} for row in csv.DictReader(file)]

    def test_with_shards_the_number_of_processes_is_no_part_of_the_result(self):
        for name, method in (("lpf", ["--optimizer", "lpf-sgd", "-M", "8"]), ("sgd", ["--optimizer", "sgd"])):
            self.run_of(0, name + "0", "--shards", "4", *method)
            self.assertEqual(len(self.log(name + "0")), 3)
            for ranks in (1, 2, 4):
                printed = self.run_of(ranks, name + str(ranks), "--shards", "4", *method)
                self.assertEqual(printed.count("last epoch"), 1, printed)
                self.assertEqual(self.weights(name + str(ranks)), self.weights(name + "0"), (name, ranks))
                self.assertEqual(self.log(name + str(ranks)), self.log(name + "0"), (name, ranks))

    def test_without_shards_the_result_is_that_of_one_process_to_rounding(self):
        self.run_of(0, "one")
        self.run_of(3, "three")
        for one, three in zip(self.log("one"), self.log("three"), strict=True):
            for key in ("train_loss", "test_loss"):
                self.assertAlmostEqual(float(three[key]) / float(one[key]), 1, delta=2e-3)

    def test_a_run_goes_on_with_another_number_of_processes(self):
        shards = ["--shards", "4"]
        self.run_of(4, "whole", *shards)
        self.run_of(2, "parts", *shards, "--epochs", "1")
        self.run_of(4, "parts", *shards, "--epochs", "2", resume=True)
        self.run_of(0, "parts", *shards, "--epochs", "3", resume=True)
        self.assertEqual(self.weights("parts"), self.weights("whole"))
        self.assertEqual(self.log("parts"), self.log("whole"))

    def test_batch_norm_over_ranks(self):
        flags = ["--model", "resnet18", "--width", "4", "--train-samples", "128", "--epochs", "1"]
        for name, method in (("lpf", ["--optimizer", "lpf-sgd", "-M", "4"]), ("sgd", ["--optimizer", "sgd"])):
            self.run_of(0, name + "0", *flags, *method)
            self.run_of(2, name + "2", *flags, *method)
            for one, two in zip(self.log(name + "0"), self.log(name + "2"), strict=True):
                self.assertAlmostEqual(float(two["train_loss"]) / float(one["train_loss"]), 1, delta=1e-3)


class Studies(Case):

    def test_ranks_share_the_models_of_a_study_and_resume_with_another_number(self):
        flags = ["--study", "label-noise", "--out", "s", "--resamples", "10"]
        plan = subprocess.run([folder / "study", *flags[:2], "--dry-run"], cwd=self.dir, capture_output=True, text=True).stdout
        models = int(plan.split(" models")[0].split()[-1])
        self.succeeds(2, folder / "study", *flags, "--limit", "1")
        self.assertEqual(sorted(p.name for p in self.dir.glob("s/results-*")),
                         ["results-0-of-2.jsonl", "results-1-of-2.jsonl"])
        self.succeeds(3, folder / "study", *flags, "--limit", "1")
        lines = [l for p in self.dir.glob("s/results-*") for l in p.read_text().splitlines()]
        self.assertGreaterEqual(models, 5)
        self.assertEqual(len(lines), len(set(lines)))
        self.assertGreaterEqual(len(lines), 4)  # no model twice


class Programs(Case):
    """sharpness, translate and digits."""

    def alone_or(self, ranks, program, *flags):
        if ranks > 0:
            return self.succeeds(ranks, folder / program, *flags)
        done = subprocess.run(list(map(str, [folder / program, *flags])), cwd=self.dir, env=environment, capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_sharpness_prints_and_writes_what_one_process_does(self):
        self.alone_or(2, "sharpness", "--train", "net.safetensors", "--measures", "gradient_norm")
        flags = ["net.safetensors", "--draws", "20", "--samples", "300", "--samples-a-pass", "100"]
        one = self.alone_or(0, "sharpness", *flags, "--json", "0.json")
        self.assertIn("LPF", one)
        for ranks in (2, 3):
            printed = self.alone_or(ranks, "sharpness", *flags, "--json", f"{ranks}.json")
            self.assertEqual(printed.split(), one.split())  # mpirun's terminal has 80 columns
            self.assertEqual((self.dir / f"{ranks}.json").read_bytes(), (self.dir / "0.json").read_bytes())

    def test_the_runs_of_digits_are_shared(self):
        flags = ["--seeds", "2", "--epochs", "2", "--label-noise", "0", "--optimizer", "sgd", "lpf-sgd"]
        for ranks in (0, 2, 3):
            self.alone_or(ranks, "digits", *flags, "--out", f"d{ranks}")
        results = {ranks: json.loads((self.dir / f"d{ranks}/results.json").read_text()) for ranks in (0, 2, 3)}
        without = lambda rows: [{k: v for k, v in row.items() if k != "step_ms"} for row in rows]
        self.assertEqual(len(results[0]), 4)
        for ranks in (2, 3):
            self.assertEqual(without(results[ranks]), without(results[0]))

    def test_sharpness_refuses_ranks_with_other_weights(self):
        for seed in (0, 1):
            self.alone_or(0, "sharpness", "--train", "--seed", str(seed), f"{seed}.safetensors", "--measures", "gradient_norm")
        (self.dir / "net.safetensors").symlink_to("0.safetensors")
        (self.dir / "other").mkdir()
        (self.dir / "other/net.safetensors").symlink_to("../1.safetensors")
        script = f'[ {rank_variable} = 0 ] || cd other; exec {folder / "sharpness"} net.safetensors'
        done = self.mpirun(2, "sh", "-c", script)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("rank 1 has weights other than", done.stderr)

    small = ["--data", "numbers", "--train-pairs", "300", "--dim", "16", "--heads", "2", "--feedforward", "16", "--epochs", "2"]

    def translated(self, out):
        rows = [json.loads(line) for line in (self.dir / out / "log.jsonl").read_text().splitlines()]
        files = [(self.dir / out / name).read_bytes() for name in ("checkpoint.safetensors", "best.safetensors",
                                                                  "samples.jsonl", "pieces.model")]
        return files, [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in rows]

    def test_translate_with_shards_is_the_run_of_one_process(self):
        if not (folder / "translate").exists():
            self.skipTest("built without sentencepiece")
        for optimizer in ("lpf-adam", "sam-adam"):
            flags = [*self.small, "--optimizer", optimizer, "--shards", "4"]
            printed = {ranks: self.alone_or(ranks, "translate", *flags, "--out", f"{optimizer}{ranks}").replace(
                f"{optimizer}{ranks}", "OUT").split() for ranks in (0, 2, 4)}  # the words: lines fit the terminal
            for ranks in (2, 4):
                self.assertEqual(self.translated(f"{optimizer}{ranks}"), self.translated(f"{optimizer}0"), (optimizer, ranks))
                self.assertEqual(printed[ranks], printed[0])
                for rank in range(ranks):
                    with open(self.dir / f"{optimizer}{ranks}/rank-{rank}.csv") as file:
                        rows = list(csv.DictReader(file))
                    self.assertEqual([row["epoch"] for row in rows], ["1", "2"])
                    self.assertTrue(all(row["ranks"] == str(ranks) and float(row["sent_mb"]) > 0 for row in rows))
            self.assertFalse(list((self.dir / f"{optimizer}0").glob("rank-*")))

    def test_translate_goes_on_with_another_number_of_processes_and_without_shards_is_equal_to_rounding(self):
        if not (folder / "translate").exists():
            self.skipTest("built without sentencepiece")
        shards = [*self.small, "--shards", "2"]
        self.alone_or(0, "translate", *shards, "--out", "whole")
        self.alone_or(2, "translate", *shards, "--out", "parts", "--minutes", "1e-9")
        self.alone_or(0, "translate", "--resume", "--out", "parts", "--minutes", "1e-9")
        self.alone_or(2, "translate", "--resume", "--out", "parts")
        self.assertEqual(self.translated("parts"), self.translated("whole"))
        flags = [*self.small, "--optimizer", "lpf-sgd", "--lr", "0.1"]  # Adam amplifies rounding
        self.alone_or(0, "translate", *flags, "--out", "one")
        self.alone_or(3, "translate", *flags, "--out", "three")
        for one, three in zip(self.translated("one")[1], self.translated("three")[1], strict=True):
            for key in ("train_loss", "validation_loss"):
                self.assertAlmostEqual(three[key] / one[key], 1, delta=1e-4)

    def test_what_runs_in_one_process_says_so(self):
        if (folder / "translate").exists():
            done = self.mpirun(2, folder / "translate", *self.small, "--compare", "adam", "--out", "c")
            self.assertIn("only training runs in several processes: start --compare without mpirun", done.stderr)
            done = self.mpirun(2, folder / "translate", *self.small, "--optimizer", "entropy-adam", "--out", "e")
            self.assertIn("run it in one process", done.stderr)


class Faults(Case):
    deadline = 3

    def begin(self, ranks):
        """A run that takes long, whose ranks write their process ids."""
        script = f'echo $$ >pid.{rank_variable}; exec {train} --epochs 100000 --train-samples 512 --optimizer lpf-sgd ' \
                 f'--out run --deadline {self.deadline}'
        job = subprocess.Popen([*launcher(), "-np", str(ranks), "sh", "-c", script], cwd=self.dir, env=environment,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(job.wait)
        self.addCleanup(job.kill)
        self.addCleanup(job.stdout.close)
        end = time.monotonic() + 60
        while not (self.dir / "run/checkpoint.state.safetensors").exists():
            self.assertLess(time.monotonic(), end, "the run has not begun")
            time.sleep(0.05)
        return job

    def pid(self, rank):
        return int((self.dir / f"pid.{rank}").read_text())

    def ends(self, job, seconds):
        out, _ = job.communicate(timeout=seconds)
        self.assertNotEqual(job.returncode, 0, out)
        return out

    def check_resumes(self):
        epochs = len((self.dir / "run/log.jsonl").read_text().splitlines())
        done = subprocess.run([train, "--resume", "--out", "run", "--epochs", str(epochs + 1)], cwd=self.dir,
                              env=environment, capture_output=True, text=True, timeout=60)
        self.assertIn("other settings: epochs", done.stderr)  # a shorter run than it was begun as: nothing is damaged
        self.assertFalse(list(self.dir.glob("run/*.tmp*")), list(self.dir.glob("run/*")))

    def test_a_killed_rank_ends_the_job_and_is_named(self):
        job = self.begin(3)
        os.kill(self.pid(1), signal.SIGKILL)
        out = self.ends(job, 30)
        if open_mpi:
            self.assertRegex(out, r"process rank 1 .* exited on signal 9")
        self.check_resumes()

    def test_a_stopped_rank_ends_the_job_within_the_deadline_and_is_named(self):
        job = self.begin(3)
        os.kill(self.pid(2), signal.SIGSTOP)
        begin = time.monotonic()
        out = self.ends(job, 60)
        self.assertLess(time.monotonic() - begin, self.deadline + 25)
        own = [line for line in out.splitlines() if line.startswith("train: rank")]
        self.assertRegex(own[-1], r"rank 2 does not answer", out)
        self.assertIn(f"the deadline is {self.deadline} s", own[-1])
        self.check_resumes()

    def mixed(self, first, second):
        """Two ranks with different flags."""
        flags = ["--epochs", "2", "--train-samples", "200", "--out", "mixed", "--deadline", "20"]
        return subprocess.run([*launcher(), "-np", "1", str(train), *flags, *first, ":", "-np", "1", str(train), *flags,
                               *second], cwd=self.dir, env=environment, capture_output=True, text=True, timeout=60)

    def test_ranks_with_other_settings_or_models_are_refused(self):
        for first, second, says in ((["--seed", "3"], ["--seed", "4"], "seed (3, now 4)"),
                                    (["--width", "16"], ["--width", "8"], "width (16, now 8)")):
            done = self.mixed(first, second)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("rank 1 has ", done.stderr)
            self.assertNotIn("last epoch", done.stdout)
            self.assertIn(says, done.stderr)

    def test_ranks_with_other_data_are_refused(self):
        for name in ("a", "b"):
            (self.dir / name).mkdir()
            for split in ("train", "t10k"):
                pixels = bytearray((i * 7) % 256 for i in range(300 * 28 * 28))
                if name == "b" and split == "train":
                    pixels[1234] ^= 1
                (self.dir / name / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 300, 28, 28) + pixels)
                (self.dir / name / f"{split}-labels-idx1-ubyte").write_bytes(
                    struct.pack(">II", 2049, 300) + bytes(i % 10 for i in range(300)))
        flags = ["--dataset", "mnist", "--batch", "20"]
        done = self.mixed([*flags, "--data", "a"], [*flags, "--data", "b"])
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("rank 1 has data other than", done.stderr)

    def test_an_error_of_all_ranks_is_printed_by_the_first(self):
        done = self.mpirun(3, train, "--batch", "2", "--train-samples", "200", "--optimizer", "sgd")
        self.assertNotEqual(done.returncode, 0)
        own = [line for line in done.stderr.splitlines() if line.startswith("train: rank")]
        self.assertEqual(len(own), 1, done.stderr)
        self.assertIn("train: rank 0: [distributed] a batch of 2 samples has fewer than 3 shards", own[0])


if __name__ == "__main__":
    group = {"equality": Equality, "runs": Runs, "faults": Faults, "studies": Studies, "programs": Programs}[sys.argv[3]]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(group)
    if len(sys.argv) > 4:
        suite = unittest.TestSuite(t for t in suite if sys.argv[4] in t.id())
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)
