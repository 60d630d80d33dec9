#!/usr/bin/env python3
"""Trains a translation network with `translate` and with PyTorch, by one recipe, and prints both runs' losses and BLEU.

    python tests/parity/translation.py --translate build/release/bin/translate --data MULTI30K [FLAG of translate ...]

Both begin with the same weights, drawn here and handed over in a file, and see the same pieces in the same batches: the
loader's order is a function of seed and epoch, which is computed again below. Without dropout and noise (the short run,
the default) the curves must then agree to what rounding makes of them, and the exit code is 1 if they do not: by
--loss-limit and --bleu-limit, in every epoch. With --full it is translate's own recipe for Multi30k, with dropout, and
--optimizer lpf-adam is M passes in sequence: there the random numbers are PyTorch's, so only the spread can agree.

Network, loss, schedule, optimizer and noise are implemented here from the papers; settings are read from config.json of
the run. A stopped comparison goes on where translate was. Needs torch, safetensors, sentencepiece and sacrebleu.
"""
import argparse
import gzip
import json
import math
import pathlib
import shutil
import subprocess
import sys
import time

import sacrebleu
import torch
import torch.nn.functional as F
from safetensors.torch import load_model, save_model
from sentencepiece import SentencePieceProcessor
from torch import nn

PAD, BEGIN, END = 0, 2, 3
SHORT = {
    "--train-pairs": 6000, "--vocabulary": 2000, "--dim": 64, "--heads": 4, "--feedforward": 128, "--encoder-layers": 2,
    "--decoder-layers": 2, "--dropout": 0, "--epochs": 4, "--lr": 0.002, "--optimizer": "adam"
}
FULL = {"--optimizer": "adam"}


