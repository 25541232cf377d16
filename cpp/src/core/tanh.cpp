#include "core/tanh.h"

#include "core/parallel.h"

namespace rnnfast {

void tanh_forward(const Kernels& kernels, size_t rows, size_t columns, const float* x, float* y, Buffer& zeros) {
    const size_t padded = round_up(columns, unit_block);
    if (zeros.size() < padded) zeros = Buffer(padded);
    parallel(threads_for(20.0 * static_cast<double>(rows * columns)), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r) {
            CellForward c;  // h = tanh(gates + 0), nothing saved, so gates are only read
            c.rows = 1;
            c.units = columns;
            c.gates = const_cast<float*>(x) + r * columns;
            c.recurrent = zeros.data();
            c.h = y + r * columns;
            kernels.cells[cell_rnn_tanh].forward(c);
        }
    });
}

void tanh_backward(size_t size, const float* y, const float* dy, float* dx) {
    parallel(threads_for(4.0 * static_cast<double>(size)), [&](const Team& team) {
        const Range own = split(size, team.size, team.index, unit_block);
        for (size_t i = own.begin; i < own.end; ++i) dx[i] = dy[i] * (1.0f - y[i] * y[i]);
    });
}

}  // namespace rnnfast
