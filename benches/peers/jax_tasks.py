"""The tasks of `cotangent bench` in JAX on the CPU, with the same output: one JSON line per task.

    pip install jax
    python benches/peers/jax_tasks.py [FILTER]

Each task is compiled first (outside the timed region), runs at least five times and for about two seconds; the result is waited for
inside the timed region. Inputs are uniform random numbers.
"""
import json
import sys
import time

import jax
import jax.numpy as jnp

jax.config.update("jax_platforms", "cpu")


def measure(name, run, flops=0.0, size=0.0):
    jax.block_until_ready(run())
    seconds, start = [], time.perf_counter()
    while len(seconds) < 5 or (time.perf_counter() - start < 2 and len(seconds) < 200):
        begin = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - begin)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    print(json.dumps({
        "task": name, "device": f"jax {jax.__version__} cpu", "median_seconds": median, "min_seconds": seconds[0],
        "gigabytes_per_second": 1e-9 * size / median, "gigaflops": 1e-9 * flops / median,
    }), flush=True)


def uniform(seed, shape):
    return jax.random.uniform(jax.random.PRNGKey(seed), shape, minval=-2.0, maxval=2.0)


def sigmoid_l1(log_size):
    prediction, target = uniform(0, (1 << log_size,)), uniform(1, (1 << log_size,))

    def loss(p, t):
        size = jnp.abs(p - t)
        return jnp.mean(size * jax.nn.sigmoid(size))

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: step(prediction, target), 0.0, 12.0 * (1 << log_size)


def weighted_mse():
    p, t, w = uniform(0, (1 << 24,)), uniform(1, (1 << 24,)), uniform(2, (1 << 24,))
    step = jax.jit(jax.value_and_grad(lambda p, t, w: jnp.mean((w + 3) * (p - t) ** 2)))
    return lambda: step(p, t, w), 0.0, 16.0 * (1 << 24)


def hinge():
    p, t = uniform(0, (1 << 24,)), jnp.sign(uniform(1, (1 << 24,)))
    step = jax.jit(jax.value_and_grad(lambda p, t: jnp.mean(jnp.maximum(0, 1 - t * p + 0.5))))
    return lambda: step(p, t), 0.0, 12.0 * (1 << 24)


def total():
    x = uniform(0, (1 << 26,))
    step = jax.jit(jnp.sum)
    return lambda: step(x), 0.0, 4.0 * (1 << 26)


def matmul(n):
    a, b = uniform(0, (n, n)), uniform(1, (n, n))
    step = jax.jit(jnp.matmul)
    return lambda: step(a, b), 2.0 * n**3, 12.0 * n * n


def softmax_cross_entropy(rows, classes):
    logits = uniform(0, (rows, classes))
    labels = jax.random.randint(jax.random.PRNGKey(1), (rows,), 0, classes)

    def loss(x):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1))

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: step(logits), 0.0, 8.0 * rows * classes


def layers(widths):
    keys = jax.random.split(jax.random.PRNGKey(3), len(widths))
    return [
        (jax.random.normal(key, (i, o)) * (2.0 / i) ** 0.5, jnp.zeros(o))
        for key, i, o in zip(keys, widths[:-1], widths[1:])
    ]


def forward(parameters, x, activation=jax.nn.relu):
    for w, b in parameters[:-1]:
        x = activation(x @ w + b)
    w, b = parameters[-1]
    return x @ w + b


def seed_sgd():
    x, target = uniform(0, (400, 1)), uniform(1, (400,))

    def loss(parameters):
        return jnp.mean(0.5 * (forward(parameters, x)[:, 0] - target) ** 2)

    @jax.jit
    def step(parameters):
        value, gradient = jax.value_and_grad(loss)(parameters)
        return value, jax.tree.map(lambda p, g: p - 1e-3 * g, parameters, gradient)

    state = [layers([1, 30, 20, 1])]

    def run():
        value, state[0] = step(state[0])
        return float(value)

    return run, 0.0, 0.0


