#include "layers/linear.h"

#include <cmath>
#include <stdexcept>

#include "runtime/random.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

Linear::Linear(size_t inputs, size_t outputs, bool bias, std::optional<uint64_t> seed, const Kernels& kernels,
               Weights weights)
    : kernels_(&kernels),
      weight_(make_parameter("weight", {outputs, inputs}, seed.has_value())),
      bias_(make_parameter("bias", {bias ? outputs : 0}, seed.has_value())),
      packed_([&kernels, weights, inputs, outputs] { return PackedLinear(kernels, weights, inputs, outputs); }) {
    if (inputs == 0 || outputs == 0) refuse({"Linear: in_features and out_features must be at least 1"});
    const double bound = 1.0 / std::sqrt(static_cast<double>(inputs));  // PyTorch's initialization
    uint64_t key = seed.value_or(0);
    for (Parameter* p : {&weight_, &bias_}) uniform_(*p, bound, key = random_key(seed.value_or(0), key + 1));
}

Parameters Linear::parameters() { return has_bias() ? Parameters{&weight_, &bias_} : Parameters{&weight_}; }

void Linear::weights_changed() {
    packed_.weights_changed();
    stamp_.renew();
}

void Linear::pack(const FileValues& values) {
    Buffer weight, bias;
    packed_.get([&](PackedLinear& p) { p.pack(values(weight_, weight), has_bias() ? values(bias_, bias) : nullptr); });
}

const PackedLinear& Linear::packed() const {
    return packed_.get(
        [&](PackedLinear& p) { p.pack(weight_.value.data(), has_bias() ? bias_.value.data() : nullptr); });
}

void Linear::forward(const float* x, size_t rows, float* y) const {
    Pool<Buffer>::Loan scratch(scratch_);
    forward(x, rows, y, *scratch, all_threads);
}

void Linear::forward(const float* x, size_t rows, float* y, Buffer& scratch, size_t most_threads) const {
    packed().forward(x, inputs(), rows, y, scratch, most_threads);
}

LinearGradients Linear::gradients(const float* x, const float* dy, size_t rows, float* dx) {
    LinearGradients g{};
    g.x = x;
    g.dy = dy;
    g.weight = weight_.value.data();
    g.rows = rows;
    g.inputs = inputs();
    g.outputs = outputs();
    g.dx = dx;
    g.dweight = weight_.grad.data();
    g.dbias = has_bias() ? bias_.grad.data() : nullptr;
    return g;
}

void Linear::backward(const float* x, const float* dy, size_t rows, float* dx) {
    linear_backward(*kernels_, gradients(x, dy, rows, dx));
}

void Linear::backward(const float* x, const float* dy, float* dx, const RowGroups& groups,
                      const std::vector<GroupRows>& rows, GroupGradientsMemory& memory) {
    size_t count = 0;
    for (const GroupRows& group : rows) count += group.list.size();
    linear_backward(*kernels_, gradients(x, dy, count, dx), weight_, has_bias() ? &bias_ : nullptr, groups, rows,
                    memory);
}

}  // namespace rnnfast::core
