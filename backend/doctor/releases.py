"""Whether the packages that are installed are those that the program was made for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version

from backend.doctor.checks import Check, found, good
from backend.doctor.findings import Finding

OURS = "illume-label-studio"
#: Extras of ours whose packages are looked at where they are installed.
_EXTRAS = ("", "ls-ml", "postgresql", "s3", "qlora", "torchvision")
#: label-studio-ml stands in no list of ours (docs/adr/0001); these are what our backend was tried under.
_PROVEN_ML = ("1.0.9", "2.")
#: The Label Studio that every call was proven against.
PROVEN_LABEL_STUDIO = "1.23.2"


def packages() -> Iterator[Check]:
    """One check: every package of ours, against the range that our own metadata names."""
    wrong = [*_out_of_range(), *_label_studio_ml()]
    if wrong:
        yield found("packages", Finding.PACKAGES, "; ".join(wrong))
    else:
        yield good("packages", f"all within the ranges of {OURS} {_version(OURS)}")


def label_studio_release(release: str) -> Iterator[Check]:
    """Whether Label Studio is at least the one that was proven."""
    try:
        older = Version(release) < Version(PROVEN_LABEL_STUDIO)
    except InvalidVersion:
        older = True
    if older:
        detail = f"version {release or 'unknown'}, proven is {PROVEN_LABEL_STUDIO}"
        yield found("label studio's version", Finding.LABEL_STUDIO_OLD, detail)


def _out_of_range() -> Iterator[str]:
    for text in _required():
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            yield f"{OURS} wants {text!r}, which cannot be understood"
            continue
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            continue
        installed = _version(wanted.name)
        if installed is None:
            if wanted.marker is None:
                yield f"{wanted.name} is not installed"
        elif not wanted.specifier.contains(installed, prereleases=True):
            yield f"{wanted.name} {installed} is installed, {wanted.specifier} is wanted"


def _label_studio_ml() -> Iterator[str]:
    installed = _version("label-studio-ml")
    if installed is not None and not installed.startswith(_PROVEN_ML):
        yield f"label-studio-ml {installed} is installed, 1.0.9 or 2 is proven"


def _required() -> list[str]:
    try:
        return metadata.requires(OURS) or []
    except metadata.PackageNotFoundError:
        return []  # run from a folder of sources that nobody has installed


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
