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
from .document import LayerSpec as LayerSpec
from .registry import load_backend as load_backend
from .specification import load_layer as load_layer
from .specification import load_specification as load_specification
from .strict_yaml import SpecError as SpecError