def words(seed, parameter, draw, block):
    """Philox4x32-10 (Salmon et al. 2011) of the counter of a shuffle, whose number among the purposes is 3."""
    mask = 0xFFFFFFFF
    c, k = [block, parameter, draw, 3 << 24], [seed & mask, seed >> 32]
    for _ in range(10):
        a, b = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [b >> 32 ^ c[1] ^ k[0], b & mask, a >> 32 ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def permutation(n, seed, draw, parameter):
    """Fisher and Yates' shuffle of 0 ... n - 1; step i takes 64 bits of the stream for a number up to i."""
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        w = words(seed, parameter, draw, i // 2)
        low, high = w[i % 2 * 2:i % 2 * 2 + 2]
        j = (high * (i + 1) + (low * (i + 1) >> 32)) >> 32
        order[i], order[j] = order[j], order[i]
    return order


def read_pairs(folder, begin, s):
    """The sentences of the files that begin so."""
    out = []
    for language in (s["from"], s["to"]):
        names = sorted(p for end in ("", ".gz") for p in folder.glob(f"{begin}*.{language}{end}"))
        raw = names[0].read_bytes()
        lines = (gzip.decompress(raw) if names[0].suffix == ".gz" else raw).decode().removesuffix("\n").split("\n")
        out.append([(line.lower() if s["lower-case"] else line).strip() for line in lines])
    return out


class Pairs:
    """Pairs of sentences in pieces, in the batches of an epoch."""

    def __init__(self, sources, targets, least=1):
        self.sources, self.targets, self.least = sources, targets, least

    def batches(self, size, seed, epoch):
        n = len(self.sources)
        lengths = [sorted((len(a) + 1, len(b) + 2), reverse=True) for a, b in zip(self.sources, self.targets)]
        order = sorted(permutation(n, seed, epoch, 0), key=lambda i: lengths[i])
        parts = max(1, min(-(-n // size), n // self.least))
        begins = [n // parts * i + min(i, n % parts) for i in range(parts + 1)]
        for i in permutation(parts, seed, epoch, 1):
            yield self.batch(order[begins[i]:begins[i + 1]])

    def batch(self, rows):
        source = padded([self.sources[i] + [END] for i in rows])
        target = padded([[BEGIN] + self.targets[i] + [END] for i in rows])
        return source, target[:, :-1], target[:, 1:].contiguous()


def padded(rows):
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)


class Translation(nn.Module):

    def __init__(self, s, vocabulary):
        super().__init__()
        dim = s["dim"]
        self.embedding = nn.Embedding(vocabulary, dim)
        self.dropout = nn.Dropout(s["dropout"])
        self.transformer = nn.Transformer(dim, s["heads"], s["encoder-layers"], s["decoder-layers"], s["feedforward"],
                                          s["dropout"], batch_first=True, norm_first=s["norm-first"])
        self.transformer.encoder.enable_nested_tensor = False  # which warns that it is a prototype
        self.generator = nn.Linear(dim, vocabulary)
        if s["tied"]:
            self.generator.weight = self.embedding.weight
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        angle = torch.arange(1024)[:, None] / 10000**(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        waves = torch.stack([angle.sin(), angle.cos()], -1).flatten(1).float()
        self.register_buffer("positions", waves, persistent=False)

    def embed(self, tokens):
        return self.dropout(self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim) +
                            self.positions[:tokens.shape[1]])

    def encode(self, source):
        return self.transformer.encoder(self.embed(source), src_key_padding_mask=source == PAD)

    def decode(self, target, memory, source):
        later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        return self.transformer.decoder(self.embed(target), memory, tgt_mask=later, tgt_is_causal=True,
                                        memory_key_padding_mask=source == PAD)

    def forward(self, source, target):
        return self.generator(self.decode(target, self.encode(source), source))


def cross_entropy(logits, labels, **options):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD, **options)


@torch.no_grad()
def evaluate(net, pairs, references, pieces):
    """A label's mean cross-entropy, and BLEU of greedy translations of at most as many pieces as the source and ten."""
    net.eval()
    order = sorted(range(len(pairs.sources)), key=lambda i: len(pairs.sources[i]))
    total, count, found = 0.0, 0, [""] * len(order)
    for first in range(0, len(order), 64):
        rows = order[first:first + 64]
        source, target, labels = pairs.batch(rows)
        total += cross_entropy(net(source, target), labels, reduction="sum").item()
        count += (labels != PAD).sum().item()
        memory, tokens = net.encode(source), torch.full((len(rows), 1), BEGIN)
        limits = (source != PAD).sum(1) + 10
        for _ in range(int(limits.max())):
            best = net.generator(net.decode(tokens, memory, source)[:, -1]).argmax(-1)
            tokens = torch.cat([tokens, best[:, None]], 1)
            if (tokens == END).any(1).all():
                break
        for i, row, limit in zip(rows, tokens[:, 1:].tolist(), limits.tolist()):
            row = row[:limit]
            found[i] = pieces.decode(row[:row.index(END)] if END in row else row) if pairs.sources[i] else ""
    net.train()
    return total / count, sacrebleu.corpus_bleu(found, [references]).score


def perturbed_backward(net, batch, s, radius):
    """Adds the gradients of M passes over consecutive slices, each with fresh noise of deviation radius * |filter|."""
    source, target, labels = batch
    count, parameters = (labels != PAD).sum(), list(net.parameters())
    for rows in torch.arange(len(source)).tensor_split(s["M"]):
        with torch.no_grad():
            before = [p.clone() for p in parameters]
            for p in parameters:
                norm = p.norm() + 1e-16 if p.dim() == 1 else p.flatten(1).norm(dim=1).view(-1, 1)
                p += radius * norm * torch.randn_like(p)
        logits = net(source[rows], target[rows])
        loss = cross_entropy(logits, labels[rows], label_smoothing=s["label-smoothing"], reduction="sum") / count
        loss.backward()
        with torch.no_grad():
            for p, b in zip(parameters, before):
                p.copy_(b)
        yield loss.item()


def train(net, s, pairs, validation, references, pieces):
    """Yields (training loss, validation loss, BLEU) of each epoch."""
    steps = max(1, len(list(pairs.batches(s["batch"], s["seed"], 0))))
    total = s["epochs"] * steps
    warm_up = s["warm-up"] or max(1, total // 10)
    peak = s["lr"] or 1 / math.sqrt(s["dim"] * warm_up)
    adam = torch.optim.Adam(net.parameters(), peak, (0.9, s["beta2"]), s["epsilon"], s["weight-decay"])
    updates = 0
    for epoch in range(s["epochs"]):
        loss_sum = labels_seen = 0
        for batch in pairs.batches(s["batch"], s["seed"], epoch):
            n = updates + 1
            adam.param_groups[0]["lr"] = peak * (n / warm_up if n < warm_up else math.sqrt(warm_up / n))
            adam.zero_grad()
            if s["optimizer"] == "lpf-adam":
                rise = (1 - math.cos(math.pi * updates / total)) / 2
                loss = sum(perturbed_backward(net, batch, s, s["gamma"] * (1 + (s["alpha"] - 1) * rise)))
            else:
                value = cross_entropy(net(*batch[:2]), batch[2], label_smoothing=s["label-smoothing"])
                value.backward()
                loss = value.item()
            adam.step()
            updates += 1
            count = (batch[2] != PAD).sum().item()
            loss_sum, labels_seen = loss_sum + loss * count, labels_seen + count
        yield loss_sum / labels_seen, *evaluate(net, validation, references, pieces)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--translate", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of Multi30k, as translate's")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out/translation-parity"))
    parser.add_argument("--full", action="store_true", help="translate's network and recipe for Multi30k: hours")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--loss-limit", type=float, default=0.02, help="of the difference of validation losses")
    parser.add_argument("--bleu-limit", type=float, default=1.0, help="of the difference of BLEU")
    options, others = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    first, run, weights = options.out / "first", options.out / "lpf", options.out / "initial.safetensors"
    flags = {"--data": options.data, "--threads": options.threads} | (FULL if options.full else SHORT)
    flags = [word for name, value in flags.items() if name not in others for word in (name, value)] + others

    def translate(*more):
        if subprocess.run([options.translate.resolve(), *map(str, flags), *map(str, more)]).returncode:
            sys.exit("translation.py: translate has failed or was stopped")

    begins = not weights.exists()
    if begins:  # one update, for the settings and the pieces
        shutil.rmtree(first, ignore_errors=True)
        translate("--out", first, "--minutes", 1e-9)
    s = json.loads((first / "config.json").read_text())
    if s["optimizer"] not in ("adam", "lpf-adam") or s["law"] != "filter-wise" or s["batch-tokens"] or s["max-steps"] \
            or s["clip-norm"] or s["evaluate-every"] != 1:
        parser.error("this script knows adam and lpf-adam, filter-wise noise and batches of sentences")
    pieces = SentencePieceProcessor(model_file=str(first / "pieces.model"))
    torch.manual_seed(s["seed"])
    net = Translation(s, pieces.get_piece_size())
    save_model(net, weights) if begins else load_model(net, weights)
    begin = time.monotonic()
    translate("--pieces", first / "pieces.model", "--weights", weights, "--out", run,
              *(["--resume"] if (run / "config.json").exists() else []))
    ours = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]

    sources, targets = ([pieces.encode(line) for line in lines] for lines in read_pairs(options.data, "train", s))
    both = list(zip(sources, targets))[:s["train-pairs"] or None]
    kept = [pair for pair in both if all(2 <= len(side) <= s["longest"] for side in pair)]
    pairs = Pairs(*map(list, zip(*kept)), least=s["M"] if s["optimizer"] == "lpf-adam" else 1)
    sources, references = read_pairs(options.data, "val", s)
    validation = Pairs([pieces.encode(x) for x in sources], [pieces.encode(y) for y in references])
    print(f"\ntranslate: {time.monotonic() - begin:.0f} s; now PyTorch {torch.__version__}, {len(kept)} pairs")
    print(f"{'epoch':7}{'training loss':^24}{'validation loss':^24}{'validation BLEU':^20}\n"
          f"{'':7}{'LPF':>12}{'PyTorch':>12}{'LPF':>12}{'PyTorch':>12}{'LPF':>10}{'PyTorch':>10}")
    begin, agrees = time.monotonic(), True
    for row, (loss, validation_loss, bleu) in zip(ours, train(net, s, pairs, validation, references, pieces)):
        print(f"{row['epoch']:<7}{row['train_loss']:12.4f}{loss:12.4f}{row['validation_loss']:12.4f}"
              f"{validation_loss:12.4f}{row['validation_bleu']:10.2f}{bleu:10.2f}", flush=True)
        agrees &= abs(row["validation_loss"] - validation_loss) <= options.loss_limit
        agrees &= abs(row["validation_bleu"] - bleu) <= options.bleu_limit
    print(f"PyTorch: {time.monotonic() - begin:.0f} s; the runs {'agree' if agrees else 'differ'} by the limits "
          f"{options.loss_limit:g} of the loss and {options.bleu_limit:g} of BLEU")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
