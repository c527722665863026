"""The way in and out: state dicts and checkpoint files."""

from .checkpoint import to_torch as to_torch
from .importer.from_torch import from_torch as from_torch
from .importer.imported import Imported as Imported
from .importer.imported import Record as Record
from .linen_variables import load_linen as load_linen
from .state_dict import LoadReport as LoadReport
from .state_dict import load_state_dict as load_state_dict
from .state_dict import state_dict as state_dict
from .verify import Report as Report
from .verify import verify as verify
