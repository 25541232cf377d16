#include "ops/packed_linear.h"

#include <algorithm>

#include "runtime/parallel.h"

namespace rnnfast::core {

PackedLinear::PackedLinear(const Kernels& kernels, Weights weights, size_t inputs, size_t outputs)
    : kernels_(&kernels), weights_(weights), inputs_(inputs), outputs_(outputs) {}

void PackedLinear::pack(const float* weight, const float* bias) {
    if (packed_.columns() != outputs_) {
        packed_ = PackedMatrix(gemm_for(*kernels_, weights_), inputs_, outputs_);
        zeros_ = Buffer(packed_.padded_columns());
    }
    packed_.fill_from_columns([&](size_t j) { return weight + j * packed_.depth(); });
    if (!bias) return;
    if (!bias_.size()) bias_ = Buffer(packed_.columns());
    std::memcpy(bias_.data(), bias, packed_.columns() * sizeof(float));
}

void PackedLinear::run(const float* x, size_t x_stride, size_t rows, float* y, Buffer& scratch, size_t most_threads,
                       const float* bias) const {
    const size_t outputs = packed_.columns();
    scratch.reserve(left_scratch(packed_, rows));
    const LeftRows left = left_rows(packed_, {x, x_stride, 0, 0}, rows, scratch.data());
    const size_t threads = threads_for(2.0 * static_cast<double>(rows * outputs * packed_.depth()));
    parallel(std::min(threads, most_threads), [&](const Team& team) {
        const Range own = split(outputs, team.size, team.index, packed_.width());
        if (own.size() == 0) return;
        multiply(packed_, left, own.begin, own.size(), zeros_.data() + own.begin, {y + own.begin, outputs, 0, 0});
        for (size_t r = 0; bias && r < rows; ++r)
            kernels_->add(own.size(), bias + own.begin, y + r * outputs + own.begin);
    });
}

void PackedLinear::forward_columns(const float* x, size_t first, size_t count, float* y) const {
    const size_t panel = first / packed_.width() * packed_.width();
    Gemm g;
    g.rows = 1;
    g.depth = inputs_;
    g.columns = count;
    g.a = {x, inputs_, 0, 0};
    g.panels = packed_.panel(panel) + (first - panel);
    g.start = zeros_.data() + first;
    g.c = {y, count, 0, 0};
    packed_.kernel().run(g);
    if (bias_.size()) kernels_->add(count, bias_.data() + first, y);
}

void PackedLinear::unpack(float* weight) const {
    const size_t width = packed_.width();
    for (size_t first = 0; first < outputs_; first += width)
        for (size_t j = first; j < std::min(first + width, outputs_); ++j)
            for (size_t k = 0; k < inputs_; ++k) weight[j * inputs_ + k] = packed_.panel(first)[k * width + j - first];
}

void linear_backward(const Kernels& kernels, const LinearGradients& g) {
    PackedMatrix back(kernels.product(), g.outputs, g.inputs), source(kernels.product(), g.rows, g.inputs);
    if (g.dx) back.fill_from_rows([&](size_t k) { return g.weight + k * g.inputs; });
    if (g.dweight) source.fill_from_rows([&](size_t k) { return g.x + k * g.inputs; });
    const Buffer zeros(back.padded_columns());
    parallel(threads_for(4.0 * static_cast<double>(g.rows * g.inputs * g.outputs)), [&](const Team& team) {
        const Range rows = split(g.rows, team.size, team.index);
        if (g.dx && rows.size()) {
            Gemm p;
            p.rows = rows.size();
            p.depth = g.outputs;
            p.columns = g.inputs;
            p.a = {g.dy + rows.begin * g.outputs, g.outputs, 0, 0};
            p.panels = back.panel(0);
            p.start = g.add ? nullptr : zeros.data();
            p.c = {g.dx + rows.begin * g.inputs, g.inputs, 0, 0};
            kernels.product().run(p);
        }
        const Range outputs = split(g.outputs, team.size, team.index, unit_block);
        if (outputs.size() == 0 || !g.dweight) return;
        Gemm p;
        p.rows = outputs.size();
        p.depth = g.rows;
        p.columns = g.inputs;
        p.a = {g.dy + outputs.begin, 1, 0, 0};
        p.step = g.outputs;
        p.panels = source.panel(0);
        p.c = {g.dweight + outputs.begin * g.inputs, g.inputs, 0, 0};
        kernels.product().run(p);
        if (g.dbias)
            kernels.column_sums(g.rows, outputs.size(), g.dy + outputs.begin, g.outputs, g.dbias + outputs.begin);
    });
}

}  // namespace rnnfast::core
