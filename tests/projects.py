"""Small projects that the tests run: a recipe, its data, and a tiny random base model."""

import csv
import random
from pathlib import Path

from tiny_models import make_bert, make_llama

GOOD, BAD = ["bright", "lovely", "superb", "moving"], ["dull", "awful", "tedious", "hollow"]
FILLER = ["the", "film", "was", "and", "plot", "felt", "really", "story", "a", "bit"]

CLASSIFICATION = """\
name: reviews
examples: {{kind: text-classification, text: text, label: label}}
data: {{sources: [{{files: [reviews.csv]}}]}}
split: {{validation_fraction: 0.1, test_fraction: 0.2}}
model: {{base: ./model{lora}}}
tokenize: {{max_length: 24}}
train: {{engine: {engine}, num_epochs: {num_epochs}, per_device_train_batch_size: 8, learning_rate: 0.003,
        logging_steps: 2, save_steps: 5, precision: fp32}}
gate: {{require_baseline: false, min_examples: 5}}
"""

GENERATION = """\
name: stories
examples: {{kind: text-generation, text: text, max_new_tokens: 8}}
data: {{sources: [{{files: [stories.txt]}}]}}
split: {{validation_fraction: 0.1, test_fraction: 0.2}}
model: {{base: ./model{lora}}}
tokenize: {{max_length: 32}}
train: {{engine: {engine}, num_epochs: {num_epochs}, per_device_train_batch_size: 8, learning_rate: 0.003,
        logging_steps: 2, save_steps: 5, precision: fp32}}
gate: {{min_examples: 5}}
"""

LORA = ", lora: {r: 4, lora_alpha: 8}"


def review_rows(num_rows: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts whose label follows from one word of theirs."""
    generator = random.Random(seed)
    rows = []
    for number in range(num_rows):
        label, words = ("positive", GOOD) if number % 2 else ("negative", BAD)
        text = [*generator.choices(FILLER, k=generator.randint(3, 12)), generator.choice(words), f"n{number}"]
        generator.shuffle(text)
        rows.append({"text": " ".join(text), "label": label})
    return rows


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_classification(folder: Path, *, num_rows: int = 120, num_epochs: int = 2, engine: str = "loop", lora=False):
    """A folder with reviews.csv, model/ and recipe.yaml; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "reviews.csv", review_rows(num_rows))
    make_bert(folder / "model", [*GOOD, *BAD, *FILLER])
    return _write_recipe(folder, CLASSIFICATION, num_epochs, engine, lora)


def make_generation(folder: Path, *, num_rows: int = 200, num_epochs: int = 2, engine: str = "loop", lora=False):
    """A folder with stories.txt, model/ and recipe.yaml; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [row["text"] for row in review_rows(num_rows)]
    (folder / "stories.txt").write_text("\n".join(texts) + "\n")
    make_llama(folder / "model", texts)
    return _write_recipe(folder, GENERATION, num_epochs, engine, lora)


def _write_recipe(folder: Path, template: str, num_epochs: int, engine: str, lora: bool) -> Path:
    recipe = folder / "recipe.yaml"
    recipe.write_text(template.format(engine=engine, num_epochs=num_epochs, lora=LORA if lora else ""))
    return recipe
