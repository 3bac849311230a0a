"""AdamW, learning-rate schedules, and one rate for every width.

**The rule for width.** Under Adam, the best rate of a matrix whose input dimension grows with the
width falls as 1/width, and that of tables and vectors does not move (maximal update
parametrisation: Yang et al. 2022, "Tensor Programs V", table 8). `learning_rate` is the rate at
`base_width`: hidden matrices and an untied head get learning_rate x base_width / width, embeddings,
norms and biases learning_rate. A tied head's logits are multiplied by base_width / width instead
(lm/model.py). experiments/lr_width.py draws loss against rate for several widths under this rule.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from lm.params import Model, map_declared

Tree = Any


class Schedule(NamedTuple):
    """A learning rate as a function of the step, its numbers traced: one program for all.

    Steps count from 0; all values are floats. `cosine` is 1.0 for a cosine from the end of warm-up
    to `total`, 0.0 for a plateau until `decay_start` and then 1 - sqrt down to `final` (Hagele et
    al. 2024). The plateau is constant for `power_start` steps and then falls as steps^-power: the
    best constant rate falls about so with the length of a run (Bjorck et al. 2025), and a plateau
    that follows it serves runs of every length (Shen et al. 2024, "Power Scheduler").
    """

    peak: float
    warmup: float
    decay_start: float
    total: float
    final: float  # as a share of the peak
    cosine: float
    power: float
    power_start: float


def make_schedule(config: ConfigDict, total_steps: int | None = None) -> Schedule:
    """The schedule of a resolved config, for `steps` or another total."""
    o = config.optim
    total = config.steps if total_steps is None else total_steps
    share = o.decay_share if o.schedule == "wsd" else 0.0
    start = total - cooldown_steps(total, share)
    return Schedule(
        config.learning_rate,
        o.warmup,
        start,
        total,
        o.final_lr,
        cosine=float(o.schedule == "cosine"),
        power=o.power if o.schedule == "wsd" else 0.0,
        power_start=max(1.0, o.power_tokens / (config.batch_size * config.seq_len)),
    )


def cooldown_steps(total_steps: int, share: float) -> int:
    """Steps of a cooldown that takes the last `share` of a run."""
    return round(total_steps * share)


def learning_rate(s: Schedule, step: jax.Array) -> jax.Array:
    """The rate of a step (float32)."""
    step = step.astype(jnp.float32)
    warm = jnp.minimum(1.0, (step + 1) / jnp.maximum(s.warmup, 1.0))
    through = jnp.clip((step - s.warmup) / jnp.maximum(s.total - s.warmup, 1.0), 0, 1)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * through))
    cooled = jnp.clip((step - s.decay_start) / jnp.maximum(s.total - s.decay_start, 1.0), 0, 1)
    plateau = (jnp.maximum(step + 1, s.power_start) / s.power_start) ** -s.power
    shape = jnp.where(s.cosine > 0, cosine, plateau * (1 - jnp.sqrt(cooled)))
    return s.peak * warm * (s.final + (1 - s.final) * shape)


def rate_scales(model: Model) -> Tree:
    """Each parameter's learning rate as a multiple of the schedule's: the rule above."""
    c = model.config
    shrink = c.base_width / c.width

    def scale(d: Any) -> float:
        axes = [a for a in d.axes if a != "layers"]
        is_matrix = d.std > 0 and axes[0] in ("embed", "heads", "mlp")
        return shrink if is_matrix else 1.0

    return map_declared(scale, model)


def decayed(model: Model) -> Tree:
    """True for parameters under weight decay: all but norms and biases."""
    return map_declared(lambda d: d.std > 0, model)


def make_optimizer(config: ConfigDict, model: Model) -> optax.GradientTransformation:
    """AdamW with clipping and the rule for width; its result wants scaling by -learning rate."""
    o = config.optim
    scales = rate_scales(model)
    return optax.chain(
        optax.clip_by_global_norm(o.clip) if o.clip else optax.identity(),
        optax.scale_by_adam(o.beta1, o.beta2, o.eps),
        optax.add_decayed_weights(o.weight_decay, decayed(model)),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales)),
    )
