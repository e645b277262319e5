"""A user's own function on rows: found by its import path, identified by its source, imported without a trace."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from modulefinder import ModuleFinder
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple, NoReturn

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from tunesmith.data.nearest import find_nearest
from tunesmith.errors import DataError
from tunesmith.section import RecipePath, Section


class FunctionOptions(Section):
    """Which function of yours is called with the rows."""

    path: str
    """`module:function`. It gets a row as a dict and returns a row, or None to drop it. Its source shapes the key."""
    folder: Annotated[RecipePath, AfterValidator(os.path.abspath), Field(validate_default=True)] = "."
    """Where the module lies, relative to the recipe; what is not found there must be installed."""
    batched: bool = False
    """Whether it gets and returns many rows at once, as a dict with a list a column."""
    batch_size: int | None = Field(default=None, ge=1, le=100_000)
    """How many rows it gets at most, 1,000 by default; only with `batched`."""

    @field_validator("path")
    @classmethod
    def _is_an_import_path(cls, value: str) -> str:
        module, _, function = value.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), function]):
            raise ValueError("must be `module:function`, such as `cleaning:fix_label`")
        return value

    @field_validator("batch_size")
    @classmethod
    def _has_an_effect(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("batched", True):
            raise ValueError("has no effect without `batched: true`")
        return value


@dataclass(frozen=True)
class Source:
    """The source files of a function.

    Attributes:
        modules: Module name -> file: the function's module, and what it imports from the same folder or package.
        is_installed: Whether Python's own import finds them; otherwise they lie beside the recipe.
    """

    modules: Mapping[str, Path]
    is_installed: bool

    def digest(self) -> str:
        """The sha256 of all files."""
        digest = hashlib.sha256()
        for name, path in sorted(self.modules.items()):
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def describe(self, error: Exception) -> str:
        """What a function raised, with the line in its source."""
        files = {str(path) for path in self.modules.values()}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
        return f"{type(error).__name__}: {error}{place}"


class LoadedFunction(NamedTuple):
    """A function that can be called, and where it came from."""

    call: Callable[[Any], Any]
    source: Source


def function_digest(options: FunctionOptions) -> str:
    """The sha256 of a function's source: of its module, and what that imports from the same folder or package.

    Raises:
        DataError: There is no such module, or it is not valid Python.
    """
    return _find_source(options).digest()


@contextmanager
def open_function(options: FunctionOptions) -> Iterator[LoadedFunction]:
    """A user's function; modules beside the recipe can be imported while the context lasts, and are hidden after it.

    A module runs once for each version of its source, however often its functions are opened.

    Raises:
        DataError: There is no such function, or importing its module raised.
    """
    source = _find_source(options)
    if source.is_installed:
        yield LoadedFunction(_import_function(options, source), source)
        return
    with _importable(source, _find_loaded(options.folder, source.digest())):
        yield LoadedFunction(_import_function(options, source), source)


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


@lru_cache(maxsize=32)
def _find_loaded(_folder: str, _digest: str) -> dict[str, ModuleType]:
    """The modules of a function's source that were imported already; filled by those who import more."""
    return {}


@contextmanager
def _importable(source: Source, loaded: dict[str, ModuleType]) -> Iterator[None]:
    importer = _SourceImporter(source.modules)
    hidden = {name: sys.modules.pop(name) for name in source.modules if name in sys.modules}
    sys.modules.update(loaded)
    sys.meta_path.insert(0, importer)
    try:
        yield
    finally:
        sys.meta_path.remove(importer)
        loaded.update({name: sys.modules.pop(name) for name in source.modules if name in sys.modules})
        sys.modules.update(hidden)


def _import_function(options: FunctionOptions, source: Source) -> Callable[[Any], Any]:
    module_name, _, name = options.path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # importing the user's own code may raise anything
        raise DataError(
            f"function {options.path}: importing {module_name} raised {source.describe(error)}. Correct the module."
        ) from error
    function: Callable[[Any], Any] | None = getattr(module, name, None)
    if not callable(function):
        present = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise DataError(
            f"function {options.path}: {source.modules[module_name]} has no function {name!r} (functions present: "
            f"{', '.join(present) or 'none'}).{find_nearest(name, present)} Correct the path."
        )
    return function
