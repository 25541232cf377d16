// Layers on their own, for weights of your own in a safetensors file, under PyTorch's names and in its order.
//
//     const rnnfast::Tensors file = rnnfast::Tensors::open("net.safetensors");
//     const rnnfast::Recurrent lstm(file, "lstm.", "lstm");            // lstm.weight_ih_l0, lstm.weight_hh_l0, ...
//     const rnnfast::Linear head(file, "head.weight", "head.bias");
//     rnnfast::State state = lstm.initial_state();
//     lstm.step(x, state, h);
//     head.forward(h, y);
#pragma once

#include "rnnfast/rnnfast.hpp"

namespace rnnfast {
inline namespace v1 {

// A safetensors file: named arrays of F32, BF16, or I8 with a scale for each row (docs/model-file.md).
class RNNFAST_API Tensors {
public:
    static Tensors open(const std::string& path);
    static Tensors parse(const void* bytes, size_t size);  // the bytes are copied

    std::vector<std::string> names() const;
    std::vector<size_t> shape(const std::string& name) const;
    std::vector<float> values(const std::string& name) const;

    struct Impl;
    const Impl& impl() const { return *impl_; }

private:
    explicit Tensors(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

// A stack of recurrent layers, forward in time. Immutable: threads share one, with a State for every stream.
class RNNFAST_API Recurrent {
public:
    // Finds {prefix}weight_ih_l{layer}, weight_hh, and bias_ih, bias_hh if they are there. cell: "rnn" (tanh),
    // "rnn_relu", "lstm" or "gru", with the equations and the gate order of torch.nn's.
    Recurrent(const Tensors& tensors, const std::string& prefix, const std::string& cell,
              Weights weights = Weights::f32);

    size_t input_size() const;
    size_t hidden_size() const;
    size_t num_layers() const;
    State initial_state() const;

    // x: [input_size], y: [hidden_size], the last layer's h. Allocates nothing after a state's first step.
    void step(const float* x, State& state, float* y) const;
    // `count` streams at once, x: [count, input_size], y: [count, hidden_size]; the bits of one by one.
    void step(const float* x, State* const* states, size_t count, float* y) const;
    // x: [steps, input_size], y: [steps, hidden_size]
    void run(const float* x, size_t steps, State& state, float* y) const;

    struct Impl;

private:
    std::shared_ptr<const Impl> impl_;
};

// y = x Wᵀ + b
class RNNFAST_API Linear {
public:
    Linear(const Tensors& tensors, const std::string& weight, const std::string& bias, Weights weights = Weights::f32);

    size_t in_features() const;
    size_t out_features() const;
    void forward(const float* x, float* y, size_t rows = 1) const;  // x: [rows, in_features], y: [rows, out_features]

    struct Impl;

private:
    std::shared_ptr<const Impl> impl_;
};

}  // namespace v1
}  // namespace rnnfast
