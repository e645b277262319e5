"""Where the rows come from, and how what is found there is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from tunesmith.data.contract import ContractConfig
from tunesmith.data.query import find_query_problem
from tunesmith.data.reader_options import ReaderOptions
from tunesmith.data.transforms import Transform
from tunesmith.section import NOT_IN_KEY, Section, refuse_at
from tunesmith.store.s3 import S3Config, find_uri_problem, is_s3_uri

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
VARIABLE_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _resolve_file(value: str, info: ValidationInfo) -> str:
    if is_s3_uri(value):
        problem = find_uri_problem(value)
        if problem is not None:
            raise ValueError(problem)
        return value
    if "://" in value:
        raise ValueError("neither a path nor an s3:// address; fetch the file, and name its path")
    folder = (info.context or {}).get("folder")
    return str(Path(escape(str(Path(folder).absolute()))) / value) if folder is not None else value


FileName = Annotated[str, AfterValidator(_resolve_file)]
"""A path or glob, relative to the recipe and absolute once loaded; or an s3:// address, which may be a glob too.

Of what the recipe's folder is called nothing is a pattern."""


class NamedSource(Section):
    """What every source has."""

    name: str | None = Field(default=None, max_length=100, pattern=NAME_PATTERN)
    """What the source is called; needed when there are several, where each row has it in the column `source_name`."""
    weight: Annotated[float, NOT_IN_KEY] = Field(default=1.0, gt=0, le=1000)
    """How often the source's rows count in the train split: 2 is twice, 0.5 every second one."""


class FilesSource(NamedSource, ReaderOptions):
    """Files on this machine or on S3."""

    files: Annotated[tuple[FileName, ...], NOT_IN_KEY, Field(min_length=1)]
    """Files or globs, relative to the recipe, or s3:// addresses; each plain, .gz, .bz2 or .zst. Globs go by name."""
    s3: Annotated[S3Config | None, NOT_IN_KEY] = None
    """Where the s3:// addresses lead, when it is not what the environment says."""

    @model_validator(mode="after")
    def _s3_is_used(self) -> Self:
        if self.s3 is not None and not any(map(is_s3_uri, self.files)):
            refuse_at(type(self), {"s3": "has no effect: none of the files is an s3:// address"})
        return self

    def file_names(self) -> tuple[str, ...]:
        """The files and globs."""
        return self.files


class HubOptions(Section):
    """Which files of which dataset on the Hugging Face Hub."""

    dataset: str = Field(pattern=r"^[\w.-]+/[\w.-]+$|^[\w.-]+$")
    """The dataset's id, such as `org/name`."""
    revision: str = Field(min_length=1)
    """The commit, or a tag; a branch can move, and is resolved to its commit at each fetch."""
    files: tuple[str, ...] = Field(min_length=1)
    """Files or globs in the dataset's repository, such as `data/train-*.parquet`."""


class HubSource(NamedSource, ReaderOptions):
    """Files of a dataset on the Hugging Face Hub. A token is taken from HF_TOKEN or `hf auth login`."""

    hub: Annotated[HubOptions, NOT_IN_KEY]
    """Which files of which dataset."""

    def file_names(self) -> tuple[str, ...]:
        """The files and globs."""
        return self.hub.files


class SqlOptions(Section):
    """What a database is asked."""

    connection: str = Field(min_length=1)
    """The environment variable that holds the database's URL, or a URL without a password."""
    query: str = Field(min_length=1)
    """One SELECT. With ORDER BY its rows keep that order; without, they are sorted by their values."""

    @field_validator("query")
    @classmethod
    def _only_reads(cls, value: str) -> str:
        problem = find_query_problem(value)
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("connection")
    @classmethod
    def _holds_no_password(cls, value: str, info: ValidationInfo) -> str:
        if VARIABLE_PATTERN.fullmatch(value):
            return value
        if "://" not in value:
            raise ValueError("must be the name of an environment variable, or a URL such as sqlite:///reviews.db")
        if re.search(r"://[^/@]*:[^/@]+@", value) or re.search(r"[?&]password=", value, re.IGNORECASE):
            raise ValueError(
                "a recipe holds no password; put the URL into an environment variable, and write that variable's name"
            )
        folder = (info.context or {}).get("folder")
        prefix = "sqlite:///"
        if value.startswith(prefix) and folder is not None and not value.startswith(f"{prefix}file:"):
            return prefix + str((Path(folder) / value.removeprefix(prefix)).absolute())
        return value