def mlp_adam():
    x, labels = uniform(0, (256, 784)), jax.random.randint(jax.random.PRNGKey(4), (256,), 0, 10)

    def loss(parameters):
        rows = jax.nn.log_softmax(forward(parameters, x))
        return -jnp.mean(jnp.take_along_axis(rows, labels[:, None], axis=1))

    def step(parameters, m, v, t):
        value, gradient = jax.value_and_grad(loss)(parameters)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        rate = 1e-3 / (1 - 0.9**t)
        scale = 1 / (1 - 0.999**t)
        updated = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v * scale) + 1e-8), parameters, m, v)
        return value, updated, m, v, t

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    parameters = layers([784, 512, 512, 10])
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = [(parameters, zeros, jax.tree.map(jnp.zeros_like, parameters), jnp.float32(0))]

    def run():
        value, *state[0] = step(*state[0])
        return float(value)

    products = 784 * 512 + 512 * 512 + 512 * 10
    return run, (6 * products - 2 * 784 * 512) * 256.0, 0.0


def network(widths, rows):
    """A smooth network: its parameters, rows, targets, and the loss of one row."""
    x, classes = uniform(0, (rows, widths[0])), widths[-1]
    if classes > 1:
        target = jax.random.randint(jax.random.PRNGKey(4), (rows,), 0, classes)
    else:
        target = uniform(1, (rows,))

    def loss(parameters, x, target):
        eta = forward(parameters, x, jnp.tanh)
        if classes > 1:
            return -jax.nn.log_softmax(eta)[target]
        return 0.5 * (eta[0] - target) ** 2

    return layers(widths), x, target, loss


def gradient(widths, rows):
    parameters, x, target, loss = network(widths, rows)
    step = jax.jit(jax.value_and_grad(lambda p: jnp.mean(jax.vmap(loss, (None, 0, 0))(p, x, target))))
    return lambda: step(parameters), 0.0, 0.0


def hessian_product(widths, rows):
    parameters, x, target, loss = network(widths, rows)
    direction = jax.tree.map(jnp.ones_like, parameters)
    slope = jax.grad(lambda p: jnp.mean(jax.vmap(loss, (None, 0, 0))(p, x, target)))
    step = jax.jit(lambda p, d: jax.jvp(slope, (p,), (d,))[1])
    return lambda: step(parameters, direction), 0.0, 0.0


def per_sample(widths, rows):
    parameters, x, target, loss = network(widths, rows)
    step = jax.jit(jax.vmap(jax.grad(loss), (None, 0, 0)))
    return lambda: step(parameters, x, target), 0.0, 0.0


def deep(wrap):
    """The gradient of 16 layers of 512 units on 256 rows, four layers of which are taken together."""
    key = jax.random.PRNGKey(0)
    layers = [(jax.random.normal(k, (512, 512)) * 0.05, jnp.zeros(512)) for k in jax.random.split(key, 16)]
    x = jax.random.normal(key, (256, 512))

    def block(x, layers):
        for w, b in layers:
            x = jnp.tanh(x @ w + b)
        return x

    def loss(layers, x):
        for first in range(0, 16, 4):
            x = wrap(block)(x, layers[first : first + 4])
        return jnp.mean(x * x)

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: step(layers, x), 0.0, 0.0


def per_sample_norms(widths, rows):
    parameters, x, target, loss = network(widths, rows)

    def norm(p, x, target):
        return jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(jax.grad(loss)(p, x, target))))

    step = jax.jit(jax.vmap(norm, (None, 0, 0)))
    return lambda: step(parameters, x, target), 0.0, 0.0


def user_loop(unrolled):
    x = uniform(0, (1 << 22,))

    def term(x, state):
        term, total = state
        term = term * x * 0.5
        return term, total + jnp.sin(term)

    def series(x):
        state = (jnp.ones_like(x), jnp.zeros_like(x))
        if unrolled:
            for _ in range(8):
                state = term(x, state)
        else:
            state = jax.lax.fori_loop(0, 8, lambda _, state: term(x, state), state)
        return jnp.mean(state[1] ** 2)

    step = jax.jit(jax.value_and_grad(series))
    return lambda: step(x), 0.0, 8.0 * (1 << 22)


