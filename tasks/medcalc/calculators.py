"""All 55 calculators by number and by name."""

from tasks.medcalc.catalogue import Calculator
from tasks.medcalc.catalogue_acute import ACUTE
from tasks.medcalc.catalogue_chronic import CHRONIC
from tasks.medcalc.catalogue_clots import CLOTS
from tasks.medcalc.catalogue_equations import EQUATIONS
from tasks.medcalc.catalogue_physical import PHYSICAL

_ALL = (*EQUATIONS, *PHYSICAL, *ACUTE, *CHRONIC, *CLOTS)
CALCULATORS: dict[int, Calculator] = {one.number: one for one in sorted(_ALL, key=lambda one: one.number)}
"""By the benchmark's Calculator ID."""
BY_NAME: dict[str, Calculator] = {one.name: one for one in CALCULATORS.values()}
