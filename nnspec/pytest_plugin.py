"""pytest plug-in: layer files are collected as tests, one a case and dtype.

    pytest spec --nnspec-backend jaxnn

``--nnspec-against golden`` judges without the reference library, ``--nnspec-dtype`` (repeatable)
chooses dtypes (float32 by default), ``--nnspec-level must`` leaves quirks out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

BACKEND = "--nnspec-backend"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; without ``--nnspec-backend`` the plug-in collects nothing."""
    group = parser.getgroup("nnspec", "judge an implementation against the layer specification")
    group.addoption(BACKEND, help="a backend's name, or process:COMMAND")
    group.addoption("--nnspec-against", default="torchref", help="torchref, golden, or none")
    group.addoption("--nnspec-dtype", action="append", help="dtypes (default: float32)")
    group.addoption("--nnspec-level", choices=("must", "quirk"), default="quirk")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect ``layers/<family>/*.yaml`` and ``functions/<family>/*.yaml``."""
    chosen = parent.config.getoption(BACKEND)
    if chosen and file_path.suffix == ".yaml" and file_path.parts[-3] in ("layers", "functions"):
        return LayerFile.from_parent(parent, path=file_path)
    return None


class LayerFile(pytest.File):
    """One layer file."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one item a case and dtype."""
        from .runner import Selection
        from .specification import load_layer

        spec = load_layer(self.path)
        selection = Selection(
            dtypes=self.config.getoption("--nnspec-dtype") or ["float32"],
            level=self.config.getoption("--nnspec-level"),
        )
        for case, dtype in selection.of(spec):
            name = f"{case['id']}@{dtype}"
            yield CaseItem.from_parent(self, name=name, spec=spec, case=case, dtype=dtype)


class CaseItem(pytest.Item):
    """One case in one dtype."""

    def __init__(self, *, spec: Any, case: Mapping[str, Any], dtype: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.spec, self.case, self.dtype = spec, case, dtype

    def runtest(self) -> None:
        """Judge the case; anything but a pass (or an unsupported layer, which skips) fails."""
        from .judge import judge

        backend, oracle = _workplace(self.config)
        verdict = judge(backend, oracle, self.spec, self.case, self.dtype)
        if verdict.verdict == "unsupported":
            pytest.skip(verdict.message)
        if verdict.verdict != "pass":
            raise _NotPassed(verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The claims, the first wrong element and the command that shows it again."""
        if not isinstance(excinfo.value, _NotPassed):
            return super().repr_failure(excinfo)
        from .report import failure_text

        backend = self.config.getoption(BACKEND)
        against = self.config.getoption("--nnspec-against")
        return failure_text(excinfo.value.verdict, self.spec, backend, against)

    def reportinfo(self) -> tuple[Path, int, str]:
        """The layer file and the case."""
        return self.path, 0, self.name


class _NotPassed(Exception):
    def __init__(self, verdict: Any):
        super().__init__(verdict.message)
        self.verdict = verdict


_key = pytest.StashKey[tuple[Any, Any]]()


def _workplace(config: pytest.Config) -> tuple[Any, Any]:
    """The backend and the oracle, made once a process."""
    if _key not in config.stash:
        from .registry import load_backend, load_oracle
        from .specification import specification_folder

        backend = load_backend(config.getoption(BACKEND))
        against = config.getoption("--nnspec-against")
        config.stash[_key] = (
            backend,
            load_oracle(against, specification_folder()),
        )
    return config.stash[_key]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop a backend process."""
    if _key in config.stash:
        config.stash[_key][0].close()
