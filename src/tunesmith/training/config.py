"""How a base model is fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from tunesmith.data.functions import FunctionOptions
from tunesmith.section import NOT_IN_KEY, Conflict, Section

STATE_BYTES = {"adamw": 8, "adafactor": 0, "sgd": 4}
"""What an optimizer keeps of each trained parameter, in bytes: of Adafactor's rows and columns, nothing to speak of."""


class TrainConfig(Section):
    """How a base model is fine-tuned. Both engines use every field."""

    engine: Literal["loop", "trainer"] = "loop"
    """`loop`: our PyTorch loop on accelerate. `trainer`: transformers' Trainer."""
    num_epochs: Annotated[int, Field(ge=1)] = 1
    """How often each training example is seen."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many steps, where `num_epochs` would take more."""
    validation_steps: Annotated[Annotated[int, Field(ge=1)] | None, NOT_IN_KEY] = None
    """Steps between two validations, with data.streaming; without it, one follows each epoch."""
    per_device_train_batch_size: Annotated[int, Field(ge=1)] = 32
    """Examples of one micro-batch, on each device; validation uses the same."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] = 1
    """Micro-batches of one step. The effective batch size is this times `per_device_train_batch_size`, times
    `num_processes`."""
    num_processes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that train together, each on a GPU of its own, or where there is none on its part of the cores."""
    fsdp: bool = False
    """Whether each process keeps only its share of the weights, the gradients and the optimizer's numbers, for models
    that one device has no room for. The same result as without, to rounding; more talk between the devices."""
    max_micro_batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Most tokens that go through the model at once, padding included. A micro-batch with more is computed in parts,
    which takes less memory and gives the same gradient; where memory runs out, this comes down by itself."""
    optimizer: Literal["adamw", "adafactor", "sgd"] = "adamw"
    """AdamW keeps two numbers for each weight, `sgd` one (Nesterov momentum 0.9), `adafactor` a row and a column of a
    matrix; its learning rates are those of AdamW."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-5
    """The highest learning rate, reached when the warmup ends."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    """How much each step shrinks the weights; biases and normalization weights are exempt."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The fraction of all steps in which the learning rate rises from 0."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warmup: to 0 in a line or a half cosine, or not at all."""
    max_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Gradients are scaled down to at most this norm, before each step."""
    load_best_model_at_end: bool = False
    """Whether the result is the model of the validation with the lowest loss, and not that of the last step."""
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many validations in a row without a lower loss; the result is the model of the lowest."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of each label that is spread evenly over all classes, or words; the validation loss stays without."""
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """How much an example counts by its label: `{rare: 5.0}`, others 1, or `balanced`: all labels together alike."""
    callbacks: Annotated[tuple[FunctionOptions, ...], NOT_IN_KEY] = ()
    """With the engine `trainer`: your classes derived from transformers' TrainerCallback, `[{path: "watching:Plot"}]`.
    They watch, and may set `should_training_stop`; their source is in the key."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`bf16` computes in bfloat16 where that is safe, on fp32 weights; `auto` does so where a device is good at it."""
    batching: Literal["auto", "packed", "grouped", "padded"] = "auto"
    """What becomes of examples of different length. `packed`: any share a batch, and padding is taken out before the
    model's layers, all but attention. `grouped`: those of like length share one. `padded`: any share one, and padding
    is computed, too. `auto`: packed where the model can be, else grouped."""
    compile: bool = False
    """Whether torch.compile makes one program of the model, for batches of any size: faster steps on GPUs, after a
    minute or more of compiling. On CPUs it has not paid."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the new head, the adapter, the order of the examples and the dropout."""
    save_steps: Annotated[int, Field(ge=1), NOT_IN_KEY] = 100
    """Steps between checkpoints; where the best model is the result, one more follows each validation that is the best
    so far."""
    logging_steps: Annotated[int, Field(ge=1)] = 10
    """Steps between two rows of training metrics."""

    @property
    def common_batch_size(self) -> int:
        """Examples of one micro-batch of all processes together."""
        return self.per_device_train_batch_size * self.num_processes

    @property
    def keeps_best(self) -> bool:
        """Whether the result is the model of the lowest validation loss."""
        return self.load_best_model_at_end or self.early_stopping_patience is not None

    @classmethod
    def find_conflicts(cls, values: Mapping[str, Any]) -> Iterable[Conflict]:
        """Options of the training that have no effect, or do not go with another."""
        yield from _find_in_callbacks(values)
        if values.get("compile") is True and values.get("batching") == "packed":
            yield ("compile",), "does not go with batching: packed, as a pack has another shape each step"
        yield from _find_in_fsdp(values)
        yield from _find_in_keeping_best(values)


def _find_in_callbacks(values: Mapping[str, Any]) -> Iterable[Conflict]:
    callbacks = values.get("callbacks")
    if not callbacks or not isinstance(callbacks, (list, tuple)):
        return
    if values.get("engine", "loop") == "loop":
        yield ("callbacks",), "are called by the engine trainer alone: set engine, or remove them"
    for index, options in enumerate(callbacks):
        if isinstance(options, Mapping) and options.get("batched") is True:
            yield ("callbacks", index, "batched"), "has no effect on a callback; remove it"


def _find_in_fsdp(values: Mapping[str, Any]) -> Iterable[Conflict]:
    mistakes = {
        "has no effect on a single process: raise num_processes, or remove it": values.get("num_processes", 1) == 1,
        "does not go with compile: remove one of them": values.get("compile") is True,
        "does not go with adafactor, which needs whole matrices: use adamw or sgd": (
            values.get("optimizer") == "adafactor"
        ),
    }
    found = [text for text, is_made in mistakes.items() if is_made]
    if values.get("fsdp") is True and found:
        yield ("fsdp",), "; ".join(found)


def _find_in_keeping_best(values: Mapping[str, Any]) -> Iterable[Conflict]:
    if values.get("early_stopping_patience") is not None:
        name = "early_stopping_patience"
    elif values.get("load_best_model_at_end") is True:
        name = "load_best_model_at_end"
    else:
        return
    between, steps = values.get("validation_steps"), values.get("max_steps")
    if between is None and values.get("num_epochs", 1) == 1:
        yield (name,), "has no effect on a single validation: raise num_epochs, or remove it"
    if isinstance(between, int) and isinstance(steps, int) and between >= steps:
        text = f"lower validation_steps ({between:,}) below max_steps ({steps:,}), or remove it"
        yield (name,), f"has no effect on a single validation: {text}"
