from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sessionactor
import sessionactor.checkup
import sessionactor.cli
import sessionactor.interchange

PACKAGE = Path(sessionactor.__file__).parent
ROOT = Path(__file__).parent.parent
MODULES = sorted(path.stem.removeprefix("_") for path in PACKAGE.glob("_[a-z]*.py"))
FILES = sorted(PACKAGE.rglob("*.py"))
BETWEEN = {"checkup", "interchange"}
"""Packages that are layers of their own: above the edges, not among them."""
WITH_A_MAP = [sessionactor.checkup, sessionactor.cli, sessionactor.interchange]


def layers(package: ModuleType = sessionactor) -> list[list[str]]:
    """The modules as a package's docstring lists them: a layer a row, top to bottom."""
    assert package.__doc__ is not None
    rows: list[list[str]] = []
    going_on = False
    for line in package.__doc__.splitlines():
        found = re.fullmatch(r" {4}([a-z_]+(?:, [a-z_]+)*)(,?)(?: {2,}\S.*)?", line)
        if found:
            words = found[1].split(", ")
            if going_on:
                rows[-1] += words
            else:
                rows.append(words)
            going_on = bool(found[2])
    return rows


def folder(package: ModuleType) -> Path:
    assert package.__file__ is not None
    return Path(package.__file__).parent


def order(package: ModuleType = sessionactor) -> list[str]:
    """All modules, each after everything that it may import."""
    return [module for layer in layers(package) for module in layer]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.fixture(scope="module", autouse=True)
def _trees_do_not_outlive_their_tests() -> Iterator[None]:
    """They are so many objects that each garbage collection of the others would take long."""
    yield
    tree.cache_clear()


def imports(path: Path) -> Iterator[str]:
    """Full names of all that a module imports, wherever it does."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(module: str) -> set[str]:
    """The modules of the package that one of them imports."""
    found = set()
    for name in imports(PACKAGE / f"_{module}.py"):
        parts = name.split(".")
        if parts[0] == "sessionactor" and len(parts) > 1:
            found.add(parts[1].removeprefix("_"))
    return found & set(MODULES)


def strings(path: Path) -> Iterator[str]:
    """All string constants of a module but its docstrings."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in documentation
        ):
            yield node.value


def test_the_map_at_the_door_has_the_layers_of_the_design() -> None:
    first_of_each = [
        *("errors", "nesting", "syncing", "mailbox", "actor", "arguments", "supervisor"),
        "interchange",
    ]
    assert [layer[0] for layer in layers()] == first_of_each
    assert layers()[-2][-1] == "registry"
    assert set(layers()[-1]) == BETWEEN


def test_every_module_has_its_place_on_the_map() -> None:
    assert sorted(order()) == sorted([*MODULES, *BETWEEN])
    for package in WITH_A_MAP:
        rooms = [path.stem.removeprefix("_") for path in folder(package).glob("_[a-z]*.py")]
        assert sorted(order(package)) == sorted(rooms)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_above_it(module: str) -> None:
    above = order()[: order().index(module)]
    assert own_imports(module) <= set(above)


@pytest.mark.parametrize(
    ("package", "module"),
    [(package, module) for package in WITH_A_MAP for module in order(package)],
)
def test_a_module_of_a_package_imports_only_what_stands_above_it(
    package: ModuleType, module: str
) -> None:
    above = order(package)[: order(package).index(module)]
    own = f"{package.__name__}._"
    for name in imports(folder(package) / f"_{module}.py"):
        if name.startswith(own):
            assert name.removeprefix(own).split(".")[0] in above
        elif name.startswith("sessionactor") and package.__name__.split(".")[1] in BETWEEN:
            assert name == "sessionactor" or name.split(".")[1].startswith("_"), name


def test_no_module_imports_from_the_package_root_or_from_an_edge() -> None:
    for module in MODULES:
        for name in imports(PACKAGE / f"_{module}.py"):
            if name.startswith("sessionactor."):
                assert name.split(".")[1].startswith("_"), f"{module} imports {name}"


def test_edges_import_no_other_edge() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    edges = packages - BETWEEN
    assert {"cli", "testing"} <= edges
    for edge in edges:
        for path in (PACKAGE / edge).rglob("*.py"):
            found = {name.split(".")[1] for name in imports(path) if name.count(".")}
            assert not found & (edges - {edge}), path


def test_the_command_line_stands_on_public_names_alone() -> None:
    for path in (PACKAGE / "cli").rglob("*.py"):
        for name in imports(path):
            package, *parts = name.split(".")
            if package == "sessionactor" and parts[:1] != ["cli"]:
                assert not any(re.match(r"_[a-z]", part) for part in parts), f"{path}: {name}"


def test_an_adapter_stands_on_public_names_alone_and_imports_no_other() -> None:
    for path in (PACKAGE / "adapters").glob("*.py"):
        for name in imports(path):
            package, *parts = name.split(".")
            if package == "sessionactor" and parts[:1] != ["adapters"]:
                assert not any(re.match(r"_[a-z]", part) for part in parts), f"{path}: {name}"
            elif name.startswith("sessionactor.adapters."):
                assert name.split(".")[2].startswith("_"), f"{path}: {name}"


def test_only_the_stores_import_aiosqlite() -> None:
    importers = {path.name for path in FILES if "aiosqlite" in set(imports(path))}
    assert importers == {"_store.py", "_catalog_file.py"}


