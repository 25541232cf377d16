#include "ops/elementwise.h"

#include <algorithm>

#include "runtime/parallel.h"

namespace rnnfast::core {

namespace {

// h = tanh(gates + 0), nothing saved, so gates are only read: whole blocks of them.
void tanh_of_units(const Kernels& kernels, const float* x, size_t units, const float* zeros, float* y) {
    CellForward c;
    c.rows = 1;
    c.units = units;
    c.gates = const_cast<float*>(x);
    c.recurrent = zeros;
    c.h = y;
    kernels.cells[cell_rnn_tanh].forward(c);
}

}  // namespace

void tanh_forward(const Kernels& kernels, size_t rows, size_t columns, const float* x, float* y, Buffer& zeros) {
    if (zeros.size() < columns + unit_block) zeros = Buffer(columns + unit_block);
    const size_t whole = columns / unit_block * unit_block, rest = columns - whole;
    parallel(threads_for(20.0 * static_cast<double>(rows * columns)), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r) {
            const float* from = x + r * columns;
            float last[unit_block] = {};
            std::copy_n(from + whole, rest, last);
            tanh_of_units(kernels, from, whole, zeros.data(), y + r * columns);
            tanh_of_units(kernels, last, rest, zeros.data(), y + r * columns + whole);
        }
    });
}

void tanh_backward(size_t size, const float* y, const float* dy, float* dx) {
    parallel(threads_for(4.0 * static_cast<double>(size)), [&](const Team& team) {
        const Range own = split(size, team.size, team.index, unit_block);
        for (size_t i = own.begin; i < own.end; ++i) dx[i] = dy[i] * (1.0f - y[i] * y[i]);
    });
}

}  // namespace rnnfast::core
