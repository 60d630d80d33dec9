#!/usr/bin/env python3
"""Tests scripts/get-data with a local server and small files instead of the official ones.

    python3 get_data_test.py          exits with 77 if there is no curl

Runs a copy of the script in which the archive's SHA-256 is that of the small one.
"""
import hashlib
import http.server
import io
import lzma
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"
HERE = os.environ | {"no_proxy": "127.0.0.1"}
ARCHIVE = "cifar-100-binary.tar.gz"
OFFICIAL = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
FILES = {"train.bin": b"\1\2" + bytes(3072), "test.bin": b"\3\4" + bytes(3072)}


def archive():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        # Incompressible data make it large enough to be interrupted.
        noise = b"".join(hashlib.sha256(bytes([i & 255, i >> 8])).digest() for i in range(20_000))
        for name, data in (FILES | {"noise": noise}).items():
            info = tarfile.TarInfo("cifar-100-binary/" + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `asked` are the Range headers received."""

    def __init__(self, files, ranges=True, pause=0.0):
        self.files, self.ranges, self.pause, self.asked = files, ranges, pause, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):

    def do_GET(self):
        data, wanted = self.server.files.get(self.path[1:]), self.headers.get("Range")
        self.server.asked.append(wanted)
        if data is None:
            return self.send_error(404)
        begin = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.ranges else 0
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        for i in range(begin, len(data), 1 << 14):
            try:
                self.wfile.write(data[i:min(i + (1 << 14), len(data))])
            except OSError:
                return
            time.sleep(self.server.pause)

    def log_message(self, *_):
        pass


class GetData(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder, self.archive = pathlib.Path(folder.name), archive()
        shutil.copytree(SCRIPTS, self.folder / "scripts")
        script = self.folder / "scripts" / "get-data"
        text = script.read_text()
        self.assertIn(OFFICIAL, text)
        script.write_text(text.replace(OFFICIAL, hashlib.sha256(self.archive).hexdigest()))
        self.out = self.folder / "out"

    def command(self, *arguments):
        script = self.folder / "scripts" / "get-data"
        return ["bash", str(script), "--no-install", "--to", str(self.out), *map(str, arguments), "cifar100"]

    def get(self, *arguments):
        """Exit status and output."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, errors="replace", env=HERE)
        return done.returncode, done.stdout + done.stderr

    def server(self, **options):
        server = Server({ARCHIVE: self.archive}, **options)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def there(self):
        return sorted(p.name for p in self.out.iterdir())

    def check_whole(self):
        self.assertEqual(self.there(), [ARCHIVE])
        self.assertEqual((self.out / ARCHIVE).read_bytes(), self.archive)

    def test_downloads_and_keeps_what_is_there(self):
        server = self.server()
        self.assertEqual(self.get("--server", server.url)[0], 0)
        self.check_whole()
        status, said = self.get("--server", server.url)
        self.assertEqual((status, len(server.asked)), (0, 1))
        self.assertIn("is there", said)

    def test_killed_it_leaves_no_file_of_that_name_and_goes_on(self):
        server = self.server(pause=0.05)
        run = subprocess.Popen(self.command("--server", server.url), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True, env=HERE)
        part = self.out / (ARCHIVE + ".part")
        while run.poll() is None and not (part.exists() and part.stat().st_size > 0):
            time.sleep(0.01)
        subprocess.run(["kill", "-KILL", "--", f"-{run.pid}"], check=True)
        self.assertEqual(run.wait(), -signal.SIGKILL)
        self.assertEqual(self.there(), [part.name])
        self.assertLess(part.stat().st_size, len(self.archive))
        server.pause = 0
        self.assertEqual(self.get("--server", server.url)[0], 0)
        self.check_whole()
        self.assertRegex(server.asked[1], r"^bytes=[1-9]\d*-$")

    def test_a_part_that_cannot_be_gone_on_with_is_begun_anew(self):
        for begun, options in ((self.archive[:5000], {"ranges": False}), (b"x" * 5000, {})):
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir()
            (self.out / (ARCHIVE + ".part")).write_bytes(begun)
            self.assertEqual(self.get("--server", self.server(**options).url)[0], 0)
            self.check_whole()

    def test_what_is_not_the_official_file_is_refused(self):
        server = self.server()
        server.files[ARCHIVE] = self.archive[:-1] + b"x"
        status, said = self.get("--server", server.url)
        self.assertEqual((status, self.there()), (1, []))
        self.assertIn("not the official file", said)

    def test_without_file_or_network_it_says_what_to_do(self):
        server = self.server()
        server.files.clear()
        for url in (server.url, "http://127.0.0.1:9"):
            status, said = self.get("--server", url)
            self.assertEqual((status, self.there()), (1, []))
            self.assertIn(f"cannot download {ARCHIVE} from {url}", said)
            self.assertIn("--from DIR", said)

    def test_from_a_folder(self):
        given = self.folder / "given"
        given.mkdir()
        self.assertIn(f"has no train.bin (plain, .gz or .xz), and no {ARCHIVE}", self.get("--from", given)[1])

        sums = ""
        for name, data in FILES.items():
            (given / (name + ".xz")).write_bytes(lzma.compress(data))
            sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        status, said = self.get("--from", given)
        self.assertEqual((status, self.there()), (1, []))
        self.assertIn("is not the official train.bin", said)
        (given / "SHA256SUMS").write_text(sums)
        self.assertEqual(self.get("--from", given)[0], 0)
        self.assertEqual(self.there(), ["test.bin.xz", "train.bin.xz"])

        shutil.rmtree(self.out)
        (given / ARCHIVE).write_bytes(self.archive)
        self.assertEqual(self.get("--from", given)[0], 0)
        self.check_whole()
        shutil.rmtree(self.out)
        self.assertEqual(self.get("--from", given, "--link")[0], 0)
        self.assertTrue((self.out / ARCHIVE).is_symlink())


if __name__ == "__main__":
    if shutil.which("curl") is None:
        print("skipped: no curl")
        sys.exit(77)
    unittest.main()
