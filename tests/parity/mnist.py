#!/usr/bin/env python3
"""Reproduces SGD's and LPF-SGD's rows of a table of docs/results-images.md with PyTorch, and prints both.

    python tests/parity/mnist.py --data DIR --ours out/results/mnist-1000-clean/runs

DIR has MNIST's four files. Only the hyper-parameters are shared with LPF, read from the config.json of its runs;
network, optimizer and noise are implemented here from the paper: LPF-SGD is M passes in sequence over consecutive
slices of the batch, each with fresh noise of deviation gamma ||w_k|| for filter k added to the weights and removed
again. Random numbers are PyTorch's, so a seed gives other draws than in LPF: only means can agree. Needs torch.
"""
import argparse
import glob
import gzip
import json
import math
import pathlib
import statistics

import torch
import torch.nn.functional as F
from torch import nn


def read_idx(folder, name):
    path = folder / name
    raw = path.read_bytes() if path.exists() else gzip.decompress((folder / (name + ".gz")).read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(raw[3])]
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 + 4 * len(shape)).view(shape)


def read_mnist(folder):
    out = []
    for part in ("train", "t10k"):
        x = read_idx(folder, f"{part}-images-idx3-ubyte").float().div(255).sub(0.1307).div(0.3081).unsqueeze(1)
        out.append((x, read_idx(folder, f"{part}-labels-idx1-ubyte").long()))
    return out


def small_lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
                         nn.Linear(84, 10))


def deviation(p, gamma):
    if p.dim() == 1:
        return gamma * (p.norm() + 1e-16)
    return (gamma * p.flatten(1).norm(dim=1)).view(-1, *[1] * (p.dim() - 1))


def lpf_backward(net, x, y, M, gamma):
    """The mean over samples of the gradients at theta + noise, with fresh noise for each of M slices."""
    for xs, ys in zip(x.tensor_split(M), y.tensor_split(M)):
        with torch.no_grad():
            noise = [deviation(p, gamma) * torch.randn_like(p) for p in net.parameters()]
            before = [p.clone() for p in net.parameters()]
            for p, e in zip(net.parameters(), noise):
                p += e
        (F.cross_entropy(net(xs), ys) * (len(xs) / len(x))).backward()
        with torch.no_grad():
            for p, b in zip(net.parameters(), before):
                p.copy_(b)


def train(s, data, seed):
    """Test errors, in per cent, of the epochs that are evaluated."""
    torch.manual_seed(seed)
    (x, y), (test_x, test_y) = data
    kept = torch.randperm(len(x))[:s["train-samples"] or len(x)]
    x, y = x[kept], y[kept]
    drawn = torch.rand(len(y)) < s["label-noise"]
    y = torch.where(drawn, torch.randint(10, y.shape), y)
    net = small_lenet()
    sgd = torch.optim.SGD(net.parameters(), s["lr"], s["momentum"], weight_decay=s["weight-decay"],
                          nesterov=s["nesterov"])
    steps = math.ceil(len(x) / s["batch"])
    total, t, errors = steps * s["epochs"], 0, []
    for epoch in range(1, s["epochs"] + 1):
        for batch in torch.randperm(len(x)).split(s["batch"]):
            half_cosine = (1 - math.cos(math.pi * t / total)) / 2
            sgd.param_groups[0]["lr"] = s["lr"] * (1 - half_cosine)
            sgd.zero_grad()
            if s["optimizer"] == "lpf-sgd":
                lpf_backward(net, x[batch], y[batch], s["M"], s["gamma"] * (1 + (s["alpha"] - 1) * half_cosine))
            else:
                F.cross_entropy(net(x[batch]), y[batch]).backward()
            sgd.step()
            t += 1
        if epoch % s["evaluate-every"] == 0 or epoch == s["epochs"]:
            with torch.no_grad():
                wrong = sum(int((net(a).argmax(1) != b).sum()) for a, b in zip(test_x.split(1000), test_y.split(1000)))
            errors.append(100 * wrong / len(test_y))
    return errors


def summary(runs):
    best, last = [min(e) for e in runs], [e[-1] for e in runs]
    return [f"{statistics.mean(v):6.2f} ± {statistics.stdev(v) if len(v) > 1 else 0:.2f}" for v in (best, last)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--ours", type=pathlib.Path, required=True, help="folder of the runs, sgd-seed0 and so on")
    parser.add_argument("--seeds", type=int, help="as many as there are of ours, otherwise")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = read_mnist(options.data)
    print(f"{'':10}{'seeds':10}{'best epoch, test error, %':>28}{'last epoch, test error, %':>28}")
    for method in ("sgd", "lpf-sgd"):
        folders = sorted(glob.glob(str(options.ours / f"{method}-seed*")))
        if not folders:
            parser.error(f"there are no runs {method}-seed* in {options.ours}: scripts/results-images makes them")
        ours = []
        for folder in folders:
            log = pathlib.Path(folder, "log.jsonl").read_text().splitlines()
            errors = [json.loads(line)["test_error"] for line in log]
            ours.append([e for e in errors if e is not None])
        s = json.loads(pathlib.Path(folders[0], "config.json").read_text())
        if (s["model"], s["schedule"], s["law"]) != ("small-lenet", "cosine", "filter-wise") or s["optimizer"] != method:
            parser.error(f"{folders[0]} has another recipe than this script knows")
        seeds = range(options.seeds or len(ours))
        theirs = [train(s, data, seed) for seed in seeds]
        for name, runs in (("LPF", ours), ("PyTorch", theirs)):
            best, last = summary(runs)
            print(f"{method:10}{f'{len(runs)} {name}':12}{best:>26}{last:>28}", flush=True)


if __name__ == "__main__":
    main()
