"""`illume doctor`: what is wrong between Label Studio and this backend, and the exact thing that mends it.

`findings` lists what can be found; a module for each subject looks; `examination` puts them in order.
"""

from backend.doctor.checks import Check
from backend.doctor.examination import examine
from backend.doctor.findings import Finding, Outcome
from backend.doctor.opening import opened

__all__ = ["Check", "Finding", "Outcome", "examine", "opened"]
