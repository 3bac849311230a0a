"""Supervised fine-tuning: a run goes on with pairs of prompt and answer, loss on the answers only.

    python -m lm.sft --config=configs/sft.py:out/tiny --config.pairs=qa.jsonl --workdir=out/qa

What follows the colon is the workdir of the run that it starts from, an imported one too (lm.hf);
model, tokenizer and seq_len are that run's.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """All fields of a fine-tune and what they mean; `arg` is the workdir to start from."""
    c = ConfigDict()
    c.start = arg  # workdir of the run that it starts from
    c.pairs = ""  # .jsonl with a prompt and an answer a line
    c.epochs = 4.0  # times that the pairs are read
    c.batch_size = 16  # windows of the run's seq_len, as many pairs in each as fit
    c.learning_rate = 1e-3  # peak, at the width at which the run's was tuned
    c.weight_decay = 0.0
    c.valid_share = 0.1  # of the pairs, not trained on
    c.seed = 0
    return c