@pytest.mark.parametrize("module", ["paging", "draft", "operations", "deciding"])
def test_what_decides_is_pure(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(PACKAGE / f"_{module}.py")}
    assert not roots & {
        *("asyncio", "anyio", "aiosqlite", "sqlite3", "os", "time", "datetime", "random"),
        *("secrets", "uuid", "threading", "pathlib", "logging"),
    }
    assert "times" not in own_imports(module)


def test_the_handle_meets_neither_actor_nor_mailbox_nor_registry() -> None:
    handle = layers()[5]
    assert handle[-1] == "session"
    for module in handle:
        assert not own_imports(module) & {
            "actor",
            "mailbox",
            "activation",
            "supervisor",
            "registry",
        }
    assert not own_imports("actor") & {"session", "directory", "disk", "registry", "files"}


def test_sql_is_spoken_in_rooms_of_its_own() -> None:
    speakers = {
        path.name
        for path in FILES
        if any(
            re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE)\s", text) for text in strings(path)
        )
        and path.parent == PACKAGE
    }
    assert speakers == {
        *("_dumping.py", "_inserting.py", "_loading.py", "_reading.py", "_schema.py", "_sql.py"),
        "_takeover.py",
        *("_catalog_docs.py", "_catalog_queries.py", "_catalog_schema.py", "_catalog_sql.py"),
        "_catalog_stage.py",
        "_catalog_writing.py",
    }


def test_file_names_are_built_in_one_place() -> None:
    builders = {
        path.name
        for path in PACKAGE.glob("*.py")
        if any(text.endswith((".db", "-wal", "-shm")) for text in strings(path))
    }
    assert builders == {"_names.py"}


def test_the_actors_loop_fits_on_a_screen() -> None:
    (actor,) = [
        node
        for node in ast.walk(tree(PACKAGE / "_actor.py"))
        if isinstance(node, ast.ClassDef) and node.name == "Actor"
    ]
    (run,) = [
        node for node in actor.body if isinstance(node, ast.AsyncFunctionDef) and node.name == "run"
    ]
    assert run.end_lineno is not None
    assert run.end_lineno - run.lineno < 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_file_is_much_over_300_lines(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= 360


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_named_for_nothing(path: Path) -> None:
    assert path.stem.strip("_") not in {"utils", "util", "helpers", "common", "misc", "core"}


def test_the_door_reexports_and_does_nothing_else() -> None:
    for node in tree(PACKAGE / "__init__.py").body[1:]:
        assert isinstance(node, ast.ImportFrom | ast.Assign), ast.unparse(node)


# the public names


PUBLIC = [
    (module, name)
    for module in (
        *("sessionactor", "sessionactor.checkup", "sessionactor.interchange"),
        "sessionactor.testing",
    )
    for name in importlib.import_module(module).__all__
]


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """The public functions and properties that a class defines, tests aside."""
    for name, member in vars(value).items():
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        if isinstance(member, property):
            member = member.fget
        if not name.startswith(("_", "test_")) and inspect.isfunction(member):
            yield name, member


def annotated(function: Any) -> bool:
    signature = inspect.signature(function)
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    empty = inspect.Signature.empty
    return all(parameter.annotation is not empty for parameter in parameters) and (
        signature.return_annotation is not empty
    )


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_name_is_importable_documented_and_annotated(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+", value)
    elif inspect.isclass(value):
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")  # a NamedTuple's own is no documentation
        for member_name, member in members(value):
            documented = inspect.getdoc(getattr(value, member_name))
            assert documented or issubclass(value, Exception), member_name
            assert annotated(member), member_name
        if "__init__" in vars(value) and not issubclass(value, tuple):
            assert annotated(value.__init__)
    elif inspect.isfunction(value):
        assert value.__doc__
        assert annotated(value)
    else:
        assert value is not None


def test_the_public_names_are_sorted_and_none_is_forgotten() -> None:
    assert sessionactor.__all__ == sorted(sessionactor.__all__)
    from sessionactor import _errors, _records

    for module in (_errors, _records):
        assert set(module.__all__) <= set(sessionactor.__all__)
        classes = {
            name
            for name, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module.__name__
        }
        assert classes - {"SessionError"} <= {*module.__all__}
    assert "SessionError" in sessionactor.__all__


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("SessionNotFoundError", LookupError),
        ("AmbiguousNameError", LookupError),
        ("InvalidNameError", ValueError),
        ("RegistryClosedError", RuntimeError),
        ("MessageEncodingError", TypeError),
        ("MessageTooLargeError", ValueError),
        ("StorageError", OSError),
        ("SchemaVersionError", sessionactor.StorageError),
        *((name, sessionactor.SessionError) for name in sessionactor.__all__ if "Error" in name),
    ],
)
def test_an_error_is_also_what_a_caller_would_catch(name: str, builtin: type) -> None:
    assert issubclass(getattr(sessionactor, name), builtin)


# the distribution


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_version_is_said_in_one_place_and_is_that_of_the_installed_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert (ROOT / project["tool"]["hatch"]["version"]["path"]) == PACKAGE / "__init__.py"
    installed = importlib.metadata.distributions(name="sessionactor")
    assert {found.version for found in installed} <= {sessionactor.__version__}


def test_dependencies_are_bounded_on_both_sides() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) == 3
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        for dependency in group:
            if not dependency.startswith("sessionactor"):
                assert re.fullmatch(r"[a-z-]+>=[\d.]+,<[\d.]+", dependency)
