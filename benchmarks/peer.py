"""PyTorch's side of benchmarks/step.cpp: the same networks, methods and batch.

Reads requests "net method M estimator threads untimed steps" and answers each with the milliseconds of one step (the
mean over `steps`, after `untimed` others), or -1 if PyTorch does not support it. For benchmarks/population.cpp: "population method M
threads members steps", answered with the milliseconds of training `members` networks one after another. For
benchmarks/measure.cpp: "measure draws threads samples", answered with the milliseconds of `draws` evaluations at
perturbed weights. For benchmarks/sequence.cpp: "sequence" and a request of peer_sequence.py. LPF-SGD "published" is M
forward and backward passes in sequence, with noise added to the weights and removed again; "vmap" is torch.func.vmap
over M copies.
"""
import argparse
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import peer_sequence


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self, width):
        super().__init__()
        blocks, channels = [], width
        for stage in range(4):
            for block in range(2):
                outputs = width * 2**stage
                blocks.append(Block(channels, outputs, 2 if stage > 0 and block == 0 else 1))
                channels = outputs
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, 10)

    def forward(self, x):
        return self.linear(self.blocks(self.stem(x)).mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        a = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(a))))
        return y + (x if self.shortcut is None else self.shortcut(a))


class WideResNet(nn.Module):
    def __init__(self, depth, widen):
        super().__init__()
        blocks, channels = [], 16
        for stage in range(3):
            for block in range((depth - 4) // 6):
                outputs = 16 * widen * 2**stage
                blocks.append(WideBlock(channels, outputs, 2 if stage > 0 and block == 0 else 1))
                channels = outputs
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.linear = nn.Linear(channels, 10)

    def forward(self, x):
        return self.linear(F.relu(self.bn(self.blocks(self.stem(x)))).mean((2, 3)))


def mlp(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet():
    return nn.Sequential(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))


NETS = {
    "mlp-64": ((64,), lambda: mlp(64, 128, 10)),
    "mlp-64-128": ((64,), lambda: mlp(64, 128, 128, 10)),
    "mlp-784": ((784,), lambda: mlp(784, 512, 512, 10)),
    "lenet": ((1, 28, 28), lenet),
    "resnet18-8": ((3, 32, 32), lambda: ResNet18(8)),
    "resnet18-32": ((3, 32, 32), lambda: ResNet18(32)),
    "resnet18-64": ((3, 32, 32), lambda: ResNet18(64)),
    "wrn-16-8": ((3, 32, 32), lambda: WideResNet(16, 8)),
}


class Training:
    def __init__(self, net, method, m, estimator, batch, device="cpu", precision="float32"):
        torch.manual_seed(1)
        self.autocast = lambda: torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
        shape, make = NETS[net]
        self.net, self.method, self.m, self.estimator = make().to(device), method, m, estimator
        self.x, self.y = torch.randn(batch, *shape).to(device), (torch.arange(batch) * 7 % 10).to(device)
        if len(shape) == 3:  # the faster layout of the two for these networks, and ours
            self.net, self.x = self.net.to(memory_format=torch.channels_last), self.x.to(memory_format=torch.channels_last)
        self.params = list(self.net.parameters())
        self.optimizer = torch.optim.SGD(self.params, lr=0.01, momentum=0.9)
        if method not in ("sgd", "sam", "lpf-sgd"):
            raise NotImplementedError
        if estimator == "vmap" and any(isinstance(c, nn.BatchNorm2d) for c in self.net.modules()):
            raise NotImplementedError
        if estimator == "vmap" and batch % m:
            raise NotImplementedError

    def scales(self):
        return [p.flatten(1).norm(dim=1).view(-1, *[1] * (p.dim() - 1)) * 1e-3 if p.dim() > 1 else p.norm() * 1e-3
                for p in self.params]

    def loss(self, x, y):
        with self.autocast():
            return F.cross_entropy(self.net(x), y)

    def step(self):
        self.optimizer.zero_grad()
        if self.method == "sgd":
            self.loss(self.x, self.y).backward()
        elif self.method == "sam":
            self.loss(self.x, self.y).backward()
            with torch.no_grad():
                norm = torch.sqrt(sum((p.grad**2).sum() for p in self.params))
                moves = [p.grad * (0.05 / (norm + 1e-12)) for p in self.params]
                for p, e in zip(self.params, moves):
                    p.add_(e)
            self.optimizer.zero_grad()
            self.loss(self.x, self.y).backward()
            with torch.no_grad():
                for p, e in zip(self.params, moves):
                    p.sub_(e)
        elif self.estimator == "published":
            for x, y in zip(self.x.chunk(self.m), self.y.chunk(self.m)):
                with torch.no_grad():
                    noise = [torch.randn_like(p).mul_(s) for p, s in zip(self.params, self.scales())]
                    for p, e in zip(self.params, noise):
                        p.add_(e)
                (self.loss(x, y) / self.m).backward()
                with torch.no_grad():
                    for p, e in zip(self.params, noise):
                        p.sub_(e)
        else:
            names = [n for n, _ in self.net.named_parameters()]
            with torch.no_grad():
                replicas = {n: p + torch.randn(self.m, *p.shape, device=p.device) * s
                            for n, p, s in zip(names, self.params, self.scales())}

            def loss(weights, x, y):
                with self.autocast():
                    return F.cross_entropy(torch.func.functional_call(self.net, weights, (x,)), y)

            shape = (self.m, self.x.shape[0] // self.m)
            grads = torch.func.vmap(torch.func.grad(loss))(
                replicas, self.x.reshape(*shape, *self.x.shape[1:]), self.y.reshape(shape))
            for n, p in zip(names, self.params):
                p.grad = grads[n].mean(0)
        self.optimizer.step()


class Population:
    """Networks 64-128-128-10 that train one after another, each for `steps` steps."""

    def __init__(self, method, m, members, batch):
        self.trainings = [Training("mlp-64-128", method, m, "published", batch) for _ in range(members)]

    def run(self, steps):
        start = time.perf_counter()
        for training in self.trainings:
            for _ in range(steps):
                training.step()
        return (time.perf_counter() - start) * 1e3


def measure(draws, samples):
    """The LPF measure, written directly: for each draw add noise to the weights, take the loss, remove the noise."""
    net = mlp(64, 128, 128, 10)
    x, y = torch.randn(samples, 64), torch.arange(samples) % 10
    parameters = list(net.parameters())
    start = time.perf_counter()
    with torch.no_grad():
        scales = [p.flatten(1).norm(dim=1).view(-1, 1) if p.dim() > 1 else p.norm() for p in parameters]
        total = 0.0
        for _ in range(draws):
            noise = [0.01 * s * torch.randn_like(p) for s, p in zip(scales, parameters)]
            for p, e in zip(parameters, noise):
                p.add_(e)
            total += F.cross_entropy(net(x), y).item()
            for p, e in zip(parameters, noise):
                p.sub_(e)
    return (time.perf_counter() - start) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), default="float32")
    parser.add_argument("--tune", action="store_true", help="cuDNN's fastest algorithms, deterministic or not")
    parser.add_argument("--processor-time", action="store_true", help="of all threads, instead of the time that passes")
    parser.add_argument("--memory-of", help="print the peak memory (MB) of a process that does only this")
    options = parser.parse_args()
    if options.device == "cuda":  # as lpf::cuda: float32 is float32, and the same bits in every run
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = options.tune, not options.tune
    if options.memory_of:
        net, method, m, estimator = options.memory_of.split()
        training = Training(net, method, int(m), estimator, options.batch, options.device, options.precision)
        for _ in range(3):
            training.step()
        peak = torch.cuda.max_memory_allocated() / 1e6 if options.device == "cuda" else 0
        print(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    synchronize = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    print(torch.__version__, flush=True)
    trainings, populations = {}, {}
    now = time.process_time if options.processor_time else time.perf_counter
    for line in sys.stdin:
        if line.startswith("sequence"):
            print(peer_sequence.milliseconds(line.split()[1:], now), flush=True)
            continue
        if line.startswith("population"):
            method, m, threads, members, steps = line.split()[1:]
            torch.set_num_threads(int(threads))
            key = (method, m, members)
            if key not in populations:
                populations[key] = Population(method, int(m), int(members), options.batch)
            print(populations[key].run(int(steps)), flush=True)
            continue
        if line.startswith("measure"):
            draws, threads, samples = (int(word) for word in line.split()[1:])
            torch.set_num_threads(threads)
            print(measure(draws, samples), flush=True)
            continue
        net, method, m, estimator, threads, untimed, steps = line.split()
        torch.set_num_threads(int(threads))
        key = (net, method, m, estimator)
        if key not in trainings:
            if any(k[0] != net for k in trainings):
                trainings.clear()
            try:
                trainings[key] = Training(net, method, int(m), estimator, options.batch, options.device, options.precision)
                trainings[key].step()
            except NotImplementedError:
                print(-1, flush=True)
                continue
        for _ in range(int(untimed)):
            trainings[key].step()
        synchronize()
        start = now()
        for _ in range(int(steps)):
            trainings[key].step()
        synchronize()
        print((now() - start) * 1e3 / int(steps), flush=True)


if __name__ == "__main__":
    main()
