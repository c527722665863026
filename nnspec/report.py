"""Reports of a run: a table, JSON, JUnit, and one self-contained HTML page."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Table

from .document import LayerSpec
from .judge import VERDICTS, Verdict

# From best to worst: a behaviour is as good as the worst of the cases that cover it.
_ORDER = ("pass", "skip", "unsupported", "fail", "error")


@dataclass
class Report:
    """The verdicts of one backend, and under what they were reached."""

    backend: Mapping[str, Any]
    against: str
    reference: Mapping[str, Any]
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0
    left_out: Sequence[str] = ()

    @property
    def counts(self) -> Counter[str]:
        """How many cases came to each verdict."""
        return Counter(v.verdict for v in self.verdicts)

    def ok(self, allow_unsupported: bool = False) -> bool:
        """Whether the run passes: something ran, and nothing failed, broke or was unsupported."""
        bad = {"fail", "error"} | (set() if allow_unsupported else {"unsupported"})
        return bool(self.counts["pass"]) and not any(self.counts[b] for b in bad)

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible."""
        return {
            "format": "nnspec-report/1",
            "backend": dict(self.backend),
            "against": self.against,
            "reference": dict(self.reference),
            "seconds": round(self.seconds, 3),
            "left_out": list(self.left_out),
            "counts": {v: self.counts[v] for v in VERDICTS},
            "verdicts": [v.as_dict() for v in sorted(self.verdicts, key=lambda v: v.id)],
        }


def table(report: Report) -> Table:
    """Family by verdict, with the totals last."""
    shown = [v for v in VERDICTS if v in ("pass", "fail", "error") or report.counts[v]]
    profile = report.backend.get("profile", "float32")
    products = "" if profile == "float32" else f", products in {profile}"
    title = f"{report.backend.get('name')} against {report.against}{products}"
    made = Table(title=title, title_justify="left")
    made.add_column("family")
    for column in ("layers", "claims", "cases", *shown, "seconds"):
        made.add_column(column, justify="right")
    families = sorted({v.family for v in report.verdicts})
    for family in [*families, "total"]:
        chosen = [v for v in report.verdicts if family in (v.family, "total")]
        counts = Counter(v.verdict for v in chosen)
        cells = [
            len({v.layer for v in chosen}),
            len({claim for v in chosen for claim in v.claims}),
            len(chosen),
            *(counts[v] for v in shown),
        ]
        if family == "total":
            made.add_section()
        made.add_row(family, *map(str, cells), f"{sum(v.seconds for v in chosen):.1f}")
    return made


def failure_text(verdict: Verdict, spec: LayerSpec, backend: str, against: str) -> str:
    """A failure for a person: the claims, the first wrong element, and how to see it again."""
    claims = [f"    {c}: {spec.claims[c]['text']}" for c in verdict.claims]
    return "\n".join(
        [
            f"{verdict.verdict.upper()} {verdict.id}",
            *claims,
            f"  {verdict.message}",
            f"  nnspec repro '{verdict.id}' --backend '{backend}' --against {against}",
        ]
    )


def write_json(path: Path, reports: Sequence[Report]) -> None:
    """All reports as one JSON document."""
    document = [report.as_dict() for report in reports]
    path.write_text(json.dumps(document[0] if len(document) == 1 else document, indent=1) + "\n")


def write_junit(path: Path, reports: Sequence[Report], specs: Mapping[str, LayerSpec]) -> None:
    """JUnit XML, one suite a layer and backend."""
    root = ET.Element("testsuites")
    for report in reports:
        for layer in sorted({v.layer for v in report.verdicts}):
            chosen = [v for v in report.verdicts if v.layer == layer]
            counts = Counter(v.verdict for v in chosen)
            suite = ET.SubElement(
                root, "testsuite", name=f"{report.backend.get('name')}.{layer}",
                tests=str(len(chosen)), failures=str(counts["fail"]),
                errors=str(counts["error"] + counts["unsupported"]), skipped=str(counts["skip"]),
                time=f"{sum(v.seconds for v in chosen):.3f}",
            )  # fmt: skip
            for verdict in sorted(chosen, key=lambda v: v.id):
                case = ET.SubElement(
                    suite,
                    "testcase",
                    classname=layer,
                    name=verdict.id,
                    time=f"{verdict.seconds:.3f}",
                )
                tag = {
                    "fail": "failure",
                    "error": "error",
                    "unsupported": "error",
                    "skip": "skipped",
                }
                if verdict.verdict in tag:
                    name, message = str(report.backend.get("name")), verdict.message
                    text = failure_text(verdict, specs[layer], name, report.against)
                    found = ET.SubElement(case, tag[verdict.verdict], message=_printable(message))
                    found.text = _printable(text)
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    return "".join(c for c in text if c in "\t\n\r" or ord(c) >= 32)


def worst(verdicts: Iterable[Verdict]) -> str:
    """The worst verdict, or ``none``."""
    return max((v.verdict for v in verdicts), key=_ORDER.index, default="none")


def _column(report: Report, dtype: str) -> dict[str, Any]:
    verdicts = [v for v in report.verdicts if v.dtype == dtype]
    by_claim: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        for claim in verdict.claims:
            by_claim.setdefault(claim, []).append(verdict)
    return {"backend": report.backend.get("name"), "dtype": dtype, "by_claim": by_claim}


def write_html(path: Path, reports: Sequence[Report], specs: Mapping[str, LayerSpec]) -> None:
    """One page without scripts or links to elsewhere: layer by behaviour by backend by dtype."""
    order = ["float32", "float64", "bfloat16", "float16"]
    columns = [
        _column(report, dtype)
        for report in reports
        for dtype in order
        if any(v.dtype == dtype for v in report.verdicts)
    ]
    layers = {v.layer for report in reports for v in report.verdicts}
    families: dict[str, list[LayerSpec]] = {}
    for spec in specs.values():
        if spec.name in layers:
            families.setdefault(spec.family, []).append(spec)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    source = files("nnspec").joinpath("report.html.jinja").read_text()
    page = environment.from_string(source).render(
        reports=reports, families=families, columns=columns, worst=worst, verdict_names=VERDICTS
    )
    path.write_text(page, encoding="utf-8")


def write_all(
    folder: Path, reports: Sequence[Report], specs: Mapping[str, LayerSpec]
) -> list[Path]:
    """``report.json``, ``junit.xml`` and ``report.html`` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", reports)
    write_junit(folder / "junit.xml", reports, specs)
    write_html(folder / "report.html", reports, specs)
    return [folder / name for name in ("report.json", "junit.xml", "report.html")]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON report.

    Raises:
      ValueError: the file is no nnspec report.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    if isinstance(document, list):
        document = document[0] if document else {}
    if not isinstance(document, dict) or document.get("format") != "nnspec-report/1":
        raise ValueError(f"{path}: not an nnspec report")
    verdicts = document.get("verdicts")
    if not isinstance(verdicts, list) or not all(
        isinstance(v, dict) and "id" in v and v.get("verdict") in VERDICTS for v in verdicts
    ):
        raise ValueError(f"{path}: an nnspec report without sound verdicts")
    return document


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The cases whose verdict differs between two JSON reports: id, verdict before, after."""
    old = {v["id"]: v["verdict"] for v in before["verdicts"]}
    new = {v["id"]: v["verdict"] for v in after["verdicts"]}
    return [
        (id_, old.get(id_, "absent"), new.get(id_, "absent"))
        for id_ in sorted(old.keys() | new.keys())
        if old.get(id_) != new.get(id_)
    ]
