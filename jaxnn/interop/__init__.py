"""The way in and out: state dicts and checkpoint files."""

from . import aten as aten
from . import ported as ported
from .checkpoint import to_torch as to_torch
from .export import export as export
from .from_torch import from_torch as from_torch
from .importer.imported import Imported as Imported
from .importer.record import Record as Record
from .linen_variables import load_linen as load_linen
from .porting.parity import ParityReport as ParityReport
from .porting.parity import PortError as PortError
from .porting.parity import check_port as check_port
from .porting.parity import load_port as load_port
from .porting.port import port as port
from .proof.evidence import Evidence as Evidence
from .proof.evidence import ImportDeparts as ImportDeparts
from .proof.evidence import evidence as evidence
from .state_dict import LoadReport as LoadReport
from .state_dict import load_state_dict as load_state_dict
from .state_dict import state_dict as state_dict
from .verify import Report as Report
from .verify import verify as verify
