"""What cleaning a crawl does to a model: one small model on four versions of one messy crawl.

    make ablation
    python -m experiments.ablation --config=configs/ablation.py --workdir=out/ablation

The crawl is the embedded one (data/crawl): its held-out pages and their copies are known.
"""

from ml_collections import ConfigDict

from configs import curate, gpt

VERSIONS = {
    "raw": (),
    "deduplicated": ("exact", "minhash", "sentence", "substring"),
    "filtered": ("url", "language", "gopher_repetition", "gopher_quality", "c4", "fineweb"),
    "curated": curate.STAGES,
}


def get_config(arg: str = "") -> ConfigDict:
    """The one config; it has no presets."""
    if arg:
        raise ValueError(f"configs/ablation.py has no preset {arg!r}: leave :{arg} away")
    c = ConfigDict()
    c.base = gpt.rung(gpt.get_config("tiny"), 48, 2)  # of every run
    c.base.batch_size = 8
    c.base.train.eval_tokens = 0  # all of the held-out text
    c.tokens = 800_000  # that every model is trained on
    c.seeds = (0, 1, 2)  # of initial values, order and, at equal unique tokens, the sample
    c.workers = 0  # processes side by side; 0: as many as there are cores
    c.held_out = 0.1  # of the articles; all copies of them leave every version
    c.passages = 100  # of each sort, asked for at most
    c.curate = curate.get_config("web")
    c.versions = tuple(VERSIONS)  # the raw one first, the fully curated one last
    c.stages = ConfigDict(VERSIONS)  # of the curation chain, for each version
    return c
