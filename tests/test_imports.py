"""Imports point down only, and what runs on a machine without TensorFlow does not import it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"tfdistill": ROOT / "tfdistill", "tfdistill.export": ROOT / "export", "tfdistill.recipes": ROOT / "recipes"}

# One row for each room, from the bottom up: the rooms it may import. Every room may import `errors` and itself.
# The longest name that fits a module counts.
_TEXT = ("system", "cache", "text", "metrics", "data")
_MODELS = (*_TEXT, "distill", "models")
_TRAINING = (*_MODELS, "optim", "augment", "corpora", "compress")
_EXPORT = (*_MODELS, "export.tflite", "export.convert", "export.bench", "export.bundle")

ROOMS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "system": (),
    "optim": ("system",),
    "cache": ("system",),
    "text": ("system",),
    "metrics": ("system",),
    "distill": ("system", "optim"),
    "data": ("system", "cache", "text", "metrics"),
    "models": (*_TEXT, "distill"),
    "augment": _TEXT,
    "corpora": (*_MODELS, "augment"),
    "compress": _MODELS,
    "export.tflite": ("system", "metrics"),
    "export.convert": (*_MODELS, "export.tflite"),
    "export.bench": ("system", "metrics", "data", "export.tflite"),
    "export.bundle": (*_MODELS, "export.tflite", "export.convert", "export.bench"),
    "export": _EXPORT,
    "training": _TRAINING,
    "recipes": (*_TRAINING, "training"),
    "commands": (*_TRAINING, *_EXPORT, "training", "recipes", "export"),
    "__main__": ("commands",),
}

# Work where TensorFlow is not installed.
WITHOUT_TENSORFLOW = (
    "tfdistill",
    "tfdistill.errors",
    "tfdistill.system",
    "tfdistill.metrics",
    "tfdistill.text",
    "tfdistill.data",
    "tfdistill.augment",
    "tfdistill.distill.losses",
    "tfdistill.distill.match",
    "tfdistill.models.load",
    "tfdistill.models.presets",
    "tfdistill.models.stored_model",
    "tfdistill.models.weight_files",
    "tfdistill.training.recipe",
    "tfdistill.training.run_identity",
    "tfdistill.training.settings",
    "tfdistill.training.teacher_cache",
    "tfdistill.recipes",
    "tfdistill.commands.app",
    "tfdistill.commands.model_and_data",
    "tfdistill.export.bench",
    "tfdistill.export.classifier",
    "tfdistill.export.bundle.request",
    "tfdistill.export.verify",
)
TENSORFLOW = {"tensorflow", "keras", "tf_keras", "tensorflow_text", "keras_hub", "tensorflow_datasets"}

Sources = dict[str, tuple[str, bool]]  # module name: (source, is it a package)


def project_sources() -> Sources:
    sources = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join((package, *(parts[:-1] if is_package else parts)))
            sources[name] = (path.read_text(encoding="utf-8"), is_package)
    return sources


def imports(name: str, sources: Sources, when_imported: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) for each import in a module; only for those that importing the module runs, if `when_imported`."""
    source, is_package = sources[name]
    for node in _nodes(ast.parse(source), when_imported):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                if (module, alias.name) != ("tfdistill", "__version__"):
                    yield node.lineno, f"{module}.{alias.name}" if f"{module}.{alias.name}" in sources else module


