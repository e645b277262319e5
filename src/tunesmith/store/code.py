"""Which of our code a stage is made of: the modules that it imports, directly or through others.

Read from the source, never imported: an edited helper changes the identity of exactly the stages that reach it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

PACKAGE = "tunesmith"
IMPORT_STATEMENT = re.compile(
    r"^[ \t]*(?:import[ \t]+[\w., \t]+|from[ \t]+[\w.]+[ \t]+import[ \t]+(?:\([^)]*\)|[\w,. \t*]+))",
    re.MULTILINE,
)
"""An import statement, as a formatter writes it: alone, on a line or in brackets. A test checks it."""

PACKAGE_ROOT = Path(__file__).resolve().parent.parent


def code_identity(roots: Iterable[str], *, package_root: Path = PACKAGE_ROOT) -> dict[str, str]:
    """The sha256 of every module of ours that `roots` import, transitively.

    Args:
        roots: Module names, such as `tunesmith.features.encode`.
        package_root: The folder of the package, for tests on a copy.

    Returns:
        Module name -> first 16 hex digits of the sha256 of its source, sorted by name.
    """
    found: dict[str, str] = {}
    pending = list(roots)
    while pending:
        module = pending.pop()
        if module in found:
            continue
        path = _find_source(module, package_root)
        if path is None:
            raise ModuleNotFoundError(f"{module}: no such module below {package_root}")
        digest, imports = _read_module(module, path, path.stat().st_mtime_ns, package_root)
        found[module] = digest
        pending.extend(imports)
    return dict(sorted(found.items()))


@lru_cache(maxsize=1024)
def _read_module(module: str, path: Path, _mtime_ns: int, package_root: Path) -> tuple[str, tuple[str, ...]]:
    source = path.read_bytes()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imports = {name for name in _imported_names(source, package) if _find_source(name, package_root)}
    return hashlib.sha256(source).hexdigest()[:16], tuple(sorted(imports))


def _imported_names(source: bytes, package: str) -> Iterator[str]:
    # Only the import statements are parsed: parsing all of a module takes fifty times as long.
    for node in _parse([statement.strip() for statement in IMPORT_STATEMENT.findall(source.decode())]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from _with_parents(base)
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _parse(statements: Sequence[str]) -> list[ast.stmt]:
    try:
        return ast.parse("\n".join(statements)).body
    except SyntaxError:  # a line of prose that begins like one
        return [] if len(statements) == 1 else [node for one in statements for node in _parse([one])]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that names are imported from."""
    base = node.module or ""
    if not node.level:
        return base
    parent = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parent, base] if base else parent)


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])


@lru_cache(maxsize=4096)
def _find_source(module: str, package_root: Path) -> Path | None:
    package, *rest = module.split(".")
    if package != PACKAGE:
        return None
    path = package_root.joinpath(*rest)
    for candidate in (path / "__init__.py", path.with_suffix(".py")):
        if candidate.is_file():
            return candidate
    return None