def glm(rows, columns):
    """Logistic regression: the gradient of the mean loss, and the loss."""
    x, w, y = uniform(0, (rows, columns)), uniform(1, (columns,)) / columns, (uniform(2, (rows,)) + 2) / 4

    def loss(w, x):
        eta = x @ w
        return jnp.mean(jax.nn.softplus(eta) - y * eta)

    step = jax.jit(jax.value_and_grad(loss))
    return lambda: step(w, x), 4.0 * rows * columns, 4.0 * rows * columns


def family(log_partition, low=-2.0, high=2.0):
    """Mean of A(η) − y·η and its gradient, 2²⁴ elements."""
    n = 1 << 24
    eta, y = (uniform(0, (n,)) + 2) / 4 * (high - low) + low, (uniform(1, (n,)) + 2) / 4
    step = jax.jit(jax.value_and_grad(lambda eta, y: jnp.mean(log_partition(eta) - y * eta)))
    return lambda: step(eta, y), 0.0, 12.0 * n


def probit():
    """Bernoulli by the probit link."""
    z, y = uniform(0, (1 << 24,)), jnp.round((uniform(1, (1 << 24,)) + 2) / 4)
    phi = jax.scipy.special.log_ndtr
    step = jax.jit(jax.value_and_grad(lambda z, y: jnp.mean(-y * phi(z) - (1 - y) * phi(-z))))
    return lambda: step(z, y), 0.0, 12.0 * (1 << 24)


SEED, MLP = ([1, 30, 20, 1], 400), ([784, 512, 512, 10], 256)

TASKS = {
    "sigmoid_l1_2p22": lambda: sigmoid_l1(22),
    "sigmoid_l1_2p24": lambda: sigmoid_l1(24),
    "user_loop": lambda: user_loop(False),
    "user_loop_unrolled": lambda: user_loop(True),
    "hinge_margin": hinge,
    "weighted_mse": weighted_mse,
    "sum": total,
    "matmul_256_nn": lambda: matmul(256),
    "matmul_512_nn": lambda: matmul(512),
    "matmul_1024_nn": lambda: matmul(1024),
    "matmul_2048_nn": lambda: matmul(2048),
    "softmax_ce_4096x8192": lambda: softmax_cross_entropy(4096, 8192),
    "glm_gradient_1Mx128": lambda: glm(1 << 20, 128),
    "family_gaussian": lambda: family(lambda eta: eta**2 / 2),
    "family_bernoulli": lambda: family(jax.nn.softplus),
    "family_poisson": lambda: family(jnp.exp),
    "family_gamma": lambda: family(lambda eta: -jnp.log(-eta), -3.0, -0.01),
    "family_negative_binomial": lambda: family(lambda eta: -2 * jnp.log(-jnp.expm1(eta)), -3.0, -0.01),
    "family_bernoulli_probit": probit,
    "seed_sgd": seed_sgd,
    "mlp_adam": mlp_adam,
    "mlp_gradient": lambda: gradient(*MLP),
    "mlp_hvp": lambda: hessian_product(*MLP),
    "deep_gradient": lambda: deep(lambda f: f),
    "deep_gradient_again": lambda: deep(jax.checkpoint),
    "mlp_per_sample": lambda: per_sample(*MLP),
    "mlp_per_sample_norms": lambda: per_sample_norms(*MLP),
    "seed_gradient": lambda: gradient(*SEED),
    "seed_hvp": lambda: hessian_product(*SEED),
    "seed_per_sample": lambda: per_sample(*SEED),
}

for name, make in TASKS.items():
    if len(sys.argv) < 2 or sys.argv[1] in name:
        run, flops, size = make()
        measure(name, run, flops, size)
