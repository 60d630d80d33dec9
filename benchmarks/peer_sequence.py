"""PyTorch's side of benchmarks/sequence.cpp, for peer.py: the translation Transformer, its training step, and greedy
decoding as a user would write it, with the whole prefix again for each token, and with a cache of keys and values.

Requests: "step DIM UNITS LAYERS METHOD THREADS STEPS", answered with the milliseconds of a step; METHOD is adam, or
lpf-adam, M = 8 passes in sequence with noise added to the weights and removed again. "decode DIM UNITS LAYERS CACHE
THREADS", answered with the milliseconds of translating a batch; CACHE is 0 or 1.
"""
import math
import warnings

import torch
import torch.nn as nn
import torch.nn.functional as F

HEADS, VOCABULARY, BATCH, LENGTH, M = 4, 4000, 64, 20, 8
PAD, BEGIN, END = 0, 2, 3
TOKENS = LENGTH + 10  # of a translation
warnings.filterwarnings("ignore", message=".*nested tensor")  # which the encoder's fast path is


def batch():
    """Tokens as in benchmarks/sequence.cpp: sequences of 16 to 20 tokens, padded; sources, inputs and labels."""
    row, column = torch.arange(BATCH)[:, None], torch.arange(LENGTH + 1)
    tokens = 4 + (row * 131 + column * 17 + row * column) % (VOCABULARY - 4)
    tokens[column > LENGTH - row % 5] = PAD
    source = tokens[:, :LENGTH].clone()
    source[column[:LENGTH] >= LENGTH - row % 5] = PAD
    return source, tokens[:, :-1], tokens[:, 1:].contiguous()


def waves(length, dim):
    angle = torch.arange(length)[:, None] / 10000**(torch.arange(0, dim, 2) / dim)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class Translation(nn.Module):

    def __init__(self, dim, units, layers):
        super().__init__()
        self.dim = dim
        self.embedding = nn.Embedding(VOCABULARY, dim)
        self.dropout = nn.Dropout(0.1)
        self.transformer = nn.Transformer(dim, HEADS, layers, layers, units, 0.1, batch_first=True)
        self.generator = nn.Linear(dim, VOCABULARY)
        self.register_buffer("positions", waves(64, dim))
        self.register_buffer("later", torch.ones(64, 64, dtype=torch.bool).triu(1))

    def embed(self, tokens, first=0):
        rows = self.embedding(tokens) * math.sqrt(self.dim)
        return self.dropout(rows + self.positions[first:first + tokens.shape[1]])

    def encode(self, source, padding):
        return self.transformer.encoder(self.embed(source), src_key_padding_mask=padding)

    def decode(self, target, memory, padding):
        length = target.shape[1]
        return self.transformer.decoder(self.embed(target), memory, tgt_mask=self.later[:length, :length],
                                        tgt_is_causal=True, memory_key_padding_mask=padding)

    def forward(self, source, target):
        padding = source == PAD
        return self.generator(self.decode(target, self.encode(source, padding), padding))


