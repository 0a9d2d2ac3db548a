import pytest
import torch

from rlkl.analysis.comma_probabilities import CriticalProbabilities
from rlkl.analysis.drift import compare
from rlkl.distributions import token_log_probs
from rlkl.model import completion as evaluation
from rlkl.model.completion import accuracy, check_positions, complete, completes_right, grades, sample
from rlkl.model.language_model import load_model, task_of
from rlkl.model.sequences import next_token_logits
from rlkl.model.texts import decode, encode, positions_needed, right_sequences
from rlkl.tasks import addition, multiplication
from rlkl.tasks.addition import Operands
from rlkl.tasks.registry import TASKS
from rlkl_htc_common.errors import InputError

from ..conftest import tiny_model


@pytest.fixture(scope="module")
def embedded():
    return load_model("addition-n5")


def test_the_embedded_model_adds_what_it_was_trained_on_and_some_of_what_it_was_not(embedded):
    assert embedded.config.trained_digits == 5
    assert not hasattr(embedded.config, "task"), "it was made when there was no other"
    assert task_of(embedded) is addition
    for digits, low, high in ((5, 0.9, 1.0), (6, 0.1, 0.8), (7, 0.0, 0.1)):
        operands = sample(addition, "varying", digits, 30, seed=5)
        assert low <= sum(grades(addition, operands, complete(embedded, operands))) / 30 <= high


def test_texts_that_one_pass_finds_right_are_those_that_are_written_out(embedded):
    operands = sample(addition, "varying", 6, 40, seed=3)
    right = completes_right(embedded, operands)
    assert 0 < right.sum() < 40
    written = decode(evaluation.roll_out(embedded, operands, 0.0)[1].samples())
    assert right.tolist() == [text == addition.completion(pair) for pair, text in zip(operands, written, strict=True)]
    assert complete(embedded, operands) == written


@pytest.mark.parametrize("size", [1, 3, 10, 100, None])
def test_the_number_of_texts_in_a_pass_changes_no_evaluation(embedded, size):
    operands = sample(addition, "varying", 6, 12, seed=3)
    assert torch.equal(completes_right(embedded, operands, size), completes_right(embedded, operands, 12))
    critical = CriticalProbabilities(addition, operands, 5)
    assert critical.scores(embedded, size) == pytest.approx(critical.scores(embedded, 12), abs=1e-6)
    other = tiny_model(positions=768)
    whole, parts = (compare(embedded, other, right_sequences(addition, operands), each) for each in (12, size))
    torch.testing.assert_close(parts.kl[parts.mask], whole.kl[whole.mask], atol=1e-4, rtol=1e-5)
    assert torch.equal(parts.changed[parts.mask], whole.changed[whole.mask])


def test_completions_keep_their_order_and_depend_on_the_seed(model):
    operands = [Operands(99, 99), Operands(1, 2), Operands(1, 2), Operands(12, 3)]
    texts = complete(model, operands, temperature=1.0, seed=1, batch_size=4)
    assert texts == complete(model, operands, temperature=1.0, seed=1, batch_size=4)
    assert texts != complete(model, operands, temperature=1.0, seed=2, batch_size=4)
    assert texts[1] != texts[2], "each addition is sampled by itself"
    assert complete(model, operands)[1] == complete(model, operands)[2]


def test_progress_is_reported_to_the_end(model):
    done = []
    complete(model, [Operands(1, 2)] * 5, batch_size=2, advance=done.append)
    assert done == [2, 2, 1]


def test_samples_are_the_same_for_the_same_seed():
    assert sample(addition, "varying", 4, 9, 1) == sample(addition, "varying", 4, 9, 1) != sample(addition, "varying", 4, 9, 2)
    assert sample(addition, "varying", 4, 9, 1)[:5] == sample(addition, "varying", 4, 5, 1)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("digits", [1, 3, 4, 5, 7])
def test_a_training_mix_is_that_of_training(task, digits):
    """With N = 4: up to 4 digits all lengths; beyond them one operand has so many, and half of the others more than 4, too."""
    problems = sample(task, "training_mix", digits, 400, 0, trained_digits=4)
    assert problems == sample(task, "training_mix", digits, 400, 0, 4) != sample(task, "training_mix", digits, 400, 1, 4)
    lengths = [sorted(len(str(number)) for number in pair) for pair in problems]
    if digits <= 4:
        assert {longest for _, longest in lengths} <= set(range(1, digits + 1))
        assert digits in {longest for _, longest in lengths}
    else:
        assert {longest for _, longest in lengths} == {digits}
    if digits > 4 and task is not multiplication:
        assert 0.4 < sum(shorter > 4 for shorter, _ in lengths) / 400 < 0.6
        assert {shorter for shorter, _ in lengths} == set(range(1, digits + 1))
    with pytest.raises(ValueError, match="trained_digits"):
        sample(task, "training_mix", digits, 4, 0)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_model_is_given_the_prompts_of_its_task(task, monkeypatch):
    model, operands, given = tiny_model(task), [Operands(8, 2), Operands(31, 7)], []
    generate = evaluation.rollout.generate
    monkeypatch.setattr(evaluation.rollout, "generate", lambda *args, **more: given.append(args[1]) or generate(*args, **more))
    texts = complete(model, operands, temperature=1.0)
    assert given == [encode(map(task.prompt, operands))]
    assert grades(task, operands, texts) == [False] * 2
    assert grades(task, operands, [task.completion(pair) for pair in operands]) == [True] * 2
    assert not completes_right(model, operands).any()
    assert accuracy(model, operands) == 0


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_model_that_knows_a_problem_by_heart_is_right(task):
    pair = Operands(5, 3)
    model, sequences = tiny_model(task, positions=192, width=48, scale=1.0), right_sequences(task, [pair])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -token_log_probs(next_token_logits(model, sequences), sequences.targets)[sequences.mask].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert accuracy(model, [pair]) == 1
    assert complete(model, [pair], temperature=1e-3) == [task.completion(pair)]


def test_positions():
    check_positions(addition, positions_needed(addition, 4), 4)
    with pytest.raises(InputError, match=f"additions of 4 digits need {positions_needed(addition, 4)} positions"):
        check_positions(addition, positions_needed(addition, 4) - 1, 4)
    assert positions_needed(addition, 4) == 313 + 1 + 64
    with pytest.raises(InputError, match="multiplications of 4 digits need"):
        check_positions(multiplication, 200, 4)
    assert torch.is_tensor(completes_right(load_model("addition-n5"), [Operands(1, 2)]))
