"""Publish documents as a TFDS dataset of array_record files, without TensorFlow.

    python -m data.publish --path=out/curated --name=my_crawl --out=out/tfds

Whoever has tensorflow-datasets reads it by name; so does data.path=tfds:my_crawl:out/tfds here.
Each example has a document's text, id, source, licence, kind, lang and url.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data import source
from data.documents import Document
from data.errors import Parser, UserError, optional, run
from data.source import FIELDS

VERSION = "1.0.0"
NAMES = ("text", *(name for name in FIELDS if name != "split"))


def publish(path: str, name: str, out: Path, version: str = VERSION) -> Path:
    """Write the documents of `path` (as `data.path` has it) and return the dataset's folder.

    Splits are those that the documents name, 'train' for the others. Examples are streamed; their
    order within a split is TFDS's. UserError for a name or version that TFDS refuses, or one that
    is there.
    """
    optional("tensorflow_datasets", "requirements-data.txt")
    import tensorflow_datasets as tfds

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f'name "{name}" must be lower case letters, digits and _')
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise UserError(f'version "{version}" is not three numbers, as in 1.0.0')
    folder = out / name / version
    if folder.exists():
        raise UserError(f"{folder}: is there already; give another --name or --version")
    splits = sorted({document.split or "train" for document in source.read(path)})

    def examples(split: str) -> Iterator[tuple[int, dict[str, str]]]:
        for number, document in enumerate(source.read(path)):
            if (document.split or "train") == split:
                yield number, example(document)

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        VERSION = tfds.core.Version(version)
        url_infos: dict[str, Any] = {}  # nothing is downloaded

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict({n: tfds.features.Text() for n in NAMES})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager: Any) -> Any:
            return {split: examples(split) for split in splits}

        def _generate_examples(self) -> Any:
            raise NotImplementedError("the split generators give the examples themselves")

    Builder.name = name
    Builder(data_dir=out, file_format="array_record").download_and_prepare()
    return folder


def example(document: Document) -> dict[str, str]:
    """A document's features; what has no UTF-8 becomes U+FFFD, as TFDS stores UTF-8."""
    fields = {name: str(getattr(document, name)) for name in NAMES}
    return {k: v.encode("utf-8", "replace").decode("utf-8") for k, v in fields.items()}


def main(argv: list[str] | None = None) -> None:
    parser = Parser(prog="python -m data.publish", description=__doc__)
    parser.add_argument("--path", default="", help="text, as data.path has it; '': embedded")
    parser.add_argument("--name", required=True, help="of the dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder of datasets")
    parser.add_argument("--version", default=VERSION, help="(%(default)s)")
    options = parser.parse_args(argv)
    folder = publish(options.path, options.name, options.out, options.version)
    print(f"{folder}: read it with data.path=tfds:{options.name}:{options.out}")


if __name__ == "__main__":
    run(main)
