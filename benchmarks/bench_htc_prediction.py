"""make benchmark: labelling a stream of texts beside its encoder alone, and scoring every inference rule."""

import random
import time

import torch
from hierarchies import one_path_each, tree

from htc.experiment.saved_model import SavedModel
from htc.losses import BCE
from htc.models.classifier import Classifier
from htc.predictor import Predictor
from htc.scoring.evaluate_rules import evaluate
from rlkl_htc_common.models.encoders import load_encoder
from rlkl_htc_common.models.settings import PACKAGED, EncoderConfig

LEVELS = (22, 285, 1918)  # as ICD-10-CM
TEXTS, SHARE = 3000, 0.8  # the least share of the encoder's speed
DOCUMENTS = 7269  # of its test split


def test_a_stream_beside_its_encoder(benchmark, one_core):
    hierarchy, rng = tree(LEVELS), random.Random(0)
    encoder = load_encoder(EncoderConfig(PACKAGED, max_length=256))
    objective, classifier = BCE(hierarchy), Classifier(None, encoder.dim, 64, hierarchy.num_nodes)
    parts = encoder.eval(), classifier.eval(), objective.eval()
    model = Predictor(SavedModel(*parts, hierarchy, 0.5, "top_down", torch.empty(0), {}, {}))
    words = sorted(word for word in encoder.tokenizer.get_vocab() if word.isalpha())
    texts = [" ".join(rng.choices(words, k=min(200, 2 + int(rng.lognormvariate(2.7, 1))))) for _ in range(TEXTS)]
    encoder.embed(texts[:64])
    started = time.perf_counter()
    encoder.embed(sorted(texts, key=len))
    alone = time.perf_counter() - started
    benchmark.pedantic(lambda: list(model.stream(texts)), rounds=1)
    share = alone / benchmark.stats.stats.median
    benchmark.extra_info.update(texts=TEXTS, encoder_alone_seconds=round(alone, 2), share_of_the_encoders_speed=round(share, 2))
    assert share > SHARE


def test_every_rule_and_metric(benchmark, one_core):
    hierarchy = tree(LEVELS)
    targets = one_path_each(hierarchy, DOCUMENTS)
    probabilities = torch.sigmoid(2 * torch.randn(targets.shape) - 6 + 6 * targets)
    benchmark.pedantic(lambda: evaluate(probabilities, targets, hierarchy, 0.3, one_path=False), rounds=1)
    benchmark.extra_info.update(documents=DOCUMENTS, labels=hierarchy.num_nodes, rules=9)
