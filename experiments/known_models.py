"""Published language models: parameters and training tokens, as their papers state them."""

from typing import NamedTuple


class KnownModel(NamedTuple):
    """A dense model; N counts all parameters, D training tokens."""

    name: str
    N: float
    D: float
    source: str


class KnownBudget(NamedTuple):
    """A model of which only the training FLOPs are known, and those as an estimate."""

    name: str
    C: float
    source: str


MODELS = (
    KnownModel("GPT-3", 175e9, 300e9, "Brown et al. 2020, arXiv 2005.14165, table 2.1"),
    KnownModel("Gopher", 280e9, 300e9, "Rae et al. 2021, arXiv 2112.11446"),
    KnownModel("Chinchilla", 70e9, 1.4e12, "Hoffmann et al. 2022, arXiv 2203.15556"),
    KnownModel("PaLM 540B", 540.35e9, 780e9, "Chowdhery et al. 2022, arXiv 2204.02311"),
    KnownModel("Llama 2 70B", 70e9, 2.0e12, "Touvron et al. 2023, arXiv 2307.09288"),
    KnownModel("Llama 3 405B", 405e9, 15.6e12, "Grattafiori et al. 2024, arXiv 2407.21783"),
)
GPT4_CLASS = KnownBudget(
    "GPT-4 class", 2.1e25, "Epoch AI's estimate of C; N and D were never published"
)
