"""The labelling configurations we ship, as XML for Label Studio."""

from importlib.resources import files


def read(name: str = "select") -> str:
    """Return the XML of the labelling configuration called `name` ("select")."""
    return (files(__name__) / f"{name}.xml").read_text(encoding="utf-8")
