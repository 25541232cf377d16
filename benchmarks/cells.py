"""The gates of each recurrent layer, by its class in rnnfast; written by tools/cells.py."""

GATES = {"RNN": 1, "LSTM": 4, "GRU": 3, "MGU": 2}
