#include "layers/sampled_softmax.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <unordered_set>

#include "layers/softmax_output.h"
#include "runtime/random.h"

namespace rnnfast::core {

namespace {

constexpr float excluded = -3.4e38f;  // a logit that adds nothing to any sum

}  // namespace

void SampledSoftmax::draw(size_t vocabulary, size_t samples, uint64_t key) {
    std::unordered_set<int32_t> seen;
    const double range = std::log(static_cast<double>(vocabulary) + 1.0);
    uint64_t tries = 0;
    while (seen.size() < samples) {
        const double x = std::exp(random_uniform(key, tries++) * range);
        seen.insert(static_cast<int32_t>(std::min(static_cast<size_t>(x) - 1, vocabulary - 1)));
    }
    tries_ = static_cast<double>(tries);
    classes_.assign(seen.begin(), seen.end());
    std::sort(classes_.begin(), classes_.end());
}

// Adds the targets to the sampled classes, and finds each row's.
void SampledSoftmax::join_targets(const Batch& b) {
    const std::vector<int32_t> drawn = std::move(classes_);
    std::vector<int32_t> wanted(b.targets, b.targets + b.rows);
    wanted.erase(std::remove_if(wanted.begin(), wanted.end(), [](int32_t id) { return id < 0; }), wanted.end());
    std::sort(wanted.begin(), wanted.end());
    wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
    classes_.clear();
    std::set_union(drawn.begin(), drawn.end(), wanted.begin(), wanted.end(), std::back_inserter(classes_));
    sampled_.resize(classes_.size());
    for (size_t i = 0; i < classes_.size(); ++i)
        sampled_[i] = std::binary_search(drawn.begin(), drawn.end(), classes_[i]);
    column_.resize(b.rows);
    for (size_t r = 0; r < b.rows; ++r) {
        const auto at = std::lower_bound(classes_.begin(), classes_.end(), b.targets[r]);
        column_[r] = b.targets[r] < 0 ? -1 : static_cast<int32_t>(at - classes_.begin());
    }
}

void SampledSoftmax::correct(size_t vocabulary, Buffer& bias) const {
    const double range = std::log(static_cast<double>(vocabulary) + 1.0);
    for (size_t i = 0; i < classes_.size(); ++i) {
        const double q = std::log1p(1.0 / (static_cast<double>(classes_[i]) + 1.0)) / range;
        bias.data()[i] -= static_cast<float>(std::log(-std::expm1(tries_ * std::log1p(-q))));
    }
}

// From logits to their gradients, each row on its own.
void SampledSoftmax::softmax(const Kernels& kernels, const Batch& b, float weight) {
    const size_t classes = classes_.size();
    parallel(threads_for(16.0 * static_cast<double>(b.rows * classes)), [&](const Team& team) {
        const Range own = split(b.rows, team.size, team.index);
        for (size_t r = own.begin; r < own.end; ++r) {
            float* row = logits_.data() + r * classes;
            if (column_[r] < 0) {
                std::fill_n(row, classes, 0.0f);
                b.nll[r] = 0;
                continue;
            }
            const auto target = static_cast<size_t>(column_[r]);
            for (size_t i = 0; i < classes; ++i)
                if (!sampled_[i] && i != target) row[i] = excluded;
            float maximum, sum;
            kernels.exp_sum(classes, row, &maximum, &sum);
            b.nll[r] =
                std::log(static_cast<double>(sum)) + static_cast<double>(maximum) - static_cast<double>(row[target]);
            RowSoftmax s;
            s.rows = 1;
            s.size = classes;
            s.x = s.y = row;
            kernels.row_softmax(s);
            kernels.scale(classes, weight, row);
            row[target] -= weight;
        }
    });
}

void SampledSoftmax::loss(const Kernels& kernels, const Layer& layer, const Batch& b, uint64_t key) {
    const size_t vocabulary = layer.weight->shape[0], inputs = layer.weight->shape[1];
    draw(vocabulary, layer.samples, key);
    join_targets(b);
    const size_t classes = classes_.size();
    weight_.reserve(classes * inputs);
    bias_.reserve(classes);
    for (size_t i = 0; i < classes; ++i) {
        const auto id = static_cast<size_t>(classes_[i]);
        std::copy_n(layer.weight->value.data() + id * inputs, inputs, weight_.data() + i * inputs);
        bias_.data()[i] = layer.bias->value.data()[id];
    }
    correct(vocabulary, bias_);
    PackedLinear product(kernels, layer.weights, inputs, classes);
    product.pack(weight_.data(), bias_.data());
    logits_.reserve(b.rows * classes);
    product.forward(b.z, inputs, b.rows, logits_.data(), scratch_);
    softmax(kernels, b, weight_in_mean(b.targets, b.rows));
    dweight_.reserve(classes * inputs);
    dbias_.reserve(classes);
    std::fill_n(dweight_.data(), classes * inputs, 0.0f);
    std::fill_n(dbias_.data(), classes, 0.0f);
    linear_backward(
        kernels, {b.z, logits_.data(), weight_.data(), b.rows, inputs, classes, b.dz, dweight_.data(), dbias_.data()});
}

void SampledSoftmax::add_gradients(const Kernels& kernels, const Layer& layer) const {
    const size_t inputs = layer.weight->shape[1];
    for (size_t i = 0; i < classes_.size(); ++i) {
        const auto id = static_cast<size_t>(classes_[i]);
        kernels.add(inputs, dweight_.data() + i * inputs, layer.weight->grad.data() + id * inputs);
        layer.bias->grad.data()[id] += dbias_.data()[i];
    }
}

}  // namespace rnnfast::core
