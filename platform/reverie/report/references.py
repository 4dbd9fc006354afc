"""Publications that a report cites, by what it calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Publication:
    """An entry of references.bib."""

    key: str
    names: tuple[str, ...]
    """Beginnings of the names of methods and suites that it stands for: letters and digits."""
    authors: str
    title: str
    year: int
    arxiv: str = ""
    venue: str = ""


PUBLICATIONS = (
    Publication(
        "agarwal2021",
        ("statistics",),
        "Agarwal, Rishabh and Schwarzer, Max and Castro, Pablo Samuel and Courville, Aaron and"
        " Bellemare, Marc G.",
        "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
        2021,
        "2108.13264",
        "NeurIPS",
    ),
    Publication(
        "ma2024harmony",
        ("harmony", "dreamerv3harmony", "dreamerv32023harmony", "dreamerv2harmony"),
        "Ma, Haoyu and Wu, Jialong and Feng, Ningya and Xiao, Chenjun and Li, Dong and Hao, Jianye"
        " and Wang, Jianmin and Long, Mingsheng",
        "HarmonyDream: Task Harmonization Inside World Models",
        2024,
        "2310.00344",
        "ICML",
    ),
    Publication(
        "hafner2023",
        ("dreamerv3",),
        "Hafner, Danijar and Pasukonis, Jurgis and Ba, Jimmy and Lillicrap, Timothy",
        "Mastering Diverse Domains through World Models",
        2023,
        "2301.04104",
    ),
    Publication(
        "hafner2021",
        ("dreamerv2",),
        "Hafner, Danijar and Lillicrap, Timothy and Norouzi, Mohammad and Ba, Jimmy",
        "Mastering Atari with Discrete World Models",
        2021,
        "2010.02193",
        "ICLR",
    ),
    Publication(
        "yarats2022",
        ("drqv2",),
        "Yarats, Denis and Fergus, Rob and Lazaric, Alessandro and Pinto, Lerrel",
        "Mastering Visual Continuous Control: Improved Data-Augmented Reinforcement Learning",
        2022,
        "2107.09645",
        "ICLR",
    ),
    Publication(
        "kaiser2020",
        ("atari100k", "simple"),
        "Kaiser, Lukasz and Babaeizadeh, Mohammad and Milos, Piotr and Osinski, Blazej and"
        " Campbell, Roy H. and Czechowski, Konrad and Erhan, Dumitru and Finn, Chelsea and"
        " Kozakowski, Piotr and Levine, Sergey and Mohiuddin, Afroz and Sepassi, Ryan and"
        " Tucker, George and Michalewski, Henryk",
        "Model-Based Reinforcement Learning for Atari",
        2020,
        "1903.00374",
        "ICLR",
    ),
    Publication(
        "tassa2018",
        ("dmc",),
        "Tassa, Yuval and Doron, Yotam and Muldal, Alistair and Erez, Tom and Li, Yazhe and"
        " de Las Casas, Diego and Budden, David and Abdolmaleki, Abbas and Merel, Josh and"
        " Lefrancq, Andrew and Lillicrap, Timothy and Riedmiller, Martin",
        "DeepMind Control Suite",
        2018,
        "1801.00690",
    ),
    Publication(
        "yu2019",
        ("metaworld",),
        "Yu, Tianhe and Quillen, Deirdre and He, Zhanpeng and Julian, Ryan and Hausman, Karol and"
        " Finn, Chelsea and Levine, Sergey",
        "Meta-World: A Benchmark and Evaluation for Multi-Task and Meta Reinforcement Learning",
        2019,
        "1910.10897",
        "CoRL",
    ),
    Publication(
        "hafner2022crafter",
        ("crafter",),
        "Hafner, Danijar",
        "Benchmarking the Spectrum of Agent Capabilities",
        2022,
        "2109.06780",
        "ICLR",
    ),
)


def cited(name: str) -> str | None:
    """Key of the publication that a method or a suite is from; None where none is known.

    The longest name that it begins with decides: `dreamerv3-2023+harmony` is HarmonyDream's.
    """
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    found = [
        (len(known), one.key)
        for one in PUBLICATIONS
        for known in one.names
        if bare.startswith(known)
    ]
    return max(found)[1] if found else None


def bibliography(keys: Iterable[str]) -> str:
    """BibTeX entries of the keys, in the order of `PUBLICATIONS`."""
    wanted = set(keys)
    return "\n".join(_entry(one) for one in PUBLICATIONS if one.key in wanted)


def _entry(one: Publication) -> str:
    kind = "inproceedings" if one.venue else "misc"
    fields = {"author": one.authors, "title": f"{{{one.title}}}", "year": str(one.year)}
    if one.venue:
        fields["booktitle"] = one.venue
    if one.arxiv:
        fields |= {"eprint": one.arxiv, "archiveprefix": "arXiv"}
    lines = "".join(f"  {key} = {{{value}}},\n" for key, value in fields.items())
    return f"@{kind}{{{one.key},\n{lines}}}\n"
