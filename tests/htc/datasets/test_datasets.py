import json
import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from htc import InputError
from htc.datasets import load_custom, load_icd10cm
from htc.datasets.dataset import split_by_group
from htc.datasets.icd10cm import near_duplicate_key


@pytest.fixture(scope="module")
def icd10cm():
    return load_icd10cm()


def test_icd10cm_has_the_shape_of_the_classification(icd10cm):
    h = icd10cm.hierarchy
    assert [level.stop - level.start for level in h.levels] == [22, 285, 1918]
    assert len(icd10cm.texts) == len(icd10cm.targets) == 36343
    assert (icd10cm.targets.sum(1) == 3).all(), "each document has one chapter, one block and one category"
    assert len(set(icd10cm.texts)) == len(icd10cm.texts), "variants of one text are folded into one document"
    assert not any(re.search(r"(initial|subsequent) encounter|, sequela$", text) for text in icd10cm.texts)
    cholera = icd10cm.texts.index("Cholera due to Vibrio cholerae 01, biovar cholerae; Classical cholera")
    assert h.decode(icd10cm.targets[cholera : cholera + 1])[0] == [
        (
            "Chapter 1: Certain infectious and parasitic diseases (A00-B99)",
            "Intestinal infectious diseases (A00-A09)",
            "A00 Cholera",
        )
    ]


def test_icd10cm_splits_share_no_near_duplicate(icd10cm):
    keys = {name: {near_duplicate_key(icd10cm.texts[i]) for i in docs.tolist()} for name, docs in icd10cm.splits.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["dev"]
    assert not keys["dev"] & keys["test"]
    sizes = {name: len(docs) / len(icd10cm.texts) for name, docs in icd10cm.splits.items()}
    assert sizes == pytest.approx({"train": 0.7, "dev": 0.1, "test": 0.2}, abs=0.005)
    assert sorted(torch.cat(list(icd10cm.splits.values())).tolist()) == list(range(len(icd10cm.texts)))


def test_icd10cm_is_deterministic_and_can_be_made_smaller(icd10cm):
    small, again, other = (load_icd10cm(max_documents=500, split_seed=seed) for seed in (3, 3, 4))
    assert small.texts == again.texts
    assert all(torch.equal(small.splits[name], again.splits[name]) for name in small.splits)
    assert small.texts != other.texts
    assert len(small.texts) <= 500
    assert set(small.texts) < set(icd10cm.texts)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Unspecified fracture of right wrist", "Unspecified fracture of left wrist"),
        ("Glaucoma, bilateral", "Glaucoma, unspecified eye"),
        ("Twin pregnancy, first trimester", "Twin pregnancy, third trimester"),
        ("Burn, initial encounter", "Burn, sequela"),
        ("Lymphedema of right upper limb", "Lymphedema of bilateral upper limbs"),
        ("Left bundle-branch block, unspecified", "Unspecified right bundle-branch block; Right bundle-branch block NOS"),
    ],
)
def test_side_and_encounter_make_near_duplicates(a, b):
    assert near_duplicate_key(a) == near_duplicate_key(b)
    assert near_duplicate_key(a) != near_duplicate_key("Fracture of ankle")


@given(
    groups=st.lists(st.integers(0, 30), min_size=60, max_size=200),
    dev=st.floats(0.05, 0.3),
    test=st.floats(0.05, 0.3),
    seed=st.integers(0, 5),
)
def test_groups_do_not_straddle_splits(groups, dev, test, seed):
    try:
        splits = split_by_group(groups, dev, test, seed)
    except InputError:
        assume(False)  # one group was nearly all there is
    assert sorted(torch.cat(list(splits.values())).tolist()) == list(range(len(groups)))
    members = [{groups[i] for i in part.tolist()} for part in splits.values()]
    assert not members[0] & members[1]
    assert not members[0] & members[2]
    assert not members[1] & members[2]


@pytest.mark.parametrize(("dev", "test"), [(0.0, 0.2), (0.5, 0.5), (-0.1, 0.2), (0.2, 1.0)])
def test_impossible_shares_are_refused(dev, test):
    with pytest.raises(InputError, match="positive shares"):
        split_by_group(range(100), dev, test, 0)


