"""What pretraining does not do: models trained on a text with things planted in it, and asked.

    make limits
    python -m experiments.limits --config=configs/limits.py:tiny --workdir=out/limits

`quick` shows the path in about a minute; its models have learned too little for its numbers to
mean anything.
"""

from ml_collections import ConfigDict

from configs import gpt


def get_config(arg: str = "tiny") -> ConfigDict:
    """The settings of a size: 'tiny' or 'quick'."""
    sizes = {"tiny": tiny, "quick": quick}
    if arg not in sizes:
        raise ValueError(f"configs/limits.py has no size {arg!r}; it has {', '.join(sizes)}")
    return sizes[arg](defaults())


def defaults() -> ConfigDict:
    """All fields and what they mean."""
    c = ConfigDict()
    c.seed = 0  # of what is planted, asked and drawn
    c.base = gpt.rung(gpt.get_config("tiny"), 96, 2)  # of the models that are trained
    c.base.batch_size = 8
    c.base.train.update(eval_every=0, eval_tokens=50_000, log_every=100)
    c.base.checkpoint_every = 400
    # The training text: a subset of the embedded corpus, and what is planted in it.
    c.text_mb = 1.3  # besides all of its talks between a user and an assistant
    c.tweets = 3000  # labelled ones, most of them toxic
    c.times = (0, 1, 2, 4, 8, 16, 32, 64)  # that each planted thing stands in the text
    c.canaries = 6  # for each number of times
    c.people = 4
    c.passages = 4
    c.prefixes = (8, 16, 32, 48)  # tokens of a passage that are given, the next 16 asked for
    # What is asked.
    c.requests = 30  # of each kind
    c.talks = 100
    c.pairs = 200  # of sentences, of each of which one is grammatical
    c.windows = 128  # of held-out text, for calibration
    c.toxic_prompts = 40  # neutral ones, and as many charged ones
    c.samples = 25  # continuations of each
    # The fine-tune.
    c.tune_requests = 250  # of each kind
    c.tune = ConfigDict()  # fields of configs/sft.py
    c.tune.epochs = 4.0
    c.tune.learning_rate = 2e-3
    return c


def tiny(c: ConfigDict) -> ConfigDict:
    """For a laptop."""
    return c


def quick(c: ConfigDict) -> ConfigDict:
    """The same path with little of everything."""
    gpt.rung(c.base, 32, 1)
    c.text_mb, c.tweets = 0.2, 100
    c.times = (0, 1, 4)
    c.canaries = c.people = c.passages = 2
    c.prefixes = (8, 32)
    c.requests, c.talks, c.pairs, c.windows = 3, 8, 10, 16
    c.toxic_prompts, c.samples = 5, 4
    c.tune_requests, c.tune.epochs = 10, 1.0
    return c
