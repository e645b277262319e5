from __future__ import annotations

import pytest

from mirrored_training import Machines, train_on_three_machines
from tunesmith.store.s3 import S3Config


@pytest.mark.timeout(600)  # four processes that import torch
def test_another_machine_goes_on_from_the_mirror_and_a_preempted_one_leaves_its_newest_checkpoint_there(
    tmp_path, features, bert, bucket, moto_url, connect
):
    s3, client = S3Config(endpoint_url=moto_url), connect()
    ref = train_on_three_machines(Machines(tmp_path, features, bert, f"{bucket}/team", s3, client))
    assert [key.rpartition("/")[2] for key in client.list_keys(f"{bucket}/team/artifacts/train/{ref.key}/")] == [
        "manifest.json"
    ]
