"""How predicting is asked for, and what it answers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tunesmith.evaluation.writers import OutputFormat
from tunesmith.inference.models import Precision
from tunesmith.report.markdown import escape_text, render_table
from tunesmith.section import Section
from tunesmith.store.s3 import S3Config


class PredictConfig(Section):
    """How the rows of files are predicted for."""

    batch_size: int = Field(32, ge=1)
    """Rows that go through the model together, of like length within a shard."""
    shard_rows: int = Field(4096, ge=1)
    """Rows of a shard: what a run that is killed loses at most, and the window in which rows are sorted by length."""
    shard_format: OutputFormat = "parquet"
    """The format of the shards in a folder; a file's own name says its format."""
    precision: Precision = "fp32"
    """fp32 predicts as evaluation does; bf16 is faster where a device computes in it, and rounds differently."""
    overwrite: bool = False
    """Whether a target that exists is replaced. The finished shards of the same run are kept all the same."""
    s3: S3Config = S3Config()
    """Which S3 server, and as whom, for sources and targets there."""


class PredictReport(BaseModel):
    """What was predicted."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    model_folder: str
    """The model."""
    sources: tuple[str, ...]
    """The files that were read."""
    target: str
    """The file, or the folder of shards, that was written."""
    num_rows: int
    """Rows read, and rows written."""
    num_kept_rows: int
    """Rows of shards that an earlier run had finished."""
    num_too_long: int
    """Rows without a prediction: they are longer than the model takes, and training dropped such rows, too."""
    num_shards: int
    """Shards of the whole."""
    added_columns: tuple[str, ...]
    """The columns that the target has beyond those of the sources."""
    seconds: float
    """How long predicting took, without loading the model."""
    rows_per_second: float
    """Rows that this run predicted, by these seconds; 0 where there was nothing left to do."""

    def as_markdown(self) -> str:
        """The report as a table."""
        rows = {
            "model": self.model_folder,
            "sources": ", ".join(self.sources),
            "target": self.target,
            "rows": f"{self.num_rows:,}",
            "finished before": f"{self.num_kept_rows:,}",
            "too long": f"{self.num_too_long:,}",
            "shards": f"{self.num_shards:,}",
            "seconds": f"{self.seconds:.1f}",
            "rows a second": f"{self.rows_per_second:,.0f}",
        }
        return render_table(("predictions", ""), [(name, escape_text(value)) for name, value in rows.items()])
