#!/usr/bin/env python3
"""PyTorch's side of weights_test.cpp: attention, the Transformer's layers, and a translation network.

    python sequence_weights.py write DIR    writes CASE.TYPE.safetensors, the state dict of a module with random weights,
                                            and CASE.TYPE.example.safetensors, inputs and the module's output y
    python sequence_weights.py read DIR     loads CASE.TYPE.ours.safetensors, which LPF has written, into a new module,
                                            strictly, and compares its output with y of CASE.TYPE.ours_y.safetensors

Needs torch and safetensors; without them the exit code is 77.
"""
import math
import pathlib
import sys

try:
    import torch
    from safetensors.torch import load_file, load_model, save_file, save_model
    from torch import nn
except ImportError as error:
    print(error)
    sys.exit(77)

DIM, HEADS, UNITS, VOCABULARY = 8, 2, 12, 11
torch.backends.mha.set_fastpath_enabled(False)  # with which padded queries have the output 0


def waves(length, dim):
    """sin and cos of position / 10000^(2i/dim), side by side."""
    position, feature = torch.arange(length, dtype=torch.float64), torch.arange(0, dim, 2, dtype=torch.float64)
    angle = position[:, None] / 10000**(feature / dim)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


class Translation(nn.Module):

    def __init__(self, tied=False):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, DIM)
        self.transformer = nn.Transformer(DIM, HEADS, 2, 2, UNITS, batch_first=True)
        self.generator = nn.Linear(DIM, VOCABULARY)
        if tied:
            self.generator.weight = self.embedding.weight

    def embed(self, tokens):
        rows = self.embedding(tokens) * math.sqrt(DIM)
        return rows + waves(tokens.shape[1], DIM).to(rows.dtype)

    def forward(self, source, target, padding):
        return self.generator(
            self.transformer(self.embed(source), self.embed(target), tgt_mask=later(target.shape[1]),
                             src_key_padding_mask=padding, memory_key_padding_mask=padding))


def later(length):
    """What a position may not see in a causal sequence."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


PRE = dict(norm_first=True, activation="gelu", bias=False)
LAYER = dict(d_model=DIM, nhead=HEADS, dim_feedforward=UNITS, batch_first=True)


def self_attention(net, e):
    return net(e["x"], e["x"], e["x"], key_padding_mask=e["padding"], attn_mask=e["hidden"])[0]


def cross_attention(net, e):
    return net(e["x"], e["memory"], e["memory_2"], key_padding_mask=e["memory_padding"])[0]


def encode(net, e):
    return net(e["x"], src_key_padding_mask=e["padding"])


def decode(net, e):
    return net(e["x"], e["memory"], tgt_mask=later(e["x"].shape[1]), memory_key_padding_mask=e["memory_padding"])


def both(net, e):
    return net(e["memory"], e["x"], tgt_mask=later(e["x"].shape[1]), src_key_padding_mask=e["memory_padding"],
               memory_key_padding_mask=e["memory_padding"])


def translate(net, e):
    return net(e["source"], e["target"], e["source_padding"])


CASES = {
    "self_attention": (lambda: nn.MultiheadAttention(DIM, HEADS, batch_first=True), self_attention),
    "cross_attention": (lambda: nn.MultiheadAttention(DIM, HEADS, bias=False, batch_first=True), cross_attention),
    "encoder_layer": (lambda: nn.TransformerEncoderLayer(**LAYER), encode),
    "encoder_layer_pre": (lambda: nn.TransformerEncoderLayer(**LAYER, **PRE), encode),
    "decoder_layer": (lambda: nn.TransformerDecoderLayer(**LAYER), decode),
    "decoder_layer_pre": (lambda: nn.TransformerDecoderLayer(**LAYER, **PRE), decode),
    "transformer": (lambda: nn.Transformer(DIM, HEADS, 2, 3, UNITS, batch_first=True), both),
    "translation": (Translation, translate),
    "translation_tied": (lambda: Translation(tied=True), translate),
}
TYPES = {"float32": (torch.float32, 1e-5), "float64": (torch.float64, 1e-12)}


def example_of(dtype):
    source = torch.randint(1, VOCABULARY, (3, 6))
    source[0, 4:], source[2, 2:] = 0, 0
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]])
    return {
        "x": torch.randn(3, 5, DIM, dtype=dtype), "padding": padding, "hidden": later(5),
        "memory": torch.randn(3, 4, DIM, dtype=dtype), "memory_2": torch.randn(3, 4, DIM, dtype=dtype),
        "memory_padding": padding[:, 1:].contiguous(),
        "source": source, "source_padding": source == 0, "target": torch.randint(1, VOCABULARY, (3, 4))
    }


def output(name, net, example):
    net.eval()
    with torch.no_grad():
        return CASES[name][1](net, example)


def write(folder):
    torch.manual_seed(1)
    for name, (make, _) in CASES.items():
        for kind, (dtype, _) in TYPES.items():
            net, example = make().to(dtype), example_of(dtype)
            for p in net.parameters():  # biases are 0 otherwise, and norms 1
                nn.init.normal_(p, 0, 0.5)
            # A tensor under two names is stored once, under the first of them by the alphabet.
            save_model(net, folder / f"{name}.{kind}.safetensors")
            save_file(example | {"y": output(name, net, example).contiguous()}, folder / f"{name}.{kind}.example.safetensors")


def read(folder):
    for name, (make, _) in CASES.items():
        for kind, (dtype, most) in TYPES.items():
            net, path = make().to(dtype), folder / f"{name}.{kind}.ours.safetensors"
            load_model(net, path, strict=True)
            stored = load_file(path)
            for key, value in net.state_dict().items():
                if key in stored:
                    assert torch.equal(value, stored[key]) and value.dtype == stored[key].dtype, (name, key)
            y = output(name, net, load_file(folder / f"{name}.{kind}.example.safetensors"))
            ours = load_file(folder / f"{name}.{kind}.ours_y.safetensors")["y"]
            error = ((y - ours).abs() / y.abs().clamp(min=1)).max().item()
            print(f"{name} {kind}: {len(stored)} tensors, largest difference {error:.1e}")
            assert y.shape == ours.shape and error < most, (name, kind, error)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](pathlib.Path(sys.argv[2]))
