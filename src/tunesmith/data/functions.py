"""A user's own function on rows: found by its import path, identified by its source, called with every row."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any, NoReturn

from tunesmith.data.columns import shorten
from tunesmith.data.files import find_nearest
from tunesmith.data.transforms import FunctionOptions
from tunesmith.errors import DataError

Row = dict[str, Any]
Origin = Callable[[int], str]


@dataclass(frozen=True)
class Source:
    """The source files of a function.

    Attributes:
        modules: Module name -> file: the function's module, and what it imports from the same folder or package.
        is_installed: Whether Python's own import finds them; otherwise they lie beside the recipe.
    """

    modules: Mapping[str, Path]
    is_installed: bool


def function_digest(options: FunctionOptions) -> str:
    """The sha256 of a function's source: of its module, and what that imports from the same folder or package.

    Raises:
        DataError: There is no such module, or it is not valid Python.
    """
    digest = hashlib.sha256()
    for name, path in sorted(_find_source(options).modules.items()):
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def call_with_rows(options: FunctionOptions, rows: Iterable[Row], origins: Origin) -> list[Row | None]:
    """Call a function with every row.

    Returns:
        What it returned: a row with text keys, or None.

    Raises:
        DataError: There is no such function, it raised, or it returned something else; names the row.
    """
    source = _find_source(options)
    with _load(options, source) as function:
        called = f"function {options.path}"
        return [_call(function, row, f"{origins(index)}: {called}", source) for index, row in enumerate(rows)]


def _call(function: Callable[[Row], Any], row: Row, place: str, source: Source) -> Row | None:
    try:
        result = function(row)
    except Exception as error:  # the user's own code may raise anything; the row belongs into the message
        raise DataError(f"{place} raised {_describe(error, source)}. Correct the function or the row.") from error
    if result is None:
        return None
    if not isinstance(result, dict) or not result or not all(isinstance(name, str) for name in result):
        raise DataError(
            f"{place} returned {shorten(result)}. It must return a dict with the columns' names as keys, or None to "
            "drop the row."
        )
    return result


class _SourceCollector(ModuleFinder):
    """Collects the modules that a module imports, read from the source: those of one folder or one package."""

    def __init__(self, folder: Path, package: str | None) -> None:
        super().__init__([str(folder)])
        self._package = package

    def find_module(self, name: str, path: str | None, parent: Any = None) -> Any:
        top = (parent.__name__ if parent else name).partition(".")[0]
        is_foreign = top in sys.stdlib_module_names if self._package is None else top != self._package
        if is_foreign and name != "__init__":  # the base asks for a package's own __init__ without saying whose
            raise ImportError(name)
        return super().find_module(name, path, parent)


def _find_source(options: FunctionOptions) -> Source:
    module = options.path.partition(":")[0]
    top = module.partition(".")[0]
    folder = Path(options.folder)
    is_beside = (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file()
    if not is_beside:
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin is None:
            _refuse_module(options, folder)
        origin = Path(spec.origin)
        folder = origin.parent.parent if spec.submodule_search_locations else origin.parent
    collector = _SourceCollector(folder, None if is_beside else top)
    try:
        collector.import_hook(module)
    except ImportError:
        _refuse_module(options, folder)
    except SyntaxError as error:
        raise DataError(
            f"function {options.path}: {error.filename}:{error.lineno}: not Python: {error.msg}. Correct the line."
        ) from None
    files = {name: Path(vars(found)["__file__"] or "") for name, found in collector.modules.items()}
    return Source({name: file for name, file in files.items() if file.suffix == ".py"}, is_installed=not is_beside)


def _refuse_module(options: FunctionOptions, folder: Path) -> NoReturn:
    module = options.path.partition(":")[0]
    beside = sorted(path.stem for path in Path(options.folder).glob("*.py"))
    raise DataError(
        f"function {options.path}: there is no module {module} in {folder}, and none is installed."
        f"{find_nearest(module, beside)} Correct the path, or put {module.replace('.', '/')}.py there."
    )


class _FreshLoader(SourceFileLoader):
    """Runs the source as it is now: bytecode caches compare whole seconds, and have no place beside a recipe."""

    def path_stats(self, path: str) -> NoReturn:
        raise OSError(f"no bytecode for {path}")


class _SourceImporter(MetaPathFinder):
    """Imports the collected modules, and only those."""

    def __init__(self, modules: Mapping[str, Path]) -> None:
        self._modules = modules

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        file = self._modules.get(fullname)
        if file is None:
            return None
        places = [str(file.parent)] if file.name == "__init__.py" else None
        loader = _FreshLoader(fullname, str(file))
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=places)


@contextmanager
def _load(options: FunctionOptions, source: Source) -> Iterator[Callable[[Row], Any]]:
    """The function; modules beside the recipe can be imported while the context lasts, and are forgotten after it."""
    if source.is_installed:
        yield _import_function(options, source)
        return
    importer = _SourceImporter(source.modules)
    hidden = {name: sys.modules.pop(name) for name in source.modules if name in sys.modules}
    sys.meta_path.insert(0, importer)
    try:
        yield _import_function(options, source)
    finally:
        sys.meta_path.remove(importer)
        for name in source.modules:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def _import_function(options: FunctionOptions, source: Source) -> Callable[[Row], Any]:
    module_name, _, name = options.path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing the user's own code may raise anything
        raise DataError(
            f"function {options.path}: importing {module_name} raised {_describe(error, source)}. Correct the module."
        ) from error
    function: Callable[[Row], Any] | None = getattr(module, name, None)
    if not callable(function):
        present = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise DataError(
            f"function {options.path}: {source.modules[module_name]} has no function {name!r} (functions present: "
            f"{', '.join(present) or 'none'}).{find_nearest(name, present)} Correct the path."
        )
    return function


def _describe(error: Exception, source: Source) -> str:
    files = {str(path) for path in source.modules.values()}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
