"""The labelling configurations we ship, as XML for Label Studio."""

from importlib.resources import files

#: select: tick what fits. full: stars, edits, critique and new candidates on request besides.
NAMES = ("select", "full")


def read(name: str = "select") -> str:
    """Return the XML of the labelling configuration called `name`, one of NAMES."""
    return (files(__name__) / f"{name}.xml").read_text(encoding="utf-8")
