"""The rules that the repository as a whole keeps."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.sources import parsed

ROOT = Path(__file__).parent.parent
OURS = {"configs", "data", "lm", "experiments", "tests"}
# A room depends on the rooms below it only.
ALLOWED = {
    "configs": {"configs"},
    "data": {"data"},
    "lm": {"lm", "data"},
    "experiments": {"experiments", "lm", "data", "configs"},
}
# The brackets keep the patterns from matching themselves.
MACHINE_PATHS = re.compile(r"(?<![\w.\-/])/(?:home|root|tmp|work|Users)/")
REGISTRIES = re.compile(r"pypi[.]org|pythonhosted[.]org|download[.]pytorch")
LOCKS = sorted(p.with_suffix(".txt").name for p in ROOT.glob("requirements*.in"))


def tracked() -> list[Path]:
    """The files under version control."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def text_files() -> dict[str, str]:
    """Name to text, of the tracked files that are text."""
    found = {}
    for path in tracked():
        try:
            found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def modules(room: str) -> dict[Path, ast.Module]:
    """The parsed modules of a room."""
    return {p: parsed(p) for p in sorted((ROOT / room).rglob("*.py"))}


def imported(tree: ast.Module) -> set[str]:
    """The top-level names of all that a module imports, inside functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_depends_on_the_rooms_below_it_only(room: str) -> None:
    for path, tree in modules(room).items():
        above = imported(tree) & (OURS - ALLOWED[room])
        assert not above, f"{path.relative_to(ROOT)} imports {', '.join(sorted(above))}"


def test_data_never_imports_jax() -> None:
    for path, tree in modules("data").items():
        assert not imported(tree) & {"jax", "jaxlib", "flax", "optax", "orbax"}, path.name


def test_configs_import_only_ml_collections() -> None:
    for path, tree in modules("configs").items():
        assert imported(tree) <= {"configs", "ml_collections"}, path.name


@pytest.mark.parametrize("room", ALLOWED)
def test_every_module_says_what_it_is(room: str) -> None:
    for path, tree in modules(room).items():
        assert ast.get_docstring(tree), f"{path.relative_to(ROOT)} has no docstring"


def test_files_name_no_machine_and_no_registry() -> None:
    for name, text in text_files().items():
        for pattern in (MACHINE_PATHS, REGISTRIES):
            found = pattern.search(text)
            assert not found, f"{name}: {text[max(found.start() - 20, 0) : found.end() + 20]!r}"


def test_repository_is_small() -> None:
    total = sum(path.stat().st_size for path in tracked())
    assert total < 40e6, f"{total / 1e6:.1f} MB are tracked"


def requirements(name: str) -> list[Requirement]:
    """The requirements that a file states, options and hashes left out."""
    text = re.sub(r"\\\n\s*", "", (ROOT / name).read_text())
    lines = [re.split(r"\s+(?:--hash|#)", line)[0].strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def asked(name: str) -> list[Requirement]:
    """The requirements of an .in file and of those that it includes."""
    text = (ROOT / name).read_text()
    included = re.findall(r"^-r (\S+)", text, re.M)
    return requirements(name) + [r for other in included for r in asked(other)]


def pins(lock: str) -> dict[str, set[str]]:
    """Normalised package name to the versions that a lock has (one a Python version at most)."""
    versions: dict[str, set[str]] = {}
    for requirement in requirements(lock):
        (pin,) = requirement.specifier
        assert pin.operator == "==", f"{lock}: {requirement} is not pinned"
        versions.setdefault(normal(requirement.name), set()).add(pin.version)
    return versions


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_what_is_asked_for(lock: str) -> None:
    """make lock was run after the last change of the .in file."""
    have = pins(lock)
    for requirement in asked(lock.replace(".txt", ".in")):
        versions = have.get(normal(requirement.name))
        assert versions, f"{lock} lacks {requirement}"
        assert any(Version(v) in requirement.specifier for v in versions), f"{lock}: {requirement}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    text = re.sub(r"\\\n\s*", "", (ROOT / lock).read_text())
    for line in text.splitlines():
        if line and not line.startswith("#"):
            assert "--hash=sha256:" in line, f"{lock}: {line}"


@pytest.mark.parametrize("lock", LOCKS)
def test_add_ons_take_the_versions_of_the_core(lock: str) -> None:
    """Any add-on can go into the environment that has the core."""
    core = pins("requirements.txt")
    for name, versions in pins(lock).items():
        assert versions == core.get(name, versions), f"{lock}: {name}"


def test_torch_is_pinned() -> None:
    assert set(pins("requirements-torch.txt")) == {"torch"}
