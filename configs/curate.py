"""Curation: which sources, which stages in which order, where it runs.

    python -m data.curate --config=configs/curate.py:web --out=out/curated
    python -m data.curate --config=configs/curate.py:code --out=out/code --config.path=FOLDER

`web` on the embedded crawl is what `make curate` runs. `books`, `code`, `papers`, `encyclopedia`
and `conversations` leave out the rules that web pages need and those kinds of text fail.
"""

from ml_collections import ConfigDict

# Every stage, in the order of `web`. Removing personal data comes after deduplication, since
# placeholders make texts alike; what costs most comes after what drops most.
STAGES = (
    "url",
    "language",
    "gopher_repetition",
    "gopher_quality",
    "c4",
    "fineweb",
    "exact",
    "minhash",
    "sentence",
    "substring",
    "toxicity",
    "quality",
    "fix_text",
    "pii",
    "decontaminate",
)
PROSE_RULES = ("url", "gopher_repetition", "gopher_quality", "c4", "fineweb", "sentence")
PROFILES = {
    "web": (),
    "books": ("url", "c4", "fineweb", "gopher_quality", "sentence"),
    "encyclopedia": ("url", "c4", "fineweb", "sentence"),
    "papers": ("url", "c4", "fineweb", "sentence"),
    "conversations": PROSE_RULES,
    "code": (*PROSE_RULES, "language", "toxicity", "fix_text"),
}


def get_config(arg: str = "web") -> ConfigDict:
    """The config of a kind of source: 'web', 'books', 'code', 'papers' and so on."""
    if arg not in PROFILES:
        raise ValueError(f"configs/curate.py has no profile {arg!r}; it has {', '.join(PROFILES)}")
    c = ConfigDict()
    c.path = ""  # file or folder; '': the embedded crawl
    c.kind = "" if arg == "web" else arg  # how to read it (data/readers.py); '': by suffix
    c.licence = ""  # of documents that do not say theirs
    c.extractor = "resiliparse"  # of HTML: 'resiliparse', or 'trafilatura', 30 times as slow
    c.stages = tuple(s for s in STAGES if s not in PROFILES[arg])
    # For a path with several kinds of text: the stages that each kind is spared.
    c.spared = ConfigDict({kind: stages for kind, stages in PROFILES.items() if stages})
    c.tokenizer = ""  # a model to count tokens with; '': the embedded one of 8,192 ids

    c.url = ConfigDict()
    c.url.domains = ""  # file of blocked domains, one a line (hosts files too); '': none
    c.url.words = ("porn", "xxx", "casino", "viagra")  # a part of the address that is one of these

    c.language = ConfigDict()
    c.language.keep = ("en",)  # codes of py3langid; () keeps all, and labels them
    c.language.min_probability = 0.65

    c.minhash = ConfigDict()
    c.minhash.bands = 20  # recall at Jaccard 0.75: 1 - (1 - 0.75**6)**20 = 0.98 in theory
    c.minhash.rows = 6  # FineWeb has 14 bands of 8: 0.77 there, with fewer pairs below it

    c.toxicity = ConfigDict()
    c.toxicity.drop = True  # False: only tag
    c.toxicity.max_share = 0.3  # of a document's characters, in paragraphs that are flagged
    c.toxicity.max_words = 5.0  # phrases of the word list per thousand words

    c.quality = ConfigDict()
    c.quality.model = ""  # trained by data.linear; '': the stage is left out
    c.quality.min_score = 0.5

    c.pii = ConfigDict()
    c.pii.types = ("KEY", "EMAIL", "IBAN", "CARD", "SSN", "IP", "PHONE")

    c.decontaminate = ConfigDict()
    c.decontaminate.path = ""  # folder of benchmarks (.jsonl with "text"); '': the embedded ones
    c.decontaminate.words = 13
    c.decontaminate.min_hits = 1  # n-grams shared with a benchmark from which a document goes

    c.run = ConfigDict()
    c.run.executor = "local"  # 'local', 'ray' or 'slurm'
    c.run.tasks = 8  # parts that the files are shared into; decides what 'first' means
    c.run.workers = 0  # side by side; 0: as many as there are cores (cluster: tasks)
    c.run.memory_gb = 2  # of a task, for Ray and Slurm
    c.run.partition = ""  # of Slurm ...
    c.run.qos = "normal"
    c.run.time = "20:00:00"  # ... a task's limit
    return c
