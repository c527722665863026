"""From PyTorch to JAX and back: weights, models, and the proof that they are still the same.

The files stand on floors; each imports from its own and from those below alone:

1. weights: `state_dict`, with `checkpoint` for files, `layout` and `flax_layers` for how arrays lie
   in Flax's own layers, `rename`, `old_forms` and `placement`; `linen_variables`.
2. `importer`: a PyTorch model becomes a tree of NNX modules.
3. `proof`: the original and the import are run side by side. `aten` and `ported` are what the
   source of a port stands on.
4. `from_torch`, `verify` and `export`: what users call; `call` is how they say with what. `lora`
   adds adapters to a model, `lora_layers` has what they are, `lora_files` how PEFT keeps them.
5. `porting`: a PyTorch model becomes a Python file.
"""

from . import aten as aten
from . import ported as ported
from .call import Call as Call
from .call import call as call
from .checkpoint import to_torch as to_torch
from .export import export as export
from .from_torch import from_torch as from_torch
from .importer.abstract import abstract_parameters as abstract_parameters
from .importer.imported import Imported as Imported
from .importer.record import Record as Record
from .linen_variables import load_linen as load_linen
from .lora import add_lora as add_lora
from .lora import merge_lora as merge_lora
from .lora_files import load_lora as load_lora
from .lora_files import save_lora as save_lora
from .porting.parity import ParityReport as ParityReport
from .porting.parity import PortError as PortError
from .porting.parity import check_port as check_port
from .porting.parity import load_port as load_port
from .porting.port import port as port
from .programs import programs as programs
from .proof.evidence import Evidence as Evidence
from .proof.evidence import ImportDeparts as ImportDeparts
from .proof.evidence import evidence as evidence
from .state_dict import LoadReport as LoadReport
from .state_dict import load_state_dict as load_state_dict
from .state_dict import state_dict as state_dict
from .verify import Report as Report
from .verify import verify as verify
