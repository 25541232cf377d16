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

namespace {

// The steps of a row that an output step reads.
Range window_at(const Windows& w, size_t t, size_t length) {
    const size_t first = t * w.stride, begin = first > w.before ? first - w.before : 0;
    return {begin, std::min(first + w.size - w.before, length)};
}

float count_of(const Windows& w, const Range& window) {
    return static_cast<float>(w.padding_counts ? w.size : window.size());
}

// Calls body(row) on several threads.
template <class Body>
void for_each_row_of(const PooledSequence& s, double flops, size_t most_threads, Body body) {
    const double all = flops * static_cast<double>(s.steps * s.rows * s.width);
    parallel(std::min(most_threads, threads_for(all)), [&](const Team& team) {
        const Range own = split(s.rows, team.size, team.index);
        for (size_t row = own.begin; row < own.end; ++row) body(row);
    });
}

}  // namespace

void pool_windows(const Windows& w, const PooledSequence& s, float* y, size_t most_threads) {
    for_each_row_of(s, static_cast<double>(w.size), most_threads, [&](size_t row) {
        const size_t length = s.length(row);
        for (size_t t = 0; t < w.output_steps(length); ++t) {
            float* to = y + (t * s.rows + row) * s.width;
            const Range window = window_at(w, t, length);
            w.maximum ? static_cast<void>(std::copy_n(at(s, window.begin, row), s.width, to))
                      : static_cast<void>(std::fill_n(to, s.width, 0.0f));
            for (size_t i = window.begin; i < window.end; ++i)
                w.maximum ? take_maximum(at(s, i, row), s.width, to) : add_to_sum(at(s, i, row), s.width, to);
            if (!w.maximum) divide(to, s.width, count_of(w, window), to);
        }
    });
}

void pool_windows_gradient(const Windows& w, const PooledSequence& s, const float* y, const float* dy, float* dx) {
    std::fill_n(dx, s.steps * s.rows * s.width, 0.0f);
    for_each_row_of(s, 2 * static_cast<double>(w.size), all_threads, [&](size_t row) {
        const size_t length = s.length(row);
        for (size_t t = 0; t < w.output_steps(length); ++t) {
            const size_t from = (t * s.rows + row) * s.width;
            const Range window = window_at(w, t, length);
            const float count = count_of(w, window);
            for (size_t j = 0; j < s.width; ++j)
                for (size_t i = window.begin; i < window.end; ++i) {
                    float& to = dx[(i * s.rows + row) * s.width + j];
                    if (!w.maximum) {
                        to += dy[from + j] / count;
                    } else if (at(s, i, row)[j] == y[from + j]) {
                        to += dy[from + j];
                        break;
                    }
                }
        }
    });
}

}  // namespace rnnfast::core
