"""Losses and special functions in f32 where textbook formulas lose their digits: relative errors of peers, as rows of a table.

    pip install jax torch scipy statsmodels
    python benches/peers/accuracy.py

The cases and their exact values (mpmath, 40 digits) stand in `accuracy.csv`, which `cargo run --example accuracy` reads too. A column holds what a
library offers under its own name; where it offers nothing, a dash. The last column is the formula of a textbook in NumPy.
"""
import csv
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy
import scipy.special as sp
import statsmodels
import statsmodels.api as sm
import torch
import torch.nn.functional as F

jax.config.update("jax_platforms", "cpu")

f = np.float32
confident, tail, far = jnp.array([20, 0, 0], f), f(-40), f(-10_000)
small = f(-65 * 2.0**-26)


def jax_cross_entropy(logits):
    return -jax.nn.log_softmax(logits)[0]


def jax_bce(eta):
    return -jax.nn.log_sigmoid(eta)


log_ndtr = jax.scipy.special.log_ndtr
slope, curvature = jax.grad(log_ndtr), jax.grad(jax.grad(log_ndtr))


def torch_slopes(function, at, order):
    """The derivative of this order by autograd; of a vector, its first entry."""
    x = torch.tensor(np.asarray(at), requires_grad=True)
    value = function(x)
    for _ in range(order):
        (value,) = torch.autograd.grad(value, x, create_graph=True)
    return (value if value.ndim == 0 else value[0]).detach().numpy()[()]


def torch_cross_entropy(logits):
    return F.cross_entropy(logits[None], torch.tensor([0]))


def torch_bce(eta):
    return F.binary_cross_entropy_with_logits(eta, torch.ones_like(eta))


def torch_number(x):
    return torch.tensor(np.asarray(x))


def softmax(logits):
    e = np.exp(np.array(logits, f))
    return e / e.sum()


def sigmoid(eta):
    return f(1) / (f(1) + np.exp(-f(eta)))


def phi(x):
    return np.exp(-f(x) * f(x) / f(2)) / np.sqrt(f(2 * np.pi))


def ndtr(x):
    return f(0.5) * (f(1) + sp.erf(f(x) / np.sqrt(f(2))))


def binomial(eta):
    """What a binomial model of statsmodels makes of a logit and the target 1."""
    mean = sm.families.links.Logit().inverse(np.array([eta], f))
    return f(-sm.families.Binomial().loglike_obs(np.array([1], f), mean)[0])


# By the position of the case.
STATSMODELS = {
    2: binomial(17),
    4: binomial(-17),
    5: sm.families.links.CLogLog().inverse(np.array([-40], f))[0],
}

of_torch = torch.special.log_ndtr
# One entry per case, like the rows below.
TORCH = [
    torch_slopes(torch_cross_entropy, confident, 0),
    torch_slopes(torch_cross_entropy, confident, 1),
    torch_slopes(torch_bce, f(17), 0),
    torch_slopes(torch_bce, f(17), 1),
    torch_slopes(torch_bce, f(-17), 0),
    -torch.expm1(-torch.exp(torch_number(tail))).numpy(),
    torch_slopes(of_torch, f(-10), 0),
    torch_slopes(of_torch, tail, 0),
    torch_slopes(of_torch, tail, 1),
    torch_slopes(of_torch, tail, 2),
    torch_slopes(of_torch, far, 1),
    torch_slopes(of_torch, far, 2),
    -2 * torch.log(-torch.expm1(torch_number(small))).numpy(),
    torch_slopes(torch.special.i0e, f(1000), 1),
]

# JAX, SciPy, textbook: one row per case, in the order of the file.
ROWS = [
    (jax_cross_entropy(confident), -sp.log_softmax(np.array(confident))[0], -np.log(softmax(confident)[0])),
    (jax.grad(jax_cross_entropy)(confident)[0], None, softmax(confident)[0] - f(1)),
    (jax_bce(f(17)), -sp.log_expit(f(17)), -np.log(sigmoid(17))),
    (jax.grad(jax_bce)(f(17)), None, sigmoid(17) - f(1)),
    (jax_bce(f(-17)), -sp.log_expit(f(-17)), -np.log(sigmoid(-17))),
    (-jnp.expm1(-jnp.exp(tail)), -sp.expm1(-np.exp(tail)), f(1) - np.exp(-np.exp(tail))),
    (log_ndtr(f(-10)), sp.log_ndtr(f(-10)), np.log(ndtr(-10))),
    (log_ndtr(tail), sp.log_ndtr(tail), np.log(ndtr(tail))),
    (slope(tail), None, phi(tail) / ndtr(tail)),
    (curvature(tail), None, None),
    (slope(far), None, phi(far) / ndtr(far)),
    (curvature(far), None, None),
    (-2 * jnp.log(-jnp.expm1(small)), -2 * np.log(-sp.expm1(small)), -2 * np.log(f(1) - np.exp(small))),
    (jax.grad(jax.scipy.special.i0e)(f(1000)), None, sp.i1e(f(1000)) - sp.i0e(f(1000))),
]


def cell(value, exact):
    if value is None:
        return "–"
    assert np.asarray(value).dtype == f, value
    value = float(value)
    return f"{abs(value / exact - 1):.1e}" if np.isfinite(value) and value != 0 else f"{value:g}"


np.seterr(all="ignore")
with open(pathlib.Path(__file__).with_name("accuracy.csv"), newline="", encoding="utf-8") as file:
    cases = list(csv.DictReader(file))
assert len(cases) == len(ROWS) == len(TORCH)
versions = f"JAX {jax.__version__} | PyTorch {torch.__version__.split('+')[0]} | SciPy {scipy.__version__} | statsmodels {statsmodels.__version__}"
print(f"| case | {versions} | textbook |\n|---|---|---|---|---|---|")
for position, (case, (of_jax, of_scipy, textbook)) in enumerate(zip(cases, ROWS)):
    exact, row = float(case["exact"]), (of_jax, TORCH[position], of_scipy, STATSMODELS.get(position), textbook)
    print("| " + " | ".join([case["case"], *(cell(value, exact) for value in row)]) + " |")
