"""Recurrent layers, and the cells that take one of their steps."""

from .sequences import GRU as GRU
from .sequences import LSTM as LSTM
from .sequences import RNN as RNN
from .sequences import RNNBase as RNNBase
from .steps import GRUCell as GRUCell
from .steps import LSTMCell as LSTMCell
from .steps import RNNCell as RNNCell
from .steps import RNNCellBase as RNNCellBase
