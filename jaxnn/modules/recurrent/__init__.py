"""Recurrent layers, and the cells that take one of their steps."""

from .cells import GRUCell as GRUCell
from .cells import LSTMCell as LSTMCell
from .cells import RNNCell as RNNCell
from .cells import RNNCellBase as RNNCellBase
from .layers import GRU as GRU
from .layers import LSTM as LSTM
from .layers import RNN as RNN
from .layers import RNNBase as RNNBase
