"""A framework-neutral judge: runs any implementation against the layer specification in ``spec/``.

``nnspec`` needs numpy, PyYAML, jsonschema and safetensors. It imports no framework: an
implementation is a *backend*, found by entry point (``nnspec.backends``) or started as a process
that speaks JSON lines (see ``spec/README.md``).
"""

from .backend import Backend as Backend
from .backend import Instance as Instance
from .backend import Refused as Refused
from .backend import Step as Step
from .backend import StepResult as StepResult
from .backend import Unsupported as Unsupported
from .backend import load_backend as load_backend
from .document import LayerSpec as LayerSpec
from .document import SpecError as SpecError
from .document import load_layer as load_layer
from .document import load_specification as load_specification
