#include "layers/linear.h"

#include <cmath>
#include <stdexcept>

#include "runtime/random.h"

namespace rnnfast::core {

Linear::Linear(size_t inputs, size_t outputs, bool bias, uint64_t seed, const Kernels& kernels)
    : kernels_(&kernels),
      weight_(make_parameter("weight", {outputs, inputs})),
      bias_(make_parameter("bias", {bias ? outputs : 0})),
      packed_([&kernels, inputs, outputs] { return PackedLinear(kernels, Weights::f32, inputs, outputs); }) {
    if (inputs == 0 || outputs == 0)
        throw std::invalid_argument("Linear: in_features and out_features must be at least 1");
    const double bound = 1.0 / std::sqrt(static_cast<double>(inputs));  // PyTorch's initialization
    uint64_t key = seed;
    for (Parameter* p : {&weight_, &bias_}) uniform_(*p, bound, key = random_key(seed, key + 1));
}

Parameters Linear::parameters() { return has_bias() ? Parameters{&weight_, &bias_} : Parameters{&weight_}; }

void Linear::weights_changed() {
    packed_.weights_changed();
    stamp_.renew();
}

void Linear::forward(const float* x, size_t rows, float* y) const {
    Pool<Buffer>::Loan scratch(scratch_);
    const PackedLinear& packed =
        packed_.get([&](PackedLinear& p) { p.pack(weight_.value.data(), has_bias() ? bias_.value.data() : nullptr); });
    packed.forward(x, inputs(), rows, y, *scratch);
}

void Linear::backward(const float* x, const float* dy, size_t rows, float* dx) {
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
    linear_backward(*kernels_, g);
}

}  // namespace rnnfast::core