class Training:

    def __init__(self, dim, units, layers, method):
        torch.manual_seed(1)
        self.net, self.method = Translation(dim, units, layers), method
        self.params = list(self.net.parameters())
        self.adam = torch.optim.Adam(self.params, 1e-4, (0.9, 0.98), 1e-9)
        self.source, self.input, self.labels = batch()

    def loss(self, rows, reduction):
        logits = self.net(self.source[rows], self.input[rows])
        return F.cross_entropy(logits.flatten(0, 1), self.labels[rows].flatten(), ignore_index=PAD,
                               label_smoothing=0.1, reduction=reduction)

    def step(self):
        self.adam.zero_grad()
        if self.method == "adam":
            self.loss(slice(0, BATCH), "mean").backward()
        else:
            count = (self.labels != PAD).sum()
            for r in range(M):
                with torch.no_grad():
                    scales = [1e-3 * (p.flatten(1).norm(dim=1).view(-1, 1) if p.dim() > 1 else p.norm())
                              for p in self.params]
                    noise = [torch.randn_like(p).mul_(s) for p, s in zip(self.params, scales)]
                    for p, e in zip(self.params, noise):
                        p.add_(e)
                (self.loss(slice(r * BATCH // M, (r + 1) * BATCH // M), "sum") / count).backward()
                with torch.no_grad():
                    for p, e in zip(self.params, noise):
                        p.sub_(e)
        self.adam.step()


def greedy(net, source, padding):
    """The prefix again for each token."""
    memory, tokens = net.encode(source, padding), torch.full((len(source), 1), BEGIN)
    ended = torch.zeros(len(source), dtype=torch.bool)
    for _ in range(TOKENS):
        features = net.decode(tokens, memory, padding)
        best = net.generator(features[:, -1]).argmax(-1)
        tokens = torch.cat([tokens, best[:, None]], 1)
        ended |= best == END
        if ended.all():
            break
    return tokens


def greedy_with_cache(net, source, padding):
    """Keys and values of the prefix and of the source are kept; nn.TransformerDecoder has no such cache."""
    dim, layers, attend = net.dim, net.transformer.decoder.layers, F.scaled_dot_product_attention
    memory, seen = net.encode(source, padding), ~padding[:, None, None]

    def project(x, attention, first, count):
        rows = slice(first * dim, (first + count) * dim)
        parts = F.linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows]).chunk(count, -1)
        return [part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts]

    def merge(heads, attention):
        return attention.out_proj(heads.transpose(1, 2).flatten(2))

    of_source = [project(memory, layer.multihead_attn, 1, 2) for layer in layers]
    cache = [None] * len(layers)
    tokens = torch.full((len(source), 1), BEGIN)
    ended = torch.zeros(len(source), dtype=torch.bool)
    for t in range(TOKENS):
        x = net.embed(tokens[:, -1:], t)
        for i, layer in enumerate(layers):
            q, k, v = project(x, layer.self_attn, 0, 3)
            if cache[i]:
                k, v = torch.cat([cache[i][0], k], 2), torch.cat([cache[i][1], v], 2)
            cache[i] = k, v
            x = layer.norm1(x + merge(attend(q, k, v), layer.self_attn))
            q, = project(x, layer.multihead_attn, 0, 1)
            x = layer.norm2(x + merge(attend(q, *of_source[i], attn_mask=seen), layer.multihead_attn))
            x = layer.norm3(x + layer.linear2(F.relu(layer.linear1(x))))
        best = net.generator(net.transformer.decoder.norm(x[:, 0])).argmax(-1)
        tokens = torch.cat([tokens, best[:, None]], 1)
        ended |= best == END
        if ended.all():
            break
    return tokens


class Decoding:

    def __init__(self, dim, units, layers):
        torch.manual_seed(1)
        self.net = Translation(dim, units, layers).eval()
        with torch.no_grad():
            self.net.generator.bias[END] = -1e9  # all translations have the same length
        self.source, _, _ = batch()
        same = (self.run(False) == self.run(True)).float().mean().item()
        assert same > 0.95, f"only {100 * same} % of the tokens are the same with and without a cache"

    @torch.inference_mode()
    def run(self, cache):
        return (greedy_with_cache if cache else greedy)(self.net, self.source, self.source == PAD)


known = {}


def milliseconds(words, now):
    """The answer to a request, by a clock."""
    what, sizes = words[0], tuple(int(word) for word in words[1:4])
    key = (what, *sizes, words[4] if what == "step" else "")
    torch.set_num_threads(int(words[5]))
    if key not in known:
        known[key] = Training(*sizes, words[4]) if what == "step" else Decoding(*sizes)
        if what == "step":
            known[key].step()
    steps = int(words[6]) if what == "step" else 1
    start = now()
    for _ in range(steps):
        known[key].step() if what == "step" else known[key].run(words[4] == "1")
    return (now() - start) * 1e3 / steps
