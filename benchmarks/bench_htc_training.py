"""make benchmark: documents per second in fine-tuning MiniLM; batches of similar length compared with padding to the limit.

On the documents beside the taxonomy that the variable HWV names, or else on texts of that many words.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from hierarchies import seconds

from rlkl_htc_common.models.encoders import load_encoder
from rlkl_htc_common.models.settings import PACKAGED, EncoderConfig
from rlkl_htc_common.training.batching import epoch_batches

BATCH, BATCHES, LIMIT = 8, 6, 512


def texts():
    if os.environ.get("HWV"):
        file = Path(os.environ["HWV"]).with_name("hwv_val.json")
        return [" ".join(json.loads(line)["token"]) for line in file.read_text(encoding="utf-8").splitlines()]
    words = torch.distributions.LogNormal(5.52, 0.55).sample((1600,)).int().tolist()  # median 250, as in HWV
    return [" ".join(["word"] * max(5, count)) for count in words]


@pytest.fixture(scope="module")
def encoder(one_core):
    return load_encoder(EncoderConfig(PACKAGED, frozen=False, max_length=LIMIT)).train()


@pytest.fixture(scope="module")
def token_ids(encoder):
    return encoder.tokenize(texts())


def steps(encoder, token_ids, batches, pad_to):
    for batch in batches:
        ids = [token_ids[i] for i in batch.tolist()]
        inputs = encoder.tokenizer.pad({"input_ids": ids}, padding="max_length", max_length=pad_to, return_tensors="pt")
        encoder(inputs["input_ids"], inputs["attention_mask"]).square().mean().backward()
        encoder.zero_grad()


def test_buckets_against_padding_to_the_limit(benchmark, encoder, token_ids):
    lengths = torch.tensor([len(ids) for ids in token_ids])
    bucketed = epoch_batches(len(token_ids), BATCH, seed=0, epoch=0, lengths=lengths)[:BATCHES]
    as_they_come = epoch_batches(len(token_ids), BATCH, seed=0, epoch=0)[:BATCHES]

    def buckets():
        for batch in bucketed:
            steps(encoder, token_ids, [batch], int(lengths[batch].max()))

    padded = seconds(lambda: steps(encoder, token_ids, as_they_come, LIMIT), rounds=1)
    benchmark.pedantic(buckets, rounds=1)
    taken = benchmark.stats.stats.median
    documents = BATCH * BATCHES
    benchmark.extra_info.update(
        documents_per_second=round(documents / taken, 1),
        documents_per_second_padded=round(documents / padded, 1),
        times_faster=round(padded / taken, 2),
        mean_tokens=round(float(lengths.float().mean()), 1),
    )
