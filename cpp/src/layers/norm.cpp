#include "layers/norm.h"
#include "runtime/sentence.h"

#include <algorithm>
#include <stdexcept>

namespace rnnfast::core {

LayerNorm::LayerNorm(const LayerNormOptions& options, const Kernels& kernels, bool values)
    : options_(options),
      kernels_(&kernels),
      weight_(make_parameter("weight", {options.weight ? options.size : 0}, values)),
      bias_(make_parameter("bias", {options.weight && options.bias ? options.size : 0}, values)) {
    if (options.size == 0) refuse({"LayerNorm: normalized_size must be at least 1"});
    std::fill_n(weight_.value.data(), weight_.size(), 1.0f);
}

Parameters LayerNorm::parameters() {
    Parameters all;
    for (Parameter* p : {&weight_, &bias_})
        if (p->shape[0]) all.push_back(p);
    return all;
}

void LayerNorm::load(const FileValues& values) {
    for (Parameter* p : parameters()) copy_values(*p, values);
}

void LayerNorm::forward(const float* x, size_t rows, float* y, size_t most_threads) const {
    const size_t D = options_.size;
    parallel(std::min(most_threads, threads_for(8.0 * static_cast<double>(rows * D))), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);
        LayerNormForward f;
        f.rows = own.size();
        f.size = D;
        f.x = x + own.begin * D;
        f.epsilon = options_.epsilon;
        f.centered = options_.centered;
        f.weight = weight_.value.data();
        f.bias = bias_.value.data();
        f.y = y + own.begin * D;
        kernels_->layer_norm(f);
    });
}

void LayerNorm::backward(const float* x, const float* dy, size_t rows, float* dx) {
    const size_t D = options_.size;
    Buffer statistics(2 * rows, Buffer::Uninitialised{});
    LayerNormBackward all;
    all.rows = rows;
    all.size = D;
    all.x = x;
    all.dy = dy;
    all.epsilon = options_.epsilon;
    all.centered = options_.centered;
    all.weight = weight_.value.data();
    all.mean = statistics.data();
    all.inverse = all.mean + rows;
    all.dx = dx;
    parallel(threads_for(24.0 * static_cast<double>(rows * D)), [&](const Team& team) {
        const Range own = split(rows, team.size, team.index);  // rows, then columns
        LayerNormBackward b = all;
        b.rows = own.size();
        b.x += own.begin * D;
        b.dy += own.begin * D;
        b.mean += own.begin;
        b.inverse += own.begin;
        if (dx) b.dx += own.begin * D;
        kernels_->layer_norm_gradient(b);
        team.wait();
        const Range columns = split(D, team.size, team.index, unit_block);
        if (weight_.size()) kernels_->layer_norm_weight_gradient(all, columns.begin, columns.end, weight_.grad.data());
        if (bias_.size() && columns.size())
            kernels_->column_sums(rows, columns.size(), dy + columns.begin, D, bias_.grad.data() + columns.begin);
    });
}

}  // namespace rnnfast::core