def _nodes(tree: ast.AST, when_imported: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if when_imported:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                node = ast.Module(node.orelse, [])
        yield node
        yield from _nodes(node, when_imported)


def covers(name: str, module: str) -> bool:
    """Whether `module` is tfdistill.`name` or lies in it."""
    return f"{module}.".startswith(f"tfdistill.{name}.")


def row(module: str) -> str:
    """The row of ROOMS that a module of ours belongs to, or ""."""
    return max((name for name in ROOMS if covers(name, module)), key=len, default="")


def points_down(own: str, target: str) -> bool:
    """Whether a module of row `own` may import `target`. Leave for export does not give leave for export.bench."""
    other = row(target)
    return other == own or any(covers(name, target) and len(name) >= len(other) for name in ROOMS[own])


def upward_imports(sources: Sources) -> list[str]:
    """One line for each import that does not point down."""
    found = []
    for module in sources:
        own = row(module)
        if module == "tfdistill":  # names everything for its users, lazily
            continue
        if not own:
            found.append(f"{module} is in no row of ROOMS")
            continue
        for line, target in imports(module, sources):
            ours = target.split(".")[0] == "tfdistill" and not covers("errors", target)
            if ours and not points_down(own, target):
                found.append(f"{module}:{line} imports {target}")
    return list(dict.fromkeys(found))


def reached(module: str, sources: Sources) -> dict[str, str]:
    """Modules that importing `module` imports, ours and the others' as they are named; each with who imports it."""
    found, waiting = {module: "the test"}, [module]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            continue
        parents = [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
        for target in [*parents, *(target for _, target in imports(name, sources, when_imported=True))]:
            if target not in found:
                found[target] = name
                waiting.append(target)
    return found


def covers_root(root: str, name: str) -> bool:
    """Return whether a module is a root or below it; nothing is below `tfdistill`, which imports by name."""
    return name == root or (root != "tfdistill" and name.startswith(f"{root}."))


def tensorflow_imports(roots: tuple[str, ...], sources: Sources) -> list[str]:
    """One line for each import of TensorFlow or Keras that importing a root, or a module below it, leads to."""
    below = [name for name in sources if any(covers_root(root, name) for root in roots)]
    return sorted(
        f"{module}: {importer} imports {target}"
        for module in dict.fromkeys([*roots, *below])
        for target, importer in reached(module, sources).items()
        if target.split(".")[0] in TENSORFLOW
    )


@pytest.mark.heavy
def test_imports_point_down() -> None:
    assert upward_imports(project_sources()) == []


def circles(sources: Sources) -> list[list[str]]:
    """Return the groups of modules that import each other when they are imported."""
    targets = {
        name: {target for _, target in imports(name, sources, when_imported=True) if target in sources}
        for name in sources
    }
    graph = {name: below - {name} for name, below in targets.items() if name != "tfdistill"}
    while leaves := {name for name, below in graph.items() if not below & graph.keys()}:
        graph = {name: below for name, below in graph.items() if name not in leaves}
    return [sorted(graph)] if graph else []


def test_no_modules_import_each_other() -> None:
    assert circles(project_sources()) == []


def test_every_room_says_what_lives_there() -> None:
    for name, (source, is_package) in project_sources().items():
        if is_package:
            assert ast.get_docstring(ast.parse(source)), f"{name} has no docstring"


def test_nothing_that_runs_without_tensorflow_imports_it() -> None:
    sources = project_sources()
    assert [name for name in WITHOUT_TENSORFLOW if name not in sources] == []
    assert tensorflow_imports(WITHOUT_TENSORFLOW, sources) == []


@pytest.mark.heavy
def test_imports_where_tensorflow_is_not_installed() -> None:
    below = [name for name in project_sources() if any(covers_root(root, name) for root in WITHOUT_TENSORFLOW)]
    script = f"import sys, importlib; sys.modules.update(dict.fromkeys({sorted(TENSORFLOW)}))\n"
    script += f"for name in {below}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


BELOW: Sources = {
    "tfdistill": ("", True),
    "tfdistill.distill": ("", True),
    "tfdistill.distill.losses": ("import tensorflow", False),
    "tfdistill.training": ("", True),
    "tfdistill.training.runner": ("from tfdistill.distill.losses import kl", False),
    "tfdistill.data": ("", True),
    "tfdistill.data.splits": ("from tfdistill.errors import UserError", False),
    "tfdistill.export": ("", True),
    "tfdistill.export.bench": ("", True),
    "tfdistill.export.bench.host": ("from . import report", False),
    "tfdistill.export.bench.report": ("def late():\n    import tensorflow", False),
    "tfdistill.export.verify": ("from tfdistill.data.splits import load", False),
}


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        (
            "tfdistill.distill.losses",
            "import tfdistill.training.runner",
            "tfdistill.distill.losses:1 imports tfdistill.training.runner",
        ),
        (
            "tfdistill.distill.losses",
            "from tfdistill.training import runner",
            "tfdistill.distill.losses:1 imports tfdistill.training.runner",
        ),
        (
            "tfdistill.distill.losses",
            "from ..training import runner",
            "tfdistill.distill.losses:1 imports tfdistill.training.runner",
        ),
        (
            "tfdistill.distill.losses",
            "from tfdistill import Distiller",
            "tfdistill.distill.losses:1 imports tfdistill",
        ),
        (
            "tfdistill.distill.losses",
            "def f():\n  from tfdistill import data",
            "tfdistill.distill.losses:2 imports tfdistill.data",
        ),
        ("tfdistill.data.splits", "from ..models import bert", "tfdistill.data.splits:1 imports tfdistill.models"),
        (
            "tfdistill.export.bench.host",
            "from .. import verify",
            "tfdistill.export.bench.host:1 imports tfdistill.export.verify",
        ),
        (
            "tfdistill.export.verify",
            "import tfdistill.training.runner",
            "tfdistill.export.verify:1 imports tfdistill.training.runner",
        ),
        ("tfdistill.helpers", "", "tfdistill.helpers is in no row of ROOMS"),
    ],
)
def test_checker_finds_an_upward_import(module: str, source: str, expected: str) -> None:
    assert upward_imports(BELOW) == []
    assert upward_imports(BELOW | {module: (source, False)}) == [expected]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"tfdistill.export.verify": ("import keras.ops", False)},
            "tfdistill.export.verify: tfdistill.export.verify imports keras.ops",
        ),
        (
            {"tfdistill.data.splits": ("try:\n  import tensorflow as tf\nexcept ImportError: pass", False)},
            "tfdistill.export.verify: tfdistill.data.splits imports tensorflow",
        ),
        ({"tfdistill.data": ("import tf_keras", True)}, "tfdistill.export.verify: tfdistill.data imports tf_keras"),
    ],
)
def test_checker_finds_tensorflow(changed: Sources, expected: str) -> None:
    assert tensorflow_imports(("tfdistill.export.verify",), BELOW) == []
    assert tensorflow_imports(("tfdistill.export.verify",), BELOW | changed) == [expected]


def test_checker_lets_typing_imports_pass() -> None:
    typing_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import tensorflow"
    assert (
        tensorflow_imports(("tfdistill.export.verify",), BELOW | {"tfdistill.export.verify": (typing_only, False)})
        == []
    )


def test_only_the_console_prints():
    """So that no name can be taken for markup: rich is used in one module."""
    users = {
        name for name, (source, _) in project_sources().items() if "from rich" in source or "import rich" in source
    }
    assert users == {"tfdistill.system.console"}
