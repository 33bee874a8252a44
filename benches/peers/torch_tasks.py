"""Losses with gradients of `cotangent bench` in PyTorch on the CPU, with the same output: one JSON line per task, eager and compiled.

    pip install torch
    python benches/peers/torch_tasks.py [FILTER]

Each task runs once outside the timed region (where it is compiled, if it is), then at least five times and for about two seconds. Inputs are uniform random
numbers. `torch.compile` needs a C++ compiler.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


def measure(name, run, size):
    run()
    seconds, start = [], time.perf_counter()
    while len(seconds) < 5 or (time.perf_counter() - start < 2 and len(seconds) < 200):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    print(json.dumps({
        "task": name, "device": f"torch {torch.__version__} cpu", "median_seconds": median, "min_seconds": seconds[0],
        "gigabytes_per_second": 1e-9 * size / median,
    }), flush=True)


def uniform(low, high, *shape):
    return torch.empty(*shape).uniform_(low, high)


def elementwise(loss, low=-2.0, high=2.0, target=lambda n: uniform(0, 1, n)):
    """The mean of a loss of 2²⁴ elements and its gradient."""
    n = 1 << 24
    return lambda x, y: loss(x, y).mean(), uniform(low, high, n), target(n), 12.0 * n


def family(log_partition, low=-2.0, high=2.0):
    return lambda: elementwise(lambda eta, y: log_partition(eta) - y * eta, low, high)


def sigmoid_l1(p, t):
    size = (p - t).abs()
    return size * size.sigmoid()


def probit():
    phi = torch.special.log_ndtr
    return elementwise(lambda z, y: -y * phi(z) - (1 - y) * phi(-z), target=lambda n: uniform(0, 1, n).round())


def softmax_cross_entropy():
    return F.cross_entropy, uniform(-2, 2, 4096, 8192), torch.randint(8192, (4096,)), 8.0 * 4096 * 8192


def glm():
    rows, columns = 1 << 20, 128
    x, y = uniform(-2, 2, rows, columns), uniform(0, 1, rows)
    loss = lambda w, y: F.binary_cross_entropy_with_logits(x @ w, y)
    return loss, uniform(-2, 2, columns) / columns, y, 4.0 * rows * columns


TASKS = {
    "sigmoid_l1_2p24": lambda: elementwise(sigmoid_l1, target=lambda n: uniform(-2, 2, n)),
    "softmax_ce_4096x8192": softmax_cross_entropy,
    "glm_gradient_1Mx128": glm,
    "family_gaussian": family(lambda eta: eta**2 / 2),
    "family_bernoulli": family(F.softplus),
    "family_poisson": family(torch.exp),
    "family_gamma": family(lambda eta: -torch.log(-eta), -3.0, -0.01),
    "family_negative_binomial": family(lambda eta: -2 * torch.log(-torch.expm1(eta)), -3.0, -0.01),
    "family_bernoulli_probit": probit,
}

for name, make in TASKS.items():
    if len(sys.argv) < 2 or sys.argv[1] in name:
        loss, x, target, size = make()
        x.requires_grad_()
        for form, function in (("", loss), (" compiled", torch.compile(loss))):
            measure(name + form, lambda: torch.autograd.grad(function(x, target), x), size)
