"""The program translate as a process: training and resuming, standard input, files, comparisons, errors.

    python3 tests/scripts/translate_test.py FOLDER_OF_THE_PROGRAMS [name of a test]
"""

import gzip
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

program = pathlib.Path(sys.argv[1]).resolve() / "translate"
# A network that trains in a second, on few pairs of the numbers.
SMALL = ["--data", "numbers", "--train-pairs", "300", "--dim", "16", "--heads", "2", "--feedforward", "16"]
TINY = [*SMALL, "--epochs", "2"]


class Translate(unittest.TestCase):

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.dir = pathlib.Path(temporary.name)

    def call(self, *flags, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 250} | options
        return subprocess.run([str(program), *map(str, flags)], cwd=self.dir, **options)

    def succeeds(self, *flags, **options):
        done = self.call(*flags, **options)
        self.assertEqual(done.returncode, 0, (flags, done.stderr.decode()))
        return done.stdout.decode()

    def refused(self, *flags, says, code=1, **options):
        done = self.call(*flags, **options)
        self.assertEqual(done.returncode, code, (flags, done.stdout, done.stderr))
        message = done.stderr.decode().splitlines()[-1]
        self.assertTrue(message.startswith("translate: "), message)
        for words in [says] if isinstance(says, str) else says:
            self.assertIn(words, message)

    def write(self, name, *lines):
        (self.dir / name).write_bytes("".join(line + "\n" for line in lines).encode())

    def rows(self, name):
        return [json.loads(line) for line in (self.dir / name).read_text().splitlines()]

    def same_run(self, a, b):
        """Two runs are one to the bit, but for their times."""
        for name in ["checkpoint.safetensors", "best.safetensors", "samples.jsonl", "pieces.model", "config.json"]:
            self.assertEqual((self.dir / a / name).read_bytes(), (self.dir / b / name).read_bytes(), name)
        times = {"seconds", "tokens_per_second"}
        without = lambda rows: [{k: v for k, v in row.items() if k not in times} for row in rows]
        self.assertEqual(without(self.rows(a + "/log.jsonl")), without(self.rows(b + "/log.jsonl")))

    def test_resumed_runs_are_the_same_to_the_bit(self):
        for optimizer in ["adam", "lpf-adam", "sam-adam", "entropy-adam"]:
            with self.subTest(optimizer=optimizer):
                whole, parts = optimizer, optimizer + "-parts"
                flags = [*TINY, "--optimizer", optimizer, "--threads", 1]
                flags += ["--inner-steps", 2] if optimizer == "entropy-adam" else []
                self.succeeds(*flags, "--out", whole)
                out = self.succeeds(*flags, "--out", parts, "--minutes", 1e-9)  # stops after the first update
                stops = 0
                while "best epoch" not in out:
                    out = self.succeeds("--resume", "--out", parts, "--minutes", 1e-9)
                    stops += 1
                    self.assertLess(stops, 30)
                self.assertGreater(stops, 2)
                self.same_run(whole, parts)
                self.assertEqual(len(self.rows(whole + "/log.jsonl")), 2)

    def test_threads_do_not_change_a_run(self):
        for threads in [1, 2]:
            self.succeeds(*TINY, "--out", f"t{threads}", "--threads", threads)
        self.same_run("t1", "t2")

    def test_signals_save(self):
        run = subprocess.Popen([str(program), *SMALL, "--epochs", "100000", "--out", "run"], cwd=self.dir,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(run.kill)
        while b"epoch 1:" not in run.stderr.readline():
            self.assertIsNone(run.poll())
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate(timeout=100)
        self.assertEqual(run.returncode, 128 + signal.SIGTERM)
        self.assertIn(b"stopped by SIGTERM", errors)
        self.assertIn(b"translate --resume --out run", errors)
        self.assertTrue((self.dir / "run/checkpoint.state.safetensors").exists())

    def test_learns_and_translates(self):
        out = self.succeeds("--data", "numbers", "--optimizer", "lpf-adam", "--alpha", 5, "--epochs", 10, "--out", "run")
        bleu = [row["validation_bleu"] for row in self.rows("run/log.jsonl")]
        self.assertEqual(len(bleu), 10)
        self.assertGreater(max(bleu), 60, bleu)
        self.assertIn(f"validation BLEU {max(bleu):.2f}", out)
        self.assertGreater(float(re.search(r"test: BLEU = ([\d.]+)", out)[1]), 60)
        page = (self.dir / "run/report.html").read_text()
        for part in ["BLEU", "Learning rate and radius", "Where the network looks", "thousand", "--alpha"]:
            self.assertIn(part, page)
        samples = self.rows("run/samples.jsonl")
        self.assertEqual(len(samples), 40)
        self.assertGreater(len({s["translation"] for s in samples}), 8)  # they change over training

        lines = ["9 9 0 0", "", "1 2 0 0", "  4 0 0\t", "4 0 0\r", "8 0 0 0"]
        text = "\n".join(lines).encode()  # the last line without an end
        out = self.succeeds("--model", "run", input=text).split("\n")
        self.assertEqual(len(out), 7)
        self.assertEqual((out[1], out[6]), ("", ""))
        self.assertEqual(out[3], out[4])
        right = [out[0] == "nine thousand nine hundred", out[2] == "one thousand two hundred",
                 out[3] == "four hundred", out[5] == "eight thousand"]
        self.assertGreaterEqual(sum(right), 2, out)
        for flags in [["--lines", 1], ["--lines", 2], ["--threads", 1], ["--beam", 1]]:
            self.assertEqual(self.succeeds("--model", "run", *flags, input=text).split("\n"), out)
        self.assertEqual(len(self.succeeds("--model", "run", "--beam", 4, input=text).split("\n")), 7)
        self.assertEqual(self.succeeds("--model", "run", input=b""), "")
        self.refused("--model", "run", input=b"1 2\n3 \xff\n", says="line 2: byte 3 is not UTF-8")
        self.refused("--model", "run", "--beam", 0, input=b"1 2\n", says="--beam must be from 1", code=2)
        with open("/dev/full", "w") as full:
            self.refused("--model", "run", input=b"1 2\n", stdout=full, says="could not be written")
        # Finished: nothing is trained again.
        before = (self.dir / "run/best.safetensors").stat().st_mtime_ns
        self.assertIn("best epoch", self.succeeds("--resume", "--out", "run"))
        self.assertEqual((self.dir / "run/best.safetensors").stat().st_mtime_ns, before)

    def test_two_files(self):
        digits = [f"{i // 100} {i // 10 % 10} {i % 10}" for i in range(100, 400)]
        words = [f"ZAHL {' '.join('x' * int(d) + 'y' for d in line.split())}" for line in digits]
        self.write("a.de", *digits)
        (self.dir / "a.en.gz").write_bytes(gzip.compress("".join(w + "\n" for w in words).encode()))
        small = ["--dim", 16, "--heads", 2, "--feedforward", 16, "--epochs", 1, "--encoder-layers", 1, "--decoder-layers", 1]
        self.succeeds("--train-files", "a.de,a.en.gz", "--validation-pairs", 50, "--vocabulary", 40, *small, "--out", "run")
        samples = self.rows("run/samples.jsonl")
        self.assertTrue(all(s["reference"].startswith("zahl") for s in samples))  # in lower case
        self.assertIn("validation_bleu", self.rows("run/log.jsonl")[0])
        self.succeeds("--train-files", "a.en.gz,a.de", "--validation-pairs", 50, "--vocabulary", 40, *small, "--out", "back")
        lower = self.succeeds("--model", "back", input=b"zahl xxy xy xy\n")
        self.assertEqual(self.succeeds("--model", "back", input=b"ZAHL XXY xy xy\n"), lower)
        self.assertTrue(lower.strip())
        self.succeeds("--train-files", "a.de,a.en.gz", "--no-lower-case", "--vocabulary", 40, "--make-pieces", "p.model",
                      "--validation-pairs", 50)
        self.succeeds("--train-files", "a.de,a.en.gz", "--no-lower-case", "--pieces", "p.model", "--validation-files",
                      "a.de,a.en.gz", "--test-files", "a.de,a.en.gz", *small, "--out", "cased")
        self.assertEqual((self.dir / "cased/pieces.model").read_bytes(), (self.dir / "p.model").read_bytes())
        self.assertTrue(all(s["reference"].startswith("ZAHL") for s in self.rows("cased/samples.jsonl")))
        folder = self.dir / "folder"
        folder.mkdir()
        for name in ["train", "val", "test_2016_flickr"]:
            (folder / f"{name}.de").write_text("\n".join(digits))
            (folder / f"{name}.en").write_text("\n".join(words))
        self.assertIn("test: BLEU", self.succeeds("--data", "folder", "--vocabulary", 40, *small, "--out", "c"))

    def test_files_that_are_no_pairs(self):
        self.write("a.de", "eins zwei", "drei vier"), self.write("a.en", "one two")
        self.refused("--train-files", "a.de,a.en", says=["'a.de' has 2 lines and 'a.en' has 1", "line 2"])
        (self.dir / "a.en").write_bytes(b"one two\nthree \xff\n")
        self.refused("--train-files", "a.de,a.en", says="'a.en', line 2: byte 7 is not UTF-8")
        self.refused("--train-files", "a.de", says="needs two names with a comma", code=2)
        self.refused("--train-files", "a.de,none", says="cannot read 'none'")
        self.write("a.en", "one two", "three four")
        self.refused("--train-files", "a.de,a.en", says="--validation-pairs 1000 cannot be kept from 2", code=2)
        self.refused("--train-files", "a.de,a.en", "--validation-pairs", 1, says="4000 pieces cannot be made of 2 sentences",
                     code=2)
        self.refused("--data", "nowhere", says="'nowhere' is no folder")
        (self.dir / "empty").mkdir()
        self.refused("--data", "empty", says="'empty' has no train.de or train.de.gz")

    def test_without_data_it_says_where_they_come_from(self):
        self.refused(says=["github.com/multi30k/dataset", "--data numbers"], code=2)

    def test_flags(self):
        for flags, says in [(["--optimizer", "lpf-adm"], "did you mean 'lpf-adam'"),
                            (["--optimizer", "adam", "--gamma", 1], "--optimizer adam does not use it"),
                            (["--inner-lr", 1], "does not use it"), (["--from", "fr"], "has no effect"),
                            (["--epochs", 0], "--epochs must be from 1"), (["--lr", "x"], "--lr needs a number"),
                            (["--dropout", 2], "dropout"), (["--heads", 3], "heads"), (["--M", 65], "cannot be cut"),
                            (["--label-smoothing", 1.5], "--label-smoothing"), (["--vocabulary", 100000], "100000 pieces"),
                            (["--recipe", "x"], "there is no recipe 'x'"), (["--resume"], "--resume needs --out"),
                            (["--lr", "1e400"], "--lr needs a number"), (["--lr", "nan"], "--lr needs a finite number"),
                            (["--estimator", "per-sample"], "give --estimator replicas"), (["--M", 7, "--estimator", "antithetic"],
                                                                                        "even"),
                            (["--optimizer", "entropy-adam", "--inner-lr", 0], "inner_lr"), (["--epsilon", -1], "--epsilon"),
                            (["--compare", "adam,adam"], "names adam twice"), (["--compare", "adam,x"], "'x'"),
                            (["--compare", ""], "--compare needs"), (["--compare", "lpf-adam", "--gammas", "0.1,0.1"], "twice"),
                            (["--compare", "lpf-adam", "--gammas", ""], "--gammas needs"),
                            (["--compare", "lpf-adam", "--gammas", "nan"], "--gammas needs"),
                            (["--compare", "adam,lpf-adam", "--dropout", 2], "dropout"), (["--compare", "adam", "--seeds", 0], "--seeds"),
                            (["--compare", "adam", "--vocabulary", 100000], "100000 pieces")]:
            with self.subTest(flags=flags):
                self.refused("--data", "numbers", *flags, says=says, code=2)
                self.assertFalse(list(self.dir.iterdir()))
        self.refused("--data", "numbers", "--resume", "--out", "none", says="'none' has no run")
        self.refused("--data", "nowhere", "--out", "x", says="'nowhere' is no folder")
        self.refused("--model", "", input=b"", says="--model needs", code=2)
        self.refused("--model", "none", "--lines", 0, input=b"", says="--lines must be", code=2)
        self.refused("--model", "none", "--beam", 2, "--length-power", -1, input=b"", says="--length-power", code=2)
        self.assertFalse(list(self.dir.iterdir()))
        self.refused("--data", "numbers", "--epohcs", 3, says="--epochs", code=2)
        self.refused("--model", "none", input=b"", says="none/config.json")
        self.assertIn("Multi30k", self.succeeds("--help"))

    def test_flags_that_the_mode_does_not_use(self):
        self.write("a.de", "eins"), self.write("a.en", "one")
        before = sorted(self.dir.iterdir())
        files = ["--train-files", "a.de,a.en"]
        for flags, says in [(["--beam", 2], "--model"), (["--length-power", 2], "--model"), (["--lines", 2], "--model"),
                            (["--seeds", 2], "--compare"), (["--gammas", "0.1"], "--compare"), (["--rhos", "0.1"], "--compare"),
                            (["--tune-epochs", 2], "--compare"), (["--validation-pairs", 5], "--train-files"),
                            (["--validation-files", "a.de,a.en"], "--train-files"), (["--pieces", "x", "--vocabulary", 70], "--pieces"),
                            (["--dry-run", "--out", "x"], "--dry-run writes nothing"), (["--dry-run", "--minutes", 1], "makes no run"),
                            (["--compare", "adam", "--gamma", 1], "does not use it"),
                            (["--compare", "lpf-adam", "--gamma", 1], "--gammas has the radii"),
                            (["--compare", "adam,sam-adam", "--rho", 1], "does not use it"),
                            (["--compare", "sam-adam", "--rho", 1], "--rhos has the radii"),
                            (["--compare", "adam", "--optimizer", "adam"], "names the optimizers"),
                            (["--compare", "adam", "--gammas", "1"], "names no lpf-"), (["--compare", "adam", "--rhos", "1"], "names no sam-"),
                            (["--compare", "adam", "--tune-epochs", 2], "none is chosen"), (["--compare", "adam", "--resume"], "by itself"),
                            (["--compare", "adam,sam-adam", "--alpha", 2], "does not use it"),
                            (["--compare", "adam", "--beam", 2], "--model"), (["--make-pieces", "p", "--lr", 1], "--make-pieces reads"),
                            (["--make-pieces", "p", "--dry-run"], "--make-pieces reads"), (["--make-pieces", "p", "--out", "x"], "--make-pieces"),
                            (["--make-pieces", "p", "--compare", "adam"], "--make-pieces")]:
            with self.subTest(flags=flags):
                self.refused("--data", "numbers", *flags, says=["has no effect", says], code=2)
        for flags, says in [(["--data", "numbers"], "--train-files are given"), (["--from", "fr"], "given otherwise"),
                            (["--validation-files", "a.de,a.en", "--validation-pairs", 1], "--validation-pairs")]:
            with self.subTest(flags=flags):
                self.refused(*files, *flags, says=["has no effect", says], code=2)
        for flags in [["--gamma", 1], ["--data", "numbers"], ["--out", "x"], ["--resume"], ["--compare", "adam"], ["--dry-run"],
                      ["--no-lower-case"], ["--minutes", 1], ["--recipe", "paper"], ["--beam", 1, "--length-power", 2]]:
            with self.subTest(flags=flags):
                self.refused("--model", "none", *flags, input=b"", says="has no effect", code=2)
        self.assertEqual(sorted(self.dir.iterdir()), before)
        # What one optimizer of a comparison uses has an effect.
        self.succeeds(*TINY, "--dry-run", "--compare", "adam,lpf-adam,asam-adam", "--gammas", "0.1", "--rho", 0.1, "--M", 4)
        self.succeeds(*TINY, "--dry-run", "--compare", "adam", "--batch", 4)  # fewer than the M of lpf-…

    def test_sentencepiece_prints_nothing_of_its_own(self):
        self.write("a.de", "eins zwei", "drei vier"), self.write("a.en", "one two", "three four")
        done = self.call("--train-files", "a.de,a.en", "--validation-pairs", 1)
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertRegex(done.stderr, rb"of 2 sentences: Vocabulary size (is|too)")  # not its source's file and line
        self.write("e.de", "", ""), self.write("e.en", "", "")
        self.refused("--train-files", "e.de,e.en", "--validation-pairs", 1, says="all are empty", code=2)
        (self.dir / "p.model").write_bytes(b"no pieces at all")
        for flags in [["--pieces", "p.model", "--data", "numbers"], ["--pieces", "p.model", *TINY, "--dry-run"]]:
            done = self.call(*flags)
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertTrue(done.stderr.endswith(b"'p.model' is no model of sentencepiece\n"), done.stderr)
        for name in ["", "\0" * 100, "\n\x10"]:
            (self.dir / "p.model").write_bytes(name.encode())
            done = self.call("--pieces", "p.model", "--data", "numbers")
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)

    def test_one_run_a_folder(self):
        self.succeeds(*TINY, "--out", "run")
        self.refused(*TINY, "--out", "run", says="has a run already")
        self.refused("--resume", "--out", "run", "--lr", 0.1, says="other settings: lr (0, now 0.1)", code=2)
        (self.dir / "run/best.safetensors").unlink()
        self.refused("--model", "run", input=b"1 2\n", says="best.safetensors")

    def test_a_loss_that_is_no_number_ends_the_run(self):
        self.refused(*SMALL, "--optimizer", "adam", "--lr", 1e30, "--epochs", 20, "--out", "run", says=["the loss is", "lower --lr"])

    def test_dry_run(self):
        out = self.succeeds(*TINY, "--dry-run")
        self.assertRegex(out, r"an epoch +5 batches of \d+ tokens")
        self.assertIn("the run, 10 updates", out)
        self.assertRegex(out, r"after the warm-up +0.25, 1 updates")  # 1/sqrt(dim * a tenth of 10)
        out = self.succeeds(*SMALL, "--epochs", 60, "--dry-run")
        self.assertRegex(out, r"after the warm-up +0.04564, 30 updates")
        self.assertFalse(list(self.dir.iterdir()))
        out = self.succeeds(*TINY, "--dry-run", "--compare", "adam,lpf-adam", "--gammas", "0.001,0.01", "--seeds", 2)
        self.assertIn("all 6 runs", out)

    def test_comparison_goes_on(self):
        flags = [*TINY, "--compare", "adam,lpf-adam", "--gammas", "0.001,0.01", "--seeds", 2, "--tune-epochs", 1, "--out", "c"]
        first = self.call(*flags, "--minutes", 1e-9)
        self.assertEqual(first.returncode, 0)
        self.assertFalse((self.dir / "c/table.md").exists())
        out = self.succeeds(*flags)
        table = (self.dir / "c/table.md").read_text()
        self.assertTrue(out.endswith(table))
        rows = self.rows("c/results.jsonl")
        self.assertEqual([(r["phase"], r["optimizer"], r["radius"], r["seed"]) for r in rows[:2]],
                         [("radius", "lpf-adam", 0.001, 1000), ("radius", "lpf-adam", 0.01, 1000)])
        best = max(rows[:2], key=lambda r: r["validation_bleu"])["radius"]
        self.assertEqual([(r["optimizer"], r["radius"], r["seed"]) for r in rows[2:]],
                         [("adam", None, 0), ("adam", None, 1), ("lpf-adam", best, 0), ("lpf-adam", best, 1)])
        self.assertEqual({r["updates"] for r in rows[:2]}, {5})
        self.assertEqual({r["updates"] for r in rows[2:]}, {10})
        for row in rows:
            self.assertGreater(row["step_ms"], 0)
            self.assertIsNotNone(row["test_bleu"])
        self.assertRegex(table, r"\| lpf-adam \| gamma 0\.01? ?\S* \| 2 \| \d+\.\d\d ± \d+\.\d\d \|")
        self.assertEqual(self.succeeds(*flags), table)  # nothing is made again
        self.assertEqual(self.rows("c/results.jsonl"), rows)
        self.refused(*flags, "--lr", 0.01, says="with other settings")
        # A lost row is made again, the same but for its times.
        lines = (self.dir / "c/results.jsonl").read_text().splitlines(keepends=True)
        (self.dir / "c/results.jsonl").write_text("".join(lines[:-1]))
        self.succeeds(*flags)
        again = self.rows("c/results.jsonl")[-1]
        for name in ["validation_bleu", "train_loss", "test_loss"]:
            self.assertEqual(again[name], rows[-1][name])

    def test_records_of_another_machine(self):
        flags = [*TINY, "--compare", "adam,lpf-adam", "--gammas", "0.001,0.01", "--seeds", 1, "--tune-epochs", 1]
        flags += ["--records", "r.jsonl"]
        here = self.succeeds(*flags, "--out", "here")
        self.assertFalse((self.dir / "here/results.jsonl").exists())
        rows = self.rows("r.jsonl")
        self.assertEqual(len(rows), 4)
        for row in rows:  # nothing in them is of this machine
            self.assertNotIn("data", json.loads(row["settings"]))
        # A setting that did not exist yet had what is its default now.
        rows[0]["settings"] = json.dumps({k: v for k, v in json.loads(rows[0]["settings"]).items() if k != "tied"})
        self.write("r.jsonl", *map(json.dumps, rows))
        there = self.succeeds(*flags, "--out", "there")
        self.assertEqual(there, here[here.index("| optimizer"):])
        self.assertEqual((self.dir / "there/table.md").read_text(), there)
        self.assertFalse((self.dir / "there/runs").exists())
        self.assertEqual(self.rows("r.jsonl"), rows)
        self.assertIn("all 0 runs", self.succeeds(*flags, "--dry-run"))
        # A lost row is made again; another radius is chosen, which the table has then.
        rows[1]["validation_bleu"], rows[0]["validation_bleu"] = (100, 0) if rows[3]["radius"] == 0.001 else (0, 100)
        self.write("r.jsonl", *map(json.dumps, rows))
        self.assertIn("all 1 runs", self.succeeds(*flags, "--dry-run"))
        again = self.succeeds(*flags, "--out", "there")
        self.assertEqual(len(self.rows("r.jsonl")), 5)
        other = self.rows("r.jsonl")[4]["radius"]
        self.assertEqual({other, rows[3]["radius"]}, {0.001, 0.01})
        self.assertIn(f"| lpf-adam | gamma {other} | 1 |", again)
        self.refused(*flags, "--out", "there", "--dropout", 0.2, says="with other settings: dropout (0.1, now 0.2)")
        self.refused(*flags[:-1], "r.json", "--out", "x", says="ends with .jsonl", code=2)
        self.refused(*TINY, "--records", "r.jsonl", says="--records has no effect: it is for --compare", code=2)
        self.write("r.jsonl", '{"phase": 1')
        self.refused(*flags, "--out", "there", says="'r.jsonl', line 1")

    def test_starts_from_weights(self):
        self.succeeds(*SMALL, "--optimizer", "adam", "--epochs", 1, "--out", "a")
        flags = [*SMALL, "--optimizer", "adam", "--epochs", 1, "--lr", 1e-30, "--pieces", "a/pieces.model"]
        self.succeeds(*flags, "--weights", "a/best.safetensors", "--out", "b")
        self.assertEqual((self.dir / "a/best.safetensors").read_bytes(), (self.dir / "b/best.safetensors").read_bytes())
        self.assertIn("best epoch", self.succeeds("--resume", "--out", "b"))
        self.refused(*flags, "--weights", "none", "--out", "c", says="none")
        self.refused(*flags, "--weights", "a/best.safetensors", "--encoder-layers", 2, "--out", "c",
                     says="transformer.encoder.layers.1")

    def test_device(self):
        self.assertIn("BLEU", self.succeeds(*TINY, "--device", "cpu", "--out", "run"))
        self.refused(*TINY, "--device", "tpu", says="tpu", code=2)
        done = self.call(*TINY, "--device", "cuda", "--out", "there")
        if done.returncode:  # without a GPU it says why
            self.assertRegex(done.stderr.decode().splitlines()[-1], "lpf::cuda|NVIDIA|GPU")


if __name__ == "__main__":
    if not program.exists():
        print("translate is not built: it needs sentencepiece (on Debian: libsentencepiece-dev)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + ["Translate." + name for name in sys.argv[2:]])
