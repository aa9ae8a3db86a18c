"""The whole loop with simulated annotators on the picture world: no Label Studio, everything else real."""

from backend.simulate.loop import Simulation
from backend.simulate.options import Options
from backend.simulate.record import Iteration, Measurement

__all__ = ["Iteration", "Measurement", "Options", "Simulation"]