def write_folder(folder, **files):
    (folder / "labels.taxonomy").write_text("Root\tA\tB\nA\tA1\tA2\n")
    for name, count in files.items():
        lines = [{"token": [f"{name} {i}"], "label": ["A", "A1"] if i % 2 else ["B"]} for i in range(count)]
        (folder / f"{name}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def names(dataset):
    return {split: {dataset.texts[i].split()[0] for i in docs.tolist()} for split, docs in dataset.splits.items()}


def test_given_splits_are_kept(tmp_path):
    write_folder(tmp_path, x_train=30, x_val=10, x_test=12)
    dataset = load_custom(tmp_path)
    assert names(dataset) == {"train": {"x_train"}, "dev": {"x_val"}, "test": {"x_test"}}
    assert [len(dataset.splits[split]) for split in ("train", "dev", "test")] == [30, 10, 12]
    assert dataset.hierarchy.decode(dataset.targets[:2]) == [[("B",)], [("A", "A1")]]


def test_a_missing_split_is_drawn_from_train(tmp_path):
    write_folder(tmp_path, train=100, test=12)
    dataset = load_custom(tmp_path, dev_fraction=0.2)
    assert names(dataset) == {"train": {"train"}, "dev": {"train"}, "test": {"test"}}
    assert len(dataset.splits["dev"]) == 20
    assert len(dataset.splits["train"]) == 80
    assert not set(dataset.splits["dev"].tolist()) & set(dataset.splits["train"].tolist())


def test_without_a_training_file_all_documents_are_dealt_out(tmp_path):
    write_folder(tmp_path, x_val=50)
    assert sum(len(docs) for docs in load_custom(tmp_path).splits.values()) == 50
    write_folder(tmp_path, latest=30, medieval=20)  # neither a test nor a dev split
    (tmp_path / "x_val.json").unlink()
    assert sum(len(docs) for docs in load_custom(tmp_path).splits.values()) == 50


def test_a_test_file_is_not_trained_on(tmp_path):
    write_folder(tmp_path, corpus=50, corpus_test=50)
    with pytest.raises(InputError, match=r"none of corpus.json, corpus_test.json is named as the training file"):
        load_custom(tmp_path)
    assert len(load_custom(tmp_path, train="corpus.json").splits["test"]) == 50


def test_the_fingerprint_knows_texts_labels_and_splits(tmp_path):
    write_folder(tmp_path, documents=50)
    first = load_custom(tmp_path).fingerprint()
    assert load_custom(tmp_path).fingerprint() == first
    assert load_custom(tmp_path, split_seed=1).fingerprint() != first
    file = tmp_path / "documents.json"
    file.write_text(file.read_text().replace('"A1"', '"A2"'))
    assert load_custom(tmp_path).fingerprint() != first


def test_equal_texts_stay_together(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "documents.jsonl").write_text("".join(f'{{"text": "t{i % 20}", "label": ["B"]}}\n' for i in range(100)))
    dataset = load_custom(tmp_path)
    texts = [{dataset.texts[i] for i in docs.tolist()} for docs in dataset.splits.values()]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]


def test_files_can_be_named(tmp_path):
    write_folder(tmp_path, one=30, two=10, three=10)
    dataset = load_custom(tmp_path, train="one.json", dev="two.json", test="three.json", taxonomy="labels.taxonomy")
    assert names(dataset) == {"train": {"one"}, "dev": {"two"}, "test": {"three"}}


@pytest.mark.parametrize(
    ("files", "extra", "message"),
    [
        ({}, None, "no .json or .jsonl file with documents"),
        ({"a_train": 5, "b_train": 5}, None, "several files for the train split"),
        ({"train": 5}, "second.taxonomy", "2 files ending in .taxonomy"),
        ({"documents": 2}, None, "too few to draw"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, files, extra, message):
    write_folder(tmp_path, **files)
    if extra:
        (tmp_path / extra).write_text("Root\tA\n")
    with pytest.raises(InputError, match=re.escape(message)):
        load_custom(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "documents.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match=r"documents.jsonl: the file holds no document"):
        load_custom(tmp_path)
