"""Recurrent networks: what a cell computes, one step of it, and layers of cells along sequences."""

from .sequences import gru as gru
from .sequences import lstm as lstm
from .sequences import rnn_relu as rnn_relu
from .sequences import rnn_tanh as rnn_tanh
from .steps import gru_cell as gru_cell
from .steps import lstm_cell as lstm_cell
from .steps import rnn_relu_cell as rnn_relu_cell
from .steps import rnn_tanh_cell as rnn_tanh_cell
