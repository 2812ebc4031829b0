"""A loop in JAX: ``pip install jax optax``, ``whichopt serve``, then ``python examples/optax_loop.py``."""

from __future__ import annotations

import os
from typing import Any

import jax
import jax.numpy as jnp
import optax

from whichopt import Client

SPEC: dict[str, Any] = {
    "model": {"kind": "external", "steps": 100},
    "metric": "val_mse",
    "metric_direction": "min",
    # What optax has under these names; a schedule that it has, too.
    "search": {"optimizers": ["adamw", "lion", "sgd"], "schedules": ["cosine"]},
    "budget": {"trials": 30},
}
X = jax.random.normal(jax.random.key(0), (600, 8))
Y = X @ jnp.linspace(-1.0, 1.0, 8) + 0.1 * jnp.sin(3 * X[:, 0])
HELD_OUT = {"validation": slice(400, 500), "test": slice(500, 600)}


def optimizer_of(configuration: dict[str, Any], steps: int) -> optax.GradientTransformation:
    """The configuration in optax's words."""
    values, schedule = configuration["hyperparameters"], configuration["schedule"]
    warmup, lr = round(steps * float(schedule.get("warmup_fraction", 0.0))), values["lr"]
    cosine = optax.cosine_decay_schedule(lr, steps, alpha=float(schedule.get("end_factor", 0.0)))

    def rate(step: Any) -> Any:
        """The cosine of the whole run, times a warm-up of (step + 1) / warmup: optax's own joins one after the other."""
        return cosine(step) * jnp.minimum(1.0, (step + 1) / max(warmup, 1))

    decay = values["weight_decay"]
    if configuration["optimizer"] == "adamw":
        inner = optax.adamw(rate, values["beta1"], values["beta2"], values["eps"], weight_decay=decay)
    elif configuration["optimizer"] == "lion":
        inner = optax.lion(rate, values["beta1"], values["beta2"], weight_decay=decay)
    else:
        inner = optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate))
    clip = configuration["techniques"].get("clip_norm")
    return inner if clip is None else optax.chain(optax.clip_by_global_norm(clip), inner)


def loss_of(weights: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error of a linear model."""
    return jnp.mean((x @ weights - y) ** 2)


def main() -> None:
    """Train until the study has its answer."""
    address = os.environ.get("WHICHOPT_SERVER", "http://127.0.0.1:8000")
    with Client(address) as client, client.study(SPEC, key="optax") as study:
        for trial in study.trials():
            key = jax.random.key(trial.seed % 2**31)
            weights = 0.1 * jax.random.normal(key, (8,))
            optimizer = optimizer_of(trial.configuration, trial.steps)
            state = optimizer.init(weights)

            @jax.jit
            def step(weights: Any, state: Any, rows: Any, optimizer: Any = optimizer) -> Any:
                loss, gradient = jax.value_and_grad(loss_of)(weights, X[rows], Y[rows])
                updates, state = optimizer.update(gradient, state, weights)
                return optax.apply_updates(weights, updates), state, loss

            for i in range(trial.steps):
                rows = jax.random.randint(jax.random.fold_in(key, i), (32,), 0, 400)
                weights, state, loss = step(weights, state, rows)
                if i % 10 == 9 and not trial.report(i + 1, loss):
                    break
            else:
                held_out = HELD_OUT[trial.split]
                trial.tell(float(loss_of(weights, X[held_out], Y[held_out])))
        print(study.recommendation()["summary"])


if __name__ == "__main__":
    main()
