"""The programs of apps/ as processes: output that cannot be written, flags, one run a folder, signals.

    python3 tests/scripts/programs_test.py FOLDER_OF_THE_PROGRAMS [name of a test]
"""

import fcntl
import json
import os
import pathlib
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unicodedata
import unittest

folder = pathlib.Path(sys.argv[1]).resolve()
programs = ["augment", "compare", "digits", "estimators", "landscape", "quadratics", "sharpness", "study", "theory", "train"]
programs += ["lesson1_smoothing", "lesson2_digits", "lesson3_flatness", "smoothing_animation"]  # their output: lessons_test.py
lessons_short = {"lesson1_smoothing": ["--steps", "10"], "lesson2_digits": ["--seeds", "1", "--epochs", "1"],
                 "lesson3_flatness": ["--epochs", "1", "--draws", "2"], "smoothing_animation": []}
if (folder / "translate").exists():  # it needs sentencepiece; its own test is translate_test.py
    programs.append("translate")
largest = str(2**63 - 1)


def call(*command, cwd, **options):
    """Runs a program; stdout and stderr are captured unless given."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 120} | options
    return subprocess.run([str(folder / command[0]), *map(str, command[1:])], cwd=cwd, text=True, **options)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited too long")
        time.sleep(0.01)


def in_terminal(columns, *command, cwd):
    """The lines that a program prints in a terminal of so many columns."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([str(folder / command[0]), *map(str, command[1:])], cwd=cwd, stdout=its,
                               stderr=subprocess.PIPE)
    os.close(its)
    printed = b""
    try:
        while part := os.read(ours, 1 << 16):
            printed += part
    except OSError:  # the program has closed the terminal
        pass
    os.close(ours)
    errors = process.communicate()[1].decode()
    assert process.returncode == 0, (command, errors)
    return printed.decode().replace("\r\n", "\n").splitlines()


