"""Random configurations of a layer, derived from its file alone, one backend against another.

A drawn configuration is a case block like those in the file, so the judge runs it as it runs
them: what the file's error conditions refuse must be refused by both sides, everything else must
agree. A new configuration costs a compilation, so each one is tried on many values, which run
through the same compiled program. A finding prints as YAML, ready to be pasted into the file.

``strategies`` draws configurations, ``cases`` gives them values and says what the file expects of
them, ``campaign`` runs them.
"""

from .campaign import FuzzResult as FuzzResult
from .campaign import fuzz as fuzz