class SqlSource(NamedSource):
    """The rows of a query."""

    sql: Annotated[SqlOptions, NOT_IN_KEY]
    """Which database, and the query."""

    @model_validator(mode="before")
    @classmethod
    def _is_no_file(cls, value: Any) -> Any:
        names = [name for name in value if name in ReaderOptions.model_fields] if isinstance(value, Mapping) else []
        refuse_at(cls, dict.fromkeys(names, "has no effect on sql, only on files"))
        return value


def _source_tag(value: object) -> str | None:
    found = [name for name in ("files", "hub", "sql") if isinstance(value, Mapping) and name in value]
    if isinstance(value, NamedSource):
        found = [name for name in ("files", "hub", "sql") if name in type(value).model_fields]
    return found[0] if len(found) == 1 else None


Source = Annotated[
    Annotated[FilesSource, Tag("files")] | Annotated[HubSource, Tag("hub")] | Annotated[SqlSource, Tag("sql")],
    Discriminator(
        _source_tag,
        custom_error_type="source",
        custom_error_message="a source has exactly one of the keys files, hub and sql",
    ),
]
"""One source: in YAML a mapping with `files`, `hub` or `sql`."""


class StreamingConfig(Section):
    """How rows are read that are too many for the disk or for memory: while training goes on."""

    shuffle_buffer: int = Field(default=10_000, ge=1)
    """For how many rows a row is held back on average; about as many are in memory."""
    sample_rows: int = Field(default=100_000, ge=1)
    """How many rows are taken out beforehand: the profile, the validation and the test are of them."""
    max_copied_bytes: int = Field(default=20_000_000_000, ge=1)
    """How much of S3 may lie on this disk: of a source with more, objects are copied when they are read, and go."""


class DataConfig(Section):
    """Where the rows come from, how they are read, and how they are cleaned."""

    sources: tuple[Source, ...] = Field(min_length=1)
    """Where the rows come from; they follow each other in this order."""
    transforms: tuple[Transform, ...] = ()
    """What is done with the rows, in this order."""
    contract: ContractConfig | None = None
    """What every row must be; what is not goes to quarantine."""
    streaming: Annotated[StreamingConfig | None, NOT_IN_KEY] = None
    """Reads the training rows from the files while training goes on; only a sample of them is kept."""

    @property
    def weights(self) -> dict[str, float]:
        """How often the rows of each source count in the train split, by its name; empty where all count once."""
        weights = {source.name: source.weight for source in self.sources if source.name is not None}
        return weights if any(weight != 1 for weight in weights.values()) else {}

    @field_validator("sources")
    @classmethod
    def _sources_are_told_apart(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        mistakes: dict[tuple[int, str], str] = {}
        times = Counter(source.name for source in sources)
        for index, source in enumerate(sources):
            if len(sources) == 1 and source.name is not None:
                mistakes[index, "name"] = "has no effect with a single source"
            if len(sources) == 1 and source.weight != 1:
                mistakes[index, "weight"] = "has no effect with a single source"
            if len(sources) > 1 and source.name is None:
                mistakes[index, "name"] = "missing: of several sources each has a name; rows have it as `source_name`"
            if source.name is not None and times[source.name] > 1:
                mistakes[index, "name"] = f"{source.name!r} names {times[source.name]} sources; give each its own name"
        refuse_at(cls, mistakes)
        return sources


def reader_options(source: Source) -> ReaderOptions:
    """How the files that a source was fetched into are read; nothing can be chosen for the rows of a query."""
    if isinstance(source, SqlSource):
        return ReaderOptions()
    names = source.model_fields_set & ReaderOptions.model_fields.keys()
    return ReaderOptions.model_construct(names, **{name: getattr(source, name) for name in names})
