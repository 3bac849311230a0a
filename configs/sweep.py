"""IsoFLOP sweeps: N ladder x compute budgets, warm-up-stable-decay trunks with cooldown branches.

    python -m experiments.plan  --config=configs/sweep.py:tiny
    python -m experiments.sweep --config=configs/sweep.py:tiny --workdir=out/sweep

`quick` shows the whole path in about a minute. `tiny`, the full sweep for a laptop, takes 14
minutes of processor time over two server cores; its held-out run was predicted 0.2% off. `long` is
estimated at half an hour there; its committed records are of an earlier split (README.md). `gpu`
is sized for one hour of one H100 and needs a text of its own (`--config.base.data.path=FOLDER`).
"""

from ml_collections import ConfigDict

from configs import gpt


def get_config(arg: str = "tiny") -> ConfigDict:
    """Returns a sweep's config: 'tiny', 'quick', 'long' or 'gpu'."""
    sizes = {"tiny": tiny, "quick": quick, "long": long, "gpu": gpu}
    if arg not in sizes:
        raise ValueError(f"configs/sweep.py has no sweep {arg!r}; it has {', '.join(sizes)}")
    return sizes[arg](defaults())


def defaults() -> ConfigDict:
    """All fields of a sweep and what they mean."""
    c = ConfigDict()
    c.base = gpt.get_config("tiny")  # of every run; the ladder changes its shape only
    c.base.batch_size = 8  # so few tokens need small batches: 16 is 0.2 nats worse at 0.7M tokens
    c.base.learning_rate = 7e-3
    c.base.optim.power = 0.32  # one trunk serves runs of 0.5M to 30M tokens (docs/decisions.md)
    c.base.train.eval_tokens = 100_000
    c.ladder = ((32, 2), (64, 3))  # (width, layers) of each model size
    c.budgets = (1e11, 2e11)  # training FLOPs, exactly counted (lm/flops.py)
    c.tokens_per_parameter = (5.0, 40.0)  # other cells are left out: near the optimum one law holds
    c.held_out = 4.0  # a run at this multiple of the largest budget tests the law; 0: none
    c.held_out_ratio = 20.0  # its model is the one whose D/N comes nearest to this
    c.seeds = (0,)  # the whole grid is trained with each
    c.noise_seeds = (1,)  # also trained with these: one cell of the smallest and largest model
    c.lr_check = (0.5, 2.0)  # the same cells at these multiples of the learning rate
    c.device = "cpu"  # what workers run on: 'cpu', 'gpu' or 'tpu'
    c.hosts = 1  # processes that train a model together, each on devices of its own
    c.workers = 0  # processes side by side; 0: one a core (CPU), what is fastest (GPU), else 1
    c.save_every = 60.0  # seconds of training that a kill may cost
    c.retries = 1  # of a model whose process failed
    c.keep_models = False  # every trial's model too, under models/, as lm.load reads them
    c.chip = ""  # a row of lm/chips.py that the plan is priced on; '': this CPU
    c.mfu = 0.4  # expected share of the chip's peak
    c.price = 0.04  # dollars an hour of a CPU core or, where not 0, of a chip
    return c


def tiny(c: ConfigDict) -> ConfigDict:
    """Full sweep for a laptop: budgets a factor of 8 apart, a run at 4 times the largest."""
    c.ladder = ((24, 2), (32, 2), (40, 2), (48, 2), (56, 2), (64, 2), (80, 2))  # one depth
    c.budgets = (3.75e11, 7.5e11, 1.5e12, 3e12)
    return c


def quick(c: ConfigDict) -> ConfigDict:
    """The same path on a part of the text, in about a minute; too small for a law to trust."""
    c.base.data.limit_mb = 6.0
    c.base.train.eval_tokens = 50_000
    c.ladder = ((8, 1), (16, 1), (24, 1), (32, 1))
    c.tokens_per_parameter = (0.3, 150.0)
    c.budgets = (1.5e10, 3e10, 6e10)
    c.lr_check = (2.0,)
    return c


def long(c: ConfigDict) -> ConfigDict:
    """Twice the compute a run, each with two seeds, and a run at 10 times the largest budget."""
    c.held_out = 10.0
    c.ladder = ((40, 2), (48, 2), (56, 2), (64, 2), (80, 2), (96, 2), (112, 2), (128, 2))
    c.budgets = (7.5e11, 1.5e12, 3e12, 6e12)
    c.seeds = (0, 1)
    return c


def gpu(c: ConfigDict) -> ConfigDict:
    c.base.data.vocab_size = 32_000
    c.base.batch_size, c.base.seq_len = 128, 1024
    c.base.learning_rate, c.base.optim.power = 4e-3, 0.0
    c.base.model.dtype = "bfloat16"
    c.base.data.max_epochs = 1.0
    c.ladder = ((192, 4), (256, 5), (384, 6), (512, 8), (640, 10))
    c.budgets = (2.5e16, 5e16, 1e17)
    c.device, c.chip, c.workers, c.price = "gpu", "h100", 0, 0.0
    return c
