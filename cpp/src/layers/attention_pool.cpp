#include "layers/attention_pool.h"

#include <cmath>

namespace rnnfast::core {

AttentionPool1d::AttentionPool1d(size_t size, std::optional<uint64_t> seed, const Kernels& kernels)
    : size_(size), kernels_(&kernels), weight_(make_parameter("weight", {1, size}, seed.has_value())) {
    uniform_(weight_, 1.0 / std::sqrt(static_cast<double>(size)), seed.value_or(0));
}

AttentionPool AttentionPool1d::of_row(const PooledSequence& s, size_t row, float* states) const {
    AttentionPool p;
    p.steps = s.length(row);
    p.width = size_;
    p.x = s.x + row * size_;
    p.stride = s.rows * size_;
    p.weight = weight_.value.data();
    p.state = states + row * state_size();
    return p;
}

void AttentionPool1d::forward(const PooledSequence& s, float* y, Buffer& states) const {
    states.reserve(s.rows * state_size());
    parallel(threads_for(24.0 * static_cast<double>(s.steps * s.rows * s.width)), [&](const Team& team) {
        const Range own = split(s.rows, team.size, team.index);
        for (size_t n = own.begin; n < own.end; ++n) {
            AttentionPool p = of_row(s, n, states.data());
            p.y = y + n * size_;
            std::fill_n(p.state, state_size(), 0.0f);
            if (p.steps)
                kernels_->attention_pool(p);
            else
                std::fill_n(p.y, size_, 0.0f);
        }
    });
}

void AttentionPool1d::step(const float* x, float* state, float* y) const {
    AttentionPool p;
    p.steps = 1;
    p.width = size_;
    p.x = x;
    p.weight = weight_.value.data();
    p.state = state;
    p.y = y;
    kernels_->attention_pool(p);
}

void AttentionPool1d::backward(const PooledSequence& s, const float* y, const float* dy, float* dx, Buffer& states) {
    Buffer dscores(s.steps * s.rows);  // zeros beyond the rows' lengths
    if (dx) std::fill_n(dx, s.steps * s.rows * size_, 0.0f);
    parallel(threads_for(48.0 * static_cast<double>(s.steps * s.rows * s.width)), [&](const Team& team) {
        const Range own = split(s.rows, team.size, team.index);
        for (size_t n = own.begin; n < own.end; ++n) {
            AttentionPool p = of_row(s, n, states.data());
            p.y = const_cast<float*>(y) + n * size_;  // which this kernel only reads
            p.dy = dy + n * size_;
            p.dx = dx ? dx + n * size_ : nullptr;
            p.dscores = dscores.data() + n;
            p.score_stride = s.rows;
            kernels_->attention_pool_gradient(p);
        }
        team.wait();
        const Range columns = split(size_, team.size, team.index, unit_block);
        if (columns.size() == 0) return;
        WeightedRows w;
        w.rows = s.steps * s.rows;
        w.columns = columns.size();
        w.x = s.x + columns.begin;
        w.x_stride = size_;
        w.weights = dscores.data();
        w.add = true;
        w.y = weight_.grad.data() + columns.begin;
        kernels_->weighted_rows(w);
    });
}

}  // namespace rnnfast::core
