#include "layers/batch_norm.h"
#include "runtime/sentence.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace rnnfast::core {

BatchNorm1d::BatchNorm1d(const BatchNormOptions& options, const Kernels& kernels, bool values)
    : options_(options),
      kernels_(&kernels),
      weight_(make_parameter("weight", {options.affine ? options.size : 0}, values)),
      bias_(make_parameter("bias", {options.affine ? options.size : 0}, values)),
      running_mean_(make_parameter("running_mean", {options.size}, values)),
      running_var_(make_parameter("running_var", {options.size}, values)) {
    for (Parameter* p : {&running_mean_, &running_var_}) p->frozen = p->statistic = true;
    for (Parameter* p : {&weight_, &running_var_}) std::fill_n(p->value.data(), p->size(), 1.0f);
}

Parameters BatchNorm1d::parameters() {
    if (!options_.affine) return {&running_mean_, &running_var_};
    return {&weight_, &bias_, &running_mean_, &running_var_};
}

void BatchNorm1d::load(const FileValues& values) {
    for (Parameter* p : parameters()) copy_values(*p, values);
    folded();
    for (Parameter* p : parameters()) p->value = {};
}

// scale = weight / sqrt(variance + epsilon)
void BatchNorm1d::fold(const float* variance, float* scale) const {
    for (size_t i = 0; i < options_.size; ++i)
        scale[i] = (options_.affine ? weight_.value.data()[i] : 1.0f) / std::sqrt(variance[i] + options_.epsilon);
}

const BatchNorm1d::Folded& BatchNorm1d::folded() const {
    return folded_.get([&](Folded& f) {
        for (size_t i = 0; i < options_.size; ++i)
            if (const float variance = running_var_.value.data()[i]; !(variance + options_.epsilon > 0))
                refuse({"running_var[", i, "] is ", std::to_string(variance),
                        ": expected a variance, which with eps is more than 0"});
        for (Buffer* b : {&f.mean, &f.scale, &f.bias}) b->reserve(options_.size);
        std::copy_n(running_mean_.value.data(), options_.size, f.mean.data());
        if (options_.affine) std::copy_n(bias_.value.data(), options_.size, f.bias.data());
        if (!options_.affine) std::fill_n(f.bias.data(), options_.size, 0.0f);
        fold(running_var_.value.data(), f.scale.data());
    });
}

namespace {

double flops(size_t places, size_t size) { return 4.0 * static_cast<double>(places) * static_cast<double>(size); }

// A thread's share of the places.
BatchNorm share_of(const BatchNorm& all, const Team& team) {
    const Range own = split(all.rows, team.size, team.index);
    BatchNorm b = all;
    b.rows = own.size();
    if (b.places) {
        b.places += own.begin;
        return b;
    }
    const size_t skipped = own.begin * all.size;
    for (const float** from : {&b.x, &b.dy})
        if (*from) *from += skipped;
    for (float** to : {&b.y, &b.dx})
        if (*to) *to += skipped;
    return b;
}

}  // namespace

void BatchNorm1d::forward(const float* x, size_t places, float* y, size_t most_threads) const {
    const Folded& f = folded();
    BatchNorm b;
    b.rows = places;
    b.size = options_.size;
    b.x = x;
    b.mean = const_cast<float*>(f.mean.data());  // which this kernel only reads
    b.scale = f.scale.data();
    b.bias = f.bias.data();
    b.y = y;
    parallel(std::min(most_threads, threads_for(flops(places, b.size))),
             [&](const Team& team) { kernels_->batch_norm(share_of(b, team)); });
}

void BatchNorm1d::forward_in_training(const float* x, const BatchPlaces& p, float* y, BatchNormTape& tape) const {
    const size_t D = options_.size;
    if (p.count < 2)
        refuse({"reads ", p.count, " steps in all rows together, and needs two or more to train: their variance"});
    for (Buffer* b : {&tape.mean, &tape.variance, &tape.scale}) b->reserve(D);
    BatchNorm b;
    b.rows = p.count;
    b.size = D;
    b.places = p.places;
    b.x = x;
    b.mean = tape.mean.data();
    b.variance = tape.variance.data();
    b.scale = tape.scale.data();
    b.bias = options_.affine ? bias_.value.data() : nullptr;
    b.y = y;
    parallel(threads_for(2 * flops(p.count, D)), [&](const Team& team) {
        const Range own = split(D, team.size, team.index, unit_block);
        kernels_->batch_statistics(b, own.begin, own.end);
        team.wait();
        if (team.index == 0) fold(tape.variance.data(), tape.scale.data());
        team.wait();
        kernels_->batch_norm(share_of(b, team));
    });
}

void BatchNorm1d::backward(const float* x, const float* dy, const BatchPlaces& p, float* dx, BatchNormTape& tape) {
    const size_t D = options_.size;
    Buffer sums(4 * D);
    float *offset = sums.data() + 2 * D, *slope = offset + D;
    BatchNorm b;
    b.rows = p.count;
    b.size = D;
    b.places = p.places;
    b.x = x;
    b.dy = dy;
    b.mean = tape.mean.data();
    b.scale = tape.scale.data();
    b.sum_dy = sums.data();
    b.sum_dy_x = sums.data() + D;
    b.offset = offset;
    b.slope = slope;
    b.dx = dx;
    const auto count = static_cast<float>(p.count);
    parallel(threads_for(3 * flops(p.count, D)), [&](const Team& team) {
        const Range own = split(D, team.size, team.index, unit_block);
        kernels_->batch_norm_sums(b, own.begin, own.end);
        for (size_t i = own.begin; i < own.end; ++i) {
            const float spread = tape.variance.data()[i] + options_.epsilon;
            offset[i] = b.sum_dy[i] / count;
            slope[i] = b.sum_dy_x[i] / (count * spread);
            if (!options_.affine) continue;
            bias_.grad.data()[i] += b.sum_dy[i];
            weight_.grad.data()[i] += b.sum_dy_x[i] / std::sqrt(spread);
        }
        team.wait();
        if (dx) kernels_->batch_norm_gradient(share_of(b, team));
    });
    move_running_statistics(tape, p.count);
}

// running = (1 - momentum) running + momentum * that of the batch, whose variance is made unbiased
void BatchNorm1d::move_running_statistics(const BatchNormTape& tape, size_t count) {
    const float m = options_.momentum, unbiased = static_cast<float>(count) / static_cast<float>(count - 1);
    for (size_t i = 0; i < options_.size; ++i) {
        float &mean = running_mean_.value.data()[i], &variance = running_var_.value.data()[i];
        mean = (1 - m) * mean + m * tape.mean.data()[i];
        variance = (1 - m) * variance + m * (tape.variance.data()[i] * unbiased);
    }
    weights_changed();
}

}  // namespace rnnfast::core
