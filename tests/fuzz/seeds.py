"""seeds.py FOLDER: writes a small valid file of each kind that tests/fuzz/readers.cpp reads, as the initial corpus.

Needs the Python standard library only.
"""

import gzip
import io
import json
import lzma
import pathlib
import struct
import sys
import tarfile
import zipfile

folder = pathlib.Path(sys.argv[1])


def seed(target, name, data):
    path = folder / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def idx(code, sizes, data):
    return bytes([0, 0, code, len(sizes)]) + b"".join(struct.pack(">I", n) for n in sizes) + data


images = idx(8, [3, 2, 2], bytes(range(12)))
seed("idx", "images", images)
seed("idx", "labels", idx(8, [3], bytes([7, 0, 9])))
seed("idx", "floats", idx(13, [2], struct.pack(">2f", 1, -2)))
seed("idx", "doubles", idx(14, [1, 1], struct.pack(">d", 3)))
seed("idx", "shorts", idx(11, [2], struct.pack(">2h", -2, 256)))
seed("idx", "packed", gzip.compress(images, mtime=0))


def npy(descr, shape, data, fortran=False, version=1):
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    header = header.ljust(118 if version == 1 else 116 - 2) + "\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header.encode() + data


floats = npy("<f4", (2, 3), struct.pack("<6f", *range(6)))
columns = npy("<f8", (2, 2), struct.pack("<4d", *range(4)), fortran=True)
seed("npy", "floats", floats)
seed("npy", "columns", columns)
seed("npy", "bools", npy("|b1", (3,), bytes([0, 1, 1]), version=2))
seed("npy", "scalar", npy("<i8", (), struct.pack("<q", -5)))


def archive(method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        z.writestr("images.npy", floats)
        z.writestr("y.npy", columns)
    return out.getvalue()


seed("npz", "stored", archive(zipfile.ZIP_STORED))
seed("npz", "deflated", archive(zipfile.ZIP_DEFLATED))
zipfile.ZIP64_LIMIT = zipfile.ZIP_FILECOUNT_LIMIT = 0
wide = bytearray(archive(zipfile.ZIP_DEFLATED))
wide[-14:-2] = b"\xff" * 12  # sizes, places and counts are in the zip64 extension
seed("npz", "zip64", bytes(wide))


def safetensors(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


seed("safetensors", "two", safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                                        "b": {"dtype": "BOOL", "shape": [1, 3], "data_offsets": [8, 11]},
                                        "__metadata__": {"key": "value"}}, bytes(11)))
seed("safetensors", "half", safetensors({"h": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)))
seed("safetensors", "none", safetensors({}, b""))

record = bytes([3]) + bytes(3072)
hundred = bytes([4, 77]) + bytes(3072)
seed("cifar", "ten", b"\0" + record)
seed("cifar", "two", b"\2" + record + record)
seed("cifar", "hundred", b"\1" + hundred)
seed("cifar", "packed", b"\0" + gzip.compress(record + record, mtime=0))
seed("cifar", "xz", b"\1" + lzma.compress(hundred))


def tar(form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as t:
        for name, data in [("cifar-10-batches-bin/a.bin", bytes(700)), ("folder/b", b"text"), ("c" * 90 + "/" + "d" * 40, b"")]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("folder")
        info.type = tarfile.DIRTYPE
        t.addfile(info)
    return out.getvalue()


seed("tar", "ustar", b"\1" + tar(tarfile.USTAR_FORMAT))
seed("tar", "gnu", b"\x90" + tar(tarfile.GNU_FORMAT))
seed("tar", "pax", b"\x49" + tar(tarfile.PAX_FORMAT))
seed("tar", "packed", b"\1" + gzip.compress(tar(tarfile.USTAR_FORMAT), mtime=0))
seed("tar", "xz", b"\1" + lzma.compress(tar(tarfile.GNU_FORMAT)))
