"""Models that are shared out between two processes, layer by layer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import transformers

from tunesmith.errors import ModelError
from tunesmith.training.shards import shard_model

SCRIPT = """
import copy, json, sys
import torch
import transformers
from torch import distributed as dist
from torch.distributed.tensor import DTensor
from tunesmith.training.shards import put_together, shard_model

dist.init_process_group("gloo", store=dist.FileStore(sys.argv[2], 2), rank=int(sys.argv[1]), world_size=2)
tiny = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
configs = [
    transformers.AlbertConfig(**{**tiny, "num_hidden_layers": 4}, embedding_size=16, classifier_dropout_prob=0.0),
    transformers.BertConfig(**tiny),
    transformers.DebertaV2Config(**tiny, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8),
    transformers.DistilBertConfig(vocab_size=20, dim=32, n_layers=2, n_heads=2, hidden_dim=64, dropout=0.0,
                                  attention_dropout=0.0, seq_classif_dropout=0.0),
    transformers.ElectraConfig(**tiny, embedding_size=16),
    transformers.FunnelConfig(vocab_size=20, d_model=32, n_head=2, d_head=16, d_inner=64, block_sizes=[2, 2],
                              hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0),
    transformers.MobileBertConfig(**tiny, embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16),
    transformers.MPNetConfig(**tiny),
]
ids = torch.arange(5, 17).reshape(2, 6)
found = {}
for config in configs:
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config).train()
    whole = copy.deepcopy(model)
    whole(input_ids=ids, labels=torch.tensor([0, 1])).loss.backward()
    shard_model(model, torch.device("cpu"))
    apart = []

    def look(*_):
        apart.append(sum(p.numel() for p in model.parameters() if isinstance(p, DTensor)))

    model.get_input_embeddings().register_forward_hook(look)
    (model(input_ids=ids, labels=torch.tensor([0, 1])).loss / 2).backward()
    layers = next(list for list in model.base_model.modules() if isinstance(list, torch.nn.ModuleList))
    pairs = zip(model.parameters(), whole.parameters(), strict=True)
    gradients = [(put_together(own.grad), other.grad) for own, other in pairs if other.grad is not None]
    found[config.model_type] = {
        "in_layers": sum(p.numel() for p in layers.parameters()),
        "apart": apart[0],
        "difference": max(float((own - other).abs().max()) for own, other in gradients),
    }
print(json.dumps(found))
dist.destroy_process_group()
"""


def test_layers_are_apart_until_they_compute_and_the_gradient_is_that_of_the_whole_model(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SCRIPT, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    found, other = (json.loads(process.communicate(timeout=240)[0]) for process in processes)
    assert found == other
    for model_type, facts in found.items():
        assert facts["apart"] >= facts["in_layers"] > 0, model_type
        assert facts["difference"] < 1e-6, model_type


def test_a_model_without_a_list_of_layers_is_refused():
    config = transformers.ElectraConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = transformers.ElectraForSequenceClassification(config)
    model.electra.encoder.layer = torch.nn.Sequential(*model.electra.encoder.layer)
    with pytest.raises(ModelError, match=r"train\.fsdp: a electra model has no list of layers.* Set it to false"):
        shard_model(model, torch.device("cpu"))
