from rnnfast.nn import *
from rnnfast.nn import RNN,LSTM,GRU
from rnnfast.info import *
