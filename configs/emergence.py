"""What appears with scale: five abilities, mixed into text and trained by sweeps.

    python -m experiments.emergence --config=configs/emergence.py:tiny --workdir=out/emergence

`tiny` is for a laptop (docs/emergence.md has the time it took and what it found). `full` has five
sizes and three seeds and takes hours. `gpu` goes a hundred times further and is sized for one GPU;
give it a text of its own (--config.text.path=FOLDER).
"""

from ml_collections import ConfigDict

from configs import sweep


def get_config(arg: str = "tiny") -> ConfigDict:
    """Returns the config of a measurement: 'tiny', 'full' or 'gpu'."""
    sizes = {"tiny": tiny, "full": full, "gpu": gpu}
    if arg not in sizes:
        raise ValueError(f"configs/emergence.py has no {arg!r}; it has {', '.join(sizes)}")
    return sizes[arg](defaults())


def defaults() -> ConfigDict:
    """All fields and what they mean."""
    c = ConfigDict()
    c.text = ConfigDict()
    c.text.path = ""  # that the abilities are mixed into; '': the embedded corpus
    c.text.limit_mb = 4.0  # read only about this much of it; 0: all of it
    c.rates = ConfigDict()  # each task's share of the training tokens; the rest is text
    c.rates.arithmetic = 0.06
    c.rates.deduction = 0.06
    c.rates.operations = 0.06
    c.rates.mapping = 0.06
    c.rates.induction = 0.2
    c.rates.instructions = 0.06
    c.asked = 100  # held-out instances of each task and difficulty
    c.seed = 0  # of the instances
    c.sweep = sweep.defaults()  # how the models are trained; its text is made here
    c.sweep.update(held_out=0.0, noise_seeds=(), lr_check=(), keep_models=True)
    c.sweep.tokens_per_parameter = (0.1, 1e5)  # no law is fitted: sizes and tokens vary freely
    c.sweep.base.seq_len, c.sweep.base.batch_size = 64, 16
    c.sweep.base.data.vocab_size = 320  # no pieces of several letters where tasks have letters
    c.sweep.base.train.eval_tokens = 20_000
    return c


def tiny(c: ConfigDict) -> ConfigDict:
    c.sweep.ladder = ((16, 2), (24, 2), (32, 2), (48, 2))
    c.sweep.budgets = (1e11, 2.2e11, 4.6e11, 1e12)
    c.sweep.tokens_per_parameter = (0.1, 150.0)
    return c


def full(c: ConfigDict) -> ConfigDict:
    c.text.limit_mb = 0.0
    c.asked = 200
    c.sweep.ladder = ((16, 2), (32, 2), (48, 2), (64, 3), (96, 4))
    c.sweep.budgets = (2e11, 6.3e11, 2e12, 6.3e12, 2e13)
    c.sweep.seeds = (0, 1, 2)
    return c


def gpu(c: ConfigDict) -> ConfigDict:
    c.text.limit_mb = 0.0
    c.asked = 500
    c.sweep.base.batch_size, c.sweep.base.seq_len = 256, 256
    c.sweep.base.learning_rate, c.sweep.base.optim.power = 4e-3, 0.0
    c.sweep.base.model.dtype = "bfloat16"
    c.sweep.ladder = ((64, 3), (128, 4), (192, 6), (256, 8), (384, 10))
    c.sweep.budgets = (1e14, 4e14, 1.6e15, 6.4e15)
    c.sweep.seeds = (0, 1, 2)
    c.sweep.device, c.sweep.chip, c.sweep.workers, c.sweep.price = "gpu", "h100", 1, 0.0
    return c
