"""Recurrent networks: what a cell computes, one step of it, and layers of cells along sequences."""

from .cells import gru_cell as gru_cell
from .cells import lstm_cell as lstm_cell
from .cells import rnn_relu_cell as rnn_relu_cell
from .cells import rnn_tanh_cell as rnn_tanh_cell
from .layers import gru as gru
from .layers import lstm as lstm
from .layers import rnn_relu as rnn_relu
from .layers import rnn_tanh as rnn_tanh
