"""The words of the drawings in Chinese, for ``docs/diagrams.py``."""

from __future__ import annotations

CHINESE = {
    # hidden_variables
    "A window of the last values, and a hidden state that is updated with every value": "最近几个值的窗口，以及随每个值更新的隐状态",
    "a window of τ = 2 values": "τ = 2 个值的窗口",
    "a hidden state h_t": "隐状态 h_t",
    "predicts x_t+1 from h_t": "由 h_t 预测 x_t+1",
    # chain_rule
    "The chain rule conditions on everything before; Markov models forget": "链式法则以之前的一切为条件；马尔可夫模型会遗忘",
    "chain rule: P(x_4 | x_1, x_2, x_3)": "链式法则：P(x_4 | x_1, x_2, x_3)",
    "trigram: P(x_4 | x_2, x_3)": "三元语法：P(x_4 | x_2, x_3)",
    "bigram: P(x_4 | x_3)": "二元语法：P(x_4 | x_3)",
    # text_to_numbers
    "A text becomes tokens, tokens become ids, ids become rows of a matrix": "文本变成词元，词元变成编号，编号变成矩阵的行",
    "text": "文本",
    "tokens": "词元",
    "ids": "编号",
    "one-hot rows": "独热行",
    # iterators
    "Targets are the inputs shifted by one; sequential and random minibatches of two rows": "目标是错开一位的输入；两行的小批量：顺序分区与随机采样",
    "targets y are the inputs x, one token later": "目标 y 是晚一个词元的输入 x",
    "sequential: row n continues in the next batch, and so does its state": "顺序分区：第 n 行在下一个批量中接着读，隐状态也随之延续",
    "random: chunks in any order, each from the initial state": "随机采样：片段的顺序任意，每个都从初始状态开始",
    **{f"batch {n}": f"批量 {n}" for n in (1, 2, 3)},
    **{f"row {n}": f"第 {n} 行" for n in (1, 2)},
    # unrolled
    "A recurrent network, folded and unrolled over three steps with the same weights": "循环神经网络：折叠的，以及展开三步、权重相同的",
    "folded": "折叠",
    "unrolled": "展开",
    # perplexity
    "Perplexity of three distributions over eight tokens": "八个词元上三种分布的困惑度",
    "certain and right: 1": "确定且正确：1",
    "half on the truth: 2": "一半概率给真实词元：2",
    "a guess: 8": "随机猜测：8",
    "true": "真实",
    # clipping
    "A step of gradient descent from the wall of a cliff, with and without clipping": "从悬崖壁迈出的一步梯度下降，有裁剪与没有裁剪",
    "without clipping: η g": "没有裁剪：η g",
    "with: at most η θ": "有裁剪：至多 η θ",
    "weight": "权重",
    "loss": "损失",
    # gates
    "The gates of a GRU and of an LSTM": "GRU 与 LSTM 的门",
    # decoders
    "Three decoders, folded and unrolled: context as the initial state, as input, and with the previous token": "三种解码器，折叠与展开：上下文作为初始状态，作为输入，以及与前一个词元一起输入",
    # attention
    "Each step of the decoder weighs all states of the encoder": "解码器的每一步都对编码器的所有隐状态加权",
    "query s_t-1, keys m_j": "查询 s_t-1 ，键 m_j",
    # beam
    "Beam search of width two keeps the two best prefixes of every length": "束宽为 2 的束搜索在每个长度上保留最好的两个前缀",
    # paths
    "The path from the first to the last token: many layers, many steps, or one step": "从第一个词元到最后一个词元的路径：许多层、许多步，或者一步",
    "convolution: n/k layers": "卷积：n/k 层",
    "recurrence: n steps": "循环：n 步",
    "attention: 1 step": "注意力：1 步",
    # speed
    "Speed on one thread compared with PyTorch": "单线程速度与 PyTorch 比较",
    "Times as fast as PyTorch 2.13, one thread, 256 units": "相对 PyTorch 2.13 的加速比，单线程，256 个隐藏单元",
    "LSTM, forward, 32 rows": "LSTM，前向，32 行",
    "GRU, forward, 32 rows": "GRU，前向，32 行",
    "RNN, forward, 32 rows": "RNN，前向，32 行",
    "LSTM, training, 32 rows": "LSTM，训练，32 行",
    "GRU, training, 32 rows": "GRU，训练，32 行",
    "GRU, forward, one row": "GRU，前向，1 行",
    "GRU, training, one row": "GRU，训练，1 行",
    "LSTM, step by step": "LSTM，逐步推理",
}
# Words that both languages show as they are: names in code, tokens of examples.
UNCHANGED = {
    "GRU", "LSTM", "context_as_state", "context_as_input", "context_and_previous", "<bos>", "tanh", "Time  Traveller!",
    "il", "je", "va", "il est", "il a", "je suis", "je perds", "il est calme", "il a perdu", "il est ici",
}  # fmt: skip