def width_of(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


class Programs(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)

    def call(self, *command, **options):
        return call(*command, cwd=self.dir, **options)

    def refused(self, *command, says, code=1, **options):
        """An error of the program's own, within seconds, with these words; code 2 for the command line's."""
        done = self.call(*command, **options)
        self.assertEqual(done.returncode, code, (command, done.stdout, done.stderr))
        self.assertTrue(done.stderr.splitlines()[-1].startswith(command[0] + ": "), done.stderr)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, done.stderr)

    def succeeds(self, *command, **options):
        done = self.call(*command, **options)
        self.assertEqual(done.returncode, 0, (command, done.stderr))
        return done.stdout

    def begin(self, *command):
        process = subprocess.Popen([str(folder / command[0]), *command[1:]], cwd=self.dir, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        return process

    def short_run(self, out="run", *flags):
        self.succeeds("train", "--epochs", 2, "--train-samples", 200, "--optimizer", "sgd", "--out", out, *flags)

    def test_output_that_cannot_be_written_is_a_failure(self):
        self.short_run()
        modes = [(p, "--help") for p in programs]
        modes += [("train", "--recipes"), ("train", "--optimizers"), ("train", "--models"), ("train", "--dry-run"),
                  ("train", "--epochs", 1, "--train-samples", 100, "--out", "full"), ("compare", "run"),
                  ("augment", "--columns", 1, "--only", "flip"), ("study", "--dry-run"), ("study", "--limit", 1),
                  ("digits", "--seeds", 1, "--epochs", 1), ("theory", "--quick"),
                  ("estimators", "--net", "mlp", "--epochs", 1, "--draws", 20),
                  ("quadratics", "--dimensions", 10, "--draws", 2),
                  ("landscape", "--points", 3, "--epochs", 2, "--draws", 1),
                  ("sharpness", "run/best.safetensors", "--network", "mlp", "--measures", "low_pass", "--draws", 2)]
        modes += [(program, *flags) for program, flags in lessons_short.items()]
        if "translate" in programs:
            modes += [("translate", "--data", "numbers", "--dry-run"),
                      ("translate", "--data", "numbers", "--max-steps", 1, "--train-pairs", 100, "--out", "numbers")]
        for mode in modes:
            with self.subTest(mode=mode), open("/dev/full", "w") as full:
                self.refused(*mode, says="what it prints could not be written", stdout=full)
        for program in programs:
            with self.subTest(program=program):
                self.assertIn("--help", self.succeeds(program, "--help"))

    def test_sequences_are_trained_on_and_measured(self):
        self.succeeds("train", "--dataset", "mnist1d", "--epochs", 1, "--train-samples", 100, "--out", "sequences")
        flags = ["--network", "convnet1d", "--samples", 50, "--measures", "low_pass", "--draws", 2]
        out = self.succeeds("sharpness", "sequences/best.safetensors", *flags, "--data", "mnist1d")
        self.assertIn("LPF", out)
        self.refused("sharpness", "sequences/best.safetensors", *flags, "--data", "mnist2d", says="digits, mnist1d, idx:FOLDER",
                     code=2)

    def test_the_transformer_of_the_examples_learns(self):
        lines = self.succeeds("tiny_transformer", timeout=300).splitlines()
        right = [float(line.split()[-2]) for line in lines]
        self.assertEqual(len(right), 5)
        self.assertGreaterEqual(right[-1], 99)  # per cent of new sequences; guessing reverses none
        self.assertLess(right[0], right[-1])

    def test_closed_standard_streams_do_not_become_results(self):
        command = [str(folder / "train"), "--epochs", "2", "--train-samples", "200", "--out"]
        shell = " ".join(command)
        self.assertEqual(subprocess.run(["sh", "-c", shell + " a 0<&- 2>&-"], cwd=self.dir, timeout=60,
                                        stdout=subprocess.DEVNULL).returncode, 0)
        done = subprocess.run(["sh", "-c", shell + " b >&-"], cwd=self.dir, timeout=60, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"could not be written", done.stderr)
        self.assertFalse((self.dir / "b/log.jsonl").exists())  # known before the work
        for line in (self.dir / "a/log.jsonl").read_text().splitlines():
            json.loads(line)
        lines = (self.dir / "a/log.csv").read_text().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertEqual({line.count(",") for line in lines}, {lines[0].count(",")})

    def test_two_dashes_end_the_flags(self):
        for program in ["augment", "digits", "estimators", "landscape", "quadratics", "study", "theory", "train"]:
            self.refused(program, "--", "--seed", says="no place for '--seed'", code=2)
        self.succeeds("train", "--models", "--")
        self.short_run("./-run")
        self.assertIn("sgd", self.succeeds("compare", "--", "-run"))
        self.refused("compare", "--", "--out", says="no run to compare")
        self.refused("sharpness", "--", "--json", says="--json")
        self.refused("train", "--epohcs", 3, says="did you mean '--epochs'", code=2)
        self.refused("sharpness", "x", "--drws", 3, says="did you mean '--draws'", code=2)

    def test_a_refused_command_line_is_code_2_and_names_the_program(self):
        for program in programs:
            first = {"compare": ["run"], "sharpness": ["file"]}.get(program, [])
            self.refused(program, *first, "--nothing", says="there is no flag '--nothing'", code=2)
            flag = {"augment": "--columns", "compare": "--out", "train": "--epochs"}.get(program, "--threads")
            flag = "--draws" if program == "quadratics" else "--seed" if program.startswith("lesson") else flag
            if program != "smoothing_animation":  # it has no flags
                self.refused(program, *first, flag, says=flag, code=2)
        self.refused("digits", "--seeds", "many", says="--seeds", code=2)
        self.refused("compare", says="runs", code=2)

    def test_help_shows_defaults(self):
        for program, flag, default in [("train", "--lr", "0.1"), ("train", "--dataset", "digits"),
                                       ("digits", "--epochs", "60"), ("study", "--grid", "small"),
                                       ("landscape", "--out", "out/landscape"), ("compare", "--out", "compare.html"),
                                       ("lesson1_smoothing", "--sigma", "0.5"), ("lesson3_flatness", "--factor", "8")]:
            # CLI11 writes "--lr FLOAT=0.1", newer versions "--lr FLOAT [0.1]".
            self.assertRegex(self.succeeds(program, "--help"), rf"{flag} [^\n]*(=|\[){re.escape(default)}", program)

    def test_what_is_printed_fits_the_terminal(self):
        self.short_run("a")
        self.short_run("b", "--seed", 1, "--lr", 0.05)
        modes = [(p, "--help") for p in programs]
        modes += [("train", "--recipes"), ("train", "--optimizers"), ("train", "--models"), ("train", "--dry-run"),
                  ("train", "--resume", "--epochs", 2, "--out", "a"), ("compare", "a", "b"),
                  ("digits", "--seeds", 2, "--epochs", 1), ("theory", "--quick"), ("study", "--dry-run"),
                  ("study", "--study", "double-descent", "--dry-run"),
                  ("study", "--study", "optimizers", "--limit", 2, "--out", "s"),
                  ("estimators", "--net", "mlp", "--epochs", 1, "--draws", 20),
                  ("quadratics", "--dimensions", 10, "--draws", 2),
                  ("landscape", "--points", 3, "--epochs", 2, "--draws", 1, "--out", "l"),
                  ("sharpness", "a/best.safetensors", "--network", "mlp", "--samples", 100, "--draws", 8, "--compare",
                   "b/best.safetensors"),
                  ("augment", "--columns", 1, "--out", "a.png")]
        if "translate" in programs:
            modes += [("translate", "--data", "numbers", "--dry-run")]
        for columns in [60, 80]:
            for mode in modes:
                with self.subTest(mode=mode, columns=columns):
                    lines = in_terminal(columns, *mode, cwd=self.dir)
                    self.assertTrue(lines)
                    self.assertEqual([line for line in lines if width_of(line) > columns], [])

    def test_reports_begin_with_the_result_and_have_one_colour_a_method(self):
        self.short_run("sgd")
        self.succeeds("train", "--epochs", 2, "--train-samples", 200, "--optimizer", "lpf-sgd", "--out", "lpf")
        self.succeeds("compare", "sgd", "lpf")
        self.succeeds("digits", "--seeds", 2, "--epochs", 2, "--out", "digits")
        rows = json.loads((self.dir / "digits/results.json").read_text())
        for row in rows:
            self.assertAlmostEqual(row["lpf_rise"], row["lpf_sharpness"] - row["train_loss"], delta=1e-6)
        pages = {name: (self.dir / name).read_text()
                 for name in ["sgd/report.html", "lpf/report.html", "compare.html", "digits/report.html"]}
        for name, page in pages.items():
            with self.subTest(page=name):
                lead = re.search(r'<div class="lead"><p>(.*?)</p>', page)
                self.assertRegex(lead[1], r"\d\.\d\d %")
                self.assertLess(lead.start(), page.index("<h2>"))

        def color_of(page, method):  # of the line in the legend before the name
            at = page.index(f">{method}</text>")
            return re.findall(r'class="lpf-c(\d)"', page[:at])[-1]
        for method, one, other in [("sgd", "compare.html", "sgd/report.html"), ("lpf-sgd", "compare.html", "lpf/report.html")]:
            self.assertEqual(color_of(pages[one], method), color_of(pages[other], "test"))
            self.assertEqual(color_of(pages[one], method), color_of(pages["digits/report.html"], method.upper()))
        self.assertNotEqual(color_of(pages["compare.html"], "sgd"), color_of(pages["compare.html"], "lpf-sgd"))
        # What ± is stands below every table and picture that has it.
        for name, page in pages.items():
            for figure in re.findall(r"<figure[^>]*>(.*?)</figure>", page, re.S):
                caption = re.search("<figcaption>(.*?)</figcaption>", figure)
                if " ± " in figure.split("<figcaption>")[0] or "fill-opacity=\".16\"" in figure and "z\"/>" in figure:
                    self.assertRegex(caption[1] if caption else "", "standard (deviation|error)", name)

    def test_one_run_has_a_folder(self):
        first = self.begin("train", "--epochs", "100000", "--train-samples", "200", "--out", "run")
        log = self.dir / "run/log.jsonl"
        until(lambda: log.exists() and log.read_text().count("\n") > 1)
        begin = time.monotonic()
        for flags in [[], ["--resume"], ["--resume", "--seed", 1]]:
            self.refused("train", "--out", "run", *flags, says=["'run' is in use by another process", str(first.pid)])
        self.assertLess(time.monotonic() - begin, 30)
        self.assertIsNone(first.poll())
        first.send_signal(signal.SIGKILL)
        first.wait()
        epochs = [json.loads(line)["epoch"] for line in log.read_text().splitlines()]
        self.assertEqual(epochs, list(range(1, len(epochs) + 1)))
        again = self.begin("train", "--resume", "--out", "run")  # the lock ended with the process
        until(lambda: log.read_text().count("\n") > len(epochs) + 1)
        self.assertIsNone(again.poll())

    def test_signals_save_and_end(self):
        for number in [signal.SIGHUP, signal.SIGTERM, signal.SIGINT]:
            out = self.dir / number.name
            run = self.begin("train", "--epochs", "100000", "--train-samples", "200", "--out", str(out))
            until(lambda: (out / "log.csv").exists() and (out / "log.csv").read_text().count("\n") > 2)
            run.send_signal(number)
            self.assertEqual(run.wait(60), 128 + number)
            self.assertIn("stopped by " + number.name, run.stderr.read().decode())
            self.assertTrue((out / "checkpoint.state.safetensors").exists())

    def test_killed_runs_leave_no_files_for_good(self):
        out = self.dir / "run"
        for i in range(12):
            resume = ["--resume"] if (out / "config.json").exists() else []
            run = self.begin("train", "--epochs", "100000", "--train-samples", "200", "--optimizer", "sgd", "--out",
                             str(out), *resume)
            time.sleep(0.15 + 0.05 * i)
            run.kill()
            run.wait()
        left = lambda: {p.name for p in out.glob(".*.tmp")}
        (out / ".report.html.1-0.tmp").write_text("of a killed process")
        before = left()
        run = self.begin("train", "--epochs", "100000", "--out", str(out), "--resume")
        until(lambda: not left() & before)
        self.assertIsNone(run.poll())

    def test_resumed_with_more_epochs(self):
        self.short_run()
        self.refused("train", "--resume", "--out", "run", "--epochs", 1, says="epochs (2, now 1)", code=2)
        self.succeeds("train", "--resume", "--out", "run", "--epochs", 4)
        self.assertEqual((self.dir / "run/log.jsonl").read_text().count("\n"), 4)
        self.succeeds("train", "--resume", "--out", "run")
        self.assertEqual((self.dir / "run/log.jsonl").read_text().count("\n"), 4)
        self.refused("train", "--resume", "--out", "runn", says="'runn' has no run to go on with")
        self.assertFalse((self.dir / "runn").exists())

    def test_starts_from_weights(self):
        self.succeeds("train", "--epochs", 10, "--optimizer", "sgd", "--out", "run")
        self.short_run("next", "--weights", "run/best.safetensors", "--lr", 0.001)
        first = json.loads((self.dir / "next/log.jsonl").read_text().splitlines()[0])
        self.assertLess(first["train_error"], 20)  # from nothing it is 80 per cent
        self.refused("train", "--weights", "run/best.safetensors", "--width", 32, "--out", "w",
                     says=["shapes differ", "fc1.weight"])
        done = self.call("train", "--weights", "run/best.safetensors", "--weights-partial", "--width", 32, "--out", "w",
                         "--epochs", 1)
        self.assertEqual(done.returncode, 0, done.stderr)  # the last bias fits
        self.assertIn("drawn by the seed: 'fc1.weight'", done.stderr)
        self.refused("train", "--weights", "none.safetensors", "--out", "n", says="none.safetensors")

    def test_flags_without_effect(self):
        for flags, says in [(["--optimizer", "sgd", "--gamma", "0.1"], "--optimizer sgd does not use it"),
                            (["--optimizer", "adam", "--momentum", "0.9"], "--optimizer adam does not use it"),
                            (["--milestones", "3"], "--schedule multistep"),
                            (["--lr-factor", "0.5"], "multistep and plateau"), (["--patience", "3"], "--schedule plateau"), (["--data", "x"], "built in"),
                            (["--weights-partial"], "needs --weights")]:
            self.refused("train", *flags, "--dry-run", says=["has no effect", says], code=2)
        self.succeeds("train", "--schedule", "plateau", "--lr-factor", 0.5, "--patience", 3, "--dry-run")
        for command, says in [(["digits", "--optimizer", "sgd", "--gamma", 0.1], "does not name lpf-sgd"),
                              (["digits", "--optimizer", "lpf-sgd", "--rho", 0.1], "does not name sam"),
                              (["digits", "--tune", "--alpha", 2], "--tune tries values of its own"),
                              (["augment", "--size", 32], "without --data"),
                              (["study", "--merge-only", "--limit", 2], "--merge-only trains nothing"),
                              (["study", "--dry-run", "--out", "x"], "--dry-run"),
                              (["sharpness", "x", "--seed", 1], "--samples"),
                              (["sharpness", "x", "--measures", "low_pass", "--initial", "y"], "pac_bayes"),
                              (["train", "--models", "--epochs", 3], "--models prints a list"),
                              (["train", "--recipes", "--optimizers"], "--recipes prints a list"),
                              (["train", "--dry-run", "--out", "x"], "--dry-run writes nothing"),
                              (["train", "--no-graphs"], "on a GPU"), (["train", "--deadline", 5], "mpirun"),
                              (["study", "--dry-run", "--threads", 1], "--dry-run"),
                              (["study", "--merge-only", "--threads", 1], "--merge-only")]:
            self.refused(*command, says=["has no effect", says], code=2)
        self.assertFalse(list(self.dir.iterdir()))

    def test_refused_values_are_code_2_and_leave_nothing_on_disk(self):
        self.short_run()
        weights = "run/best.safetensors"
        before = sorted(self.dir.rglob("*"))
        for command, says in [(["train", "--lr", -1], "--lr"), (["train", "--lr", "nan"], "finite"),
                              (["train", "--epochs", 0], "--epochs"), (["train", "--recipe", "x"], "no recipe"),
                              (["train", "--dataset", "mnist"], "needs --data"),
                              (["train", "--train-samples", 5000], "only 1297"),
                              (["train", "--model", "small-lenet"], "SmallLeNet"),
                              (["train", "--model", "digits-mlp", "--dataset", "mnist1d"], "digits-mlp"),
                              (["train", "--model", "convnet", "--no-skip", "--out", "a/b"], "skip"),
                              (["train", "--M", 7, "--estimator", "antithetic"], "even"),
                              (["train", "--optimizer", "adam", "--M", 4], "does not use it"),
                              (["train", "--optimizer", "sgd", "--nesterov", "--momentum", 0], "nesterov"),
                              (["train", "--precision", "bfloat16"], "--device cuda"), (["train", "--resume"], "needs --out"),
                              (["train", "--dry-run", "--model", "small-lenet"], "SmallLeNet"),
                              (["digits", "--label-noise", "nan"], "finite"), (["digits", "--gamma", "inf"], "--gamma"),
                              (["digits", "-M", 7, "--estimator", "antithetic"], "even"),
                              (["landscape", "--sigma", "nan"], "finite"), (["landscape", "--points", 1], "--points"),
                              (["estimators", "--batch", 9], "even"), (["quadratics", "--dimensions", 1], "--dimensions"),
                              (["theory", "--only", "x"], "--only"), (["augment", "--only", "x"], "--only"),
                              (["study", "--shard", "3/2"], "--shard"), (["study", "--grid", "medium", "--study", "data-noise"],
                                                                         "no study"),
                              (["study", "--network", "digits-mlp", "--dataset", "mnist1d"], "digits-mlp"),
                              (["study", "--dataset", "digits", "--data", "x"], "CIFAR-10"),
                              (["sharpness", weights, "--relative-error", "nan"], "finite"),
                              (["sharpness", weights, "--network", "mlp", "--samples", 5000], "--samples"),
                              (["sharpness", weights, "--compare", weights, "--relative-error", 0.1], "--compare"),
                              (["sharpness", "new", "--train", "--network", "small-lenet"], "digits-mlp"),
                              (["sharpness", weights, "--network", "small-lenet"], "SmallLeNet"),
                              (["sharpness", weights, "--network", "convnet1d"], "convnet1d")]:
            with self.subTest(command=command):
                self.refused(*command, says=says, code=2)
                self.assertEqual(sorted(self.dir.rglob("*")), before)
        # What is found out about files is another error; it leaves nothing either.
        for command, says in [(["train", "--dataset", "mnist", "--data", "none", "--out", "x"], "none"),
                              (["train", "--weights", "none", "--out", "x"], "none"), (["augment", "--data", "none"], "none")]:
            with self.subTest(command=command):
                self.refused(*command, says=says)
                self.assertEqual(sorted(self.dir.rglob("*")), before)

    def test_the_result_is_not_chosen_by_the_test_images(self):
        self.succeeds("train", "--epochs", 8, "--train-samples", 200, "--optimizer", "sgd", "--lr", 0.02, "--out", "run")
        log = [json.loads(line) for line in (self.dir / "run/log.jsonl").read_text().splitlines()]
        out = self.succeeds("train", "--resume", "--out", "run")
        self.assertIn(f"last epoch, 8: test error {log[-1]['test_error']:.2f} %", out)
        out = self.succeeds("train", "--epochs", 8, "--train-samples", 200, "--validation", 100, "--optimizer", "sgd",
                            "--out", "valid")
        log = [json.loads(line) for line in (self.dir / "valid/log.jsonl").read_text().splitlines()]
        best = min(log, key=lambda e: e["validation_error"])
        self.assertIn(f"epoch {best['epoch']}, chosen by validation error: test error {best['test_error']:.2f} %", out)
        page = (self.dir / "valid/report.html").read_text()
        self.assertIn(f"{best['test_error']:.2f} % of the test images misread", page)

    def test_what_can_be_refused_is_refused_before_the_work(self):
        self.short_run()
        file, begin = "run/best.safetensors", time.monotonic()
        measure = ["sharpness", file, "--network", "mlp"]
        self.refused(*measure, "--draws", 4, says="at least 6 products, got 4", code=2)
        self.refused(*measure, "--json", "none/x.json", says="none/x.json")
        self.refused(*measure, "--plot", "run", says="run")
        self.refused(*measure, "--compare", "other.safetensors", says="other.safetensors")
        self.refused(*measure, "--initial", "other.safetensors", says="other.safetensors")
        self.refused("sharpness", "new.safetensors", "--train", "--json", "none/x.json", says="none/x.json")
        self.refused("sharpness", "new.safetensors", "--train", "--draws", 4, says="6 products", code=2)
        self.assertFalse((self.dir / "new.safetensors").exists())
        self.refused("compare", "run", "--out", "none/x.html", says="none/x.html")
        (self.dir / "file").touch()
        for program in ["digits", "landscape", "quadratics", "study", "theory"]:
            self.refused(program, "--out", "file/out", says="file")
        (self.dir / "out/report.html").mkdir(parents=True)
        for program in ["digits", "quadratics", "study", "theory"]:
            self.refused(program, "--out", "out", says="report.html")
        self.refused("augment", "--out", "run", says="run")
        self.assertLess(time.monotonic() - begin, 60)

    def test_weights_of_zero_have_a_row_for_every_measure(self):
        self.short_run()
        path = self.dir / "run/best.safetensors"
        data = path.read_bytes()
        n = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + n])
        header.pop("__metadata__")
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(len(data) - 8 - n))
        out = self.succeeds("sharpness", path, "--network", "mlp", "--samples", 100, "--draws", 6, "--json", "x.json")
        rows = {r["measure"]: r for r in json.loads((self.dir / "x.json").read_text())}
        self.assertIn("density", rows)
        for name, row in rows.items():
            self.assertEqual(row["value"] is None, row["note"] != "" and not name.startswith("eigenvalue"), row)
        self.assertIn("no value: ", out)
        self.assertNotIn("inf", out)

    def test_integers_of_any_size(self):
        self.short_run()
        begins = {"train": ["--dry-run"], "compare": ["run"], "sharpness": ["run/best.safetensors", "--network", "mlp",
                                                                          "--measures", "low_pass", "--draws", "2"],
                  "study": ["--dry-run"], "quadratics": ["--dimensions", "10", "--draws", "2"],
                  "digits": ["--seeds", "1", "--epochs", "1"],
                  "landscape": ["--points", "3", "--epochs", "2", "--draws", "1"], "augment": ["--columns", "1"],
                  "theory": ["--quick", "--only", "landscape"],
                  "estimators": ["--net", "mlp", "--epochs", "1", "--draws", "20"],
                  "translate": ["--data", "numbers", "--train-pairs", "100", "--dry-run"], **lessons_short}
        for program in programs:
            for flag in re.findall(r"(--?[\w-]+)(?:,--\w+)? (?:INT|UINT)", self.succeeds(program, "--help")):
                for value in [largest, "-" + largest, "9" * 30]:
                    with self.subTest(program=program, flag=flag, value=value):
                        done = self.call(program, *begins[program], flag, value)
                        self.assertGreaterEqual(done.returncode, 0, done.stderr)
                        self.assertLess(done.returncode, 128, done.stderr)
                        if done.returncode != 0:
                            self.assertNotIn("terminate", done.stderr)
                            self.assertTrue(done.stderr.strip() or done.stdout.strip())
        self.refused("study", "--dry-run", "--shard", "5/18446744073709551615", says="--shard", code=2)


if __name__ == "__main__":
    missing = [p for p in programs if not (folder / p).exists()]
    if missing:
        print("not built:", ", ".join(missing))
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + ["Programs." + name for name in sys.argv[2:]])
