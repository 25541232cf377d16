#include "ops/pool.h"

#include <algorithm>

namespace rnnfast::core {

namespace {

const float* at(const PooledSequence& s, size_t t, size_t row) { return s.x + (t * s.rows + row) * s.width; }

void take_maximum(const float* x, size_t width, float* y) {
    for (size_t i = 0; i < width; ++i) y[i] = x[i] > y[i] ? x[i] : y[i];
}

// y = (((x_0 + x_1) + x_2) + ...) / T, in the order of the steps
void add_to_sum(const float* x, size_t width, float* sum) {
    for (size_t i = 0; i < width; ++i) sum[i] += x[i];
}
void divide(const float* sum, size_t width, float count, float* y) {
    for (size_t i = 0; i < width; ++i) y[i] = sum[i] / count;
}

}  // namespace

void pool(Pooling kind, const PooledSequence& s, float* y) {
    for (size_t row = 0; row < s.rows; ++row, y += s.width) {
        const size_t length = s.length(row);
        if (length == 0) {
            std::fill_n(y, s.width, 0.0f);
            continue;
        }
        std::copy_n(at(s, kind == Pooling::last ? length - 1 : 0, row), s.width, y);
        if (kind == Pooling::last || kind == Pooling::first) continue;
        for (size_t t = 1; t < length; ++t)
            kind == Pooling::max ? take_maximum(at(s, t, row), s.width, y) : add_to_sum(at(s, t, row), s.width, y);
        if (kind == Pooling::mean) divide(y, s.width, static_cast<float>(length), y);
    }
}

void pool_gradient(Pooling kind, const PooledSequence& s, const float* y, const float* dy, float* dx) {
    std::fill_n(dx, s.steps * s.rows * s.width, 0.0f);
    const auto to = [&](size_t t, size_t row) { return dx + (t * s.rows + row) * s.width; };
    for (size_t row = 0; row < s.rows; ++row, y += s.width, dy += s.width) {
        const size_t length = s.length(row);
        if (length == 0) continue;
        switch (kind) {
            case Pooling::last:
            case Pooling::first:
                std::copy_n(dy, s.width, to(kind == Pooling::last ? length - 1 : 0, row));
                break;
            case Pooling::mean:
                for (size_t t = 0; t < length; ++t) divide(dy, s.width, static_cast<float>(length), to(t, row));
                break;
            case Pooling::max:
                for (size_t i = 0; i < s.width; ++i)
                    for (size_t t = 0; t < length; ++t)
                        if (at(s, t, row)[i] == y[i]) {
                            to(t, row)[i] = dy[i];
                            break;
                        }
        }
    }
}

void pool_step(Pooling kind, const float* x, size_t width, float* state, float* y) {
    float& count = state[width];
    if (count == 0 || kind == Pooling::last)
        std::copy_n(x, width, state);
    else if (kind == Pooling::max)
        take_maximum(x, width, state);
    else if (kind == Pooling::mean)
        add_to_sum(x, width, state);
    ++count;
    kind == Pooling::mean ? divide(state, width, count, y) : static_cast<void>(std::copy_n(state, width, y));
}

}  // namespace rnnfast::core
