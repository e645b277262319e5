"""The loss of a step: torch's own cross entropy over all of its targets, however they are cut in micro-batches."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from tunesmith.errors import UserError
from tunesmith.training.config import TrainConfig
from tunesmith.training.loss import Loss, find_class_weights

WEIGHTS = torch.tensor([1.0, 4.0, 0.5])


class Table(torch.nn.Module):
    """A model whose logits stand in its only input."""

    def forward(self, logits, labels=None):
        shifted = logits if labels is None or labels.ndim == 1 else logits[:, :-1]
        targets = None if labels is None else (labels if labels.ndim == 1 else labels[:, 1:])
        own = None if labels is None else cross_entropy(shifted.flatten(0, -2), targets.flatten())
        return SimpleNamespace(logits=logits, loss=own)


def make_batch(*, of_tokens):
    generator = torch.Generator().manual_seed(0)
    shape = (12, 7) if of_tokens else (12,)
    labels = torch.randint(0, 3, shape, generator=generator)
    if of_tokens:
        labels[3:, 4:] = -100
    return {"logits": torch.randn(*shape, 3, generator=generator), "labels": labels}


@pytest.mark.parametrize("of_tokens", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_micro_batches_add_up_to_the_mean_over_all_targets(of_tokens, smoothing, weights):
    batch = make_batch(of_tokens=of_tokens)
    loss = Loss(TrainConfig(label_smoothing=smoothing), weights)
    parts = [{name: values[rows] for name, values in batch.items()} for rows in (slice(5), slice(5, 6), slice(6, 12))]
    whole = torch.stack([loss.weigh(part) for part in parts]).sum()
    found = sum(loss.compute(Table(), part) * (loss.weigh(part) / whole) for part in parts)
    logits, labels = batch["logits"], batch["labels"]
    if of_tokens:
        logits, labels = logits[:, :-1], labels[:, 1:]
    expected = cross_entropy(logits.flatten(0, -2), labels.flatten(), weight=weights, label_smoothing=smoothing)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_without_weights_and_smoothing_it_is_the_model_s_own():
    batch = make_batch(of_tokens=False)
    assert torch.equal(Loss(TrainConfig(), None).compute(Table(), batch), Table()(**batch).loss)


def test_weights_are_those_of_the_recipe_and_one_for_the_rest():
    assert find_class_weights({"ugly": 3.0}, ("bad", "good", "ugly"), [0, 1]).tolist() == [1.0, 1.0, 3.0]
    assert find_class_weights(None, ("bad", "good"), [0, 1]) is None


def test_balanced_classes_count_alike_and_an_example_one_on_average():
    labels = [0] * 6 + [1] * 3 + [2]
    weights = find_class_weights("balanced", ("a", "b", "c"), labels)
    totals = [sum(weights[label].item() for label in labels if label == own) for own in range(3)]
    assert totals == pytest.approx([10 / 3] * 3)
    assert weights[torch.tensor(labels)].mean().item() == pytest.approx(1)


def test_a_class_without_an_example_is_balanced_only_where_rows_were_left_out():
    with pytest.raises(UserError, match="balanced: the train split has no example of 'good'"):
        find_class_weights("balanced", ("bad", "good"), [0, 0, 0])
    weights = find_class_weights("balanced", ("bad", "good", "ugly"), [0, 0, 2], may_lack_labels=True)
    assert weights.tolist() == [0.5, 0.0, 1.0]
