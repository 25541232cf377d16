// Single layers for your own weights, from a safetensors file with PyTorch's names and gate order.
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

// A safetensors file: named arrays. F32, F64, F16, BF16, and I8 with a scale per row are read as float32
// (docs/model-file.md). The file may contain tensors of other dtypes; a request for their values is refused.
class RNNFAST_API Tensors {
public:
    Tensors() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }
    static Tensors open(const std::string& path);
    static Tensors parse(const void* bytes, size_t size);  // copies the bytes

    std::vector<std::string> names() const;
    std::vector<size_t> shape(const std::string& name) const;
    std::vector<float> values(const std::string& name) const;

    struct Impl;
    const Impl& impl() const;

private:
    explicit Tensors(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

// A stack of recurrent layers, forward in time. It is immutable: threads share it, with one State per stream.
class RNNFAST_API Recurrent {
public:
    Recurrent() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }
    // Reads {prefix}weight_ih_l{layer}, weight_hh, and bias_ih, bias_hh; either all layers have biases or none has.
    // cell: "rnn" (tanh), "rnn_relu", "lstm" or "gru", with the equations and the gate order of torch.nn; or another of
    // docs/model-file.md.
    Recurrent(const Tensors& tensors, const std::string& prefix, const std::string& cell,
              Weights weights = Weights::f32);

    size_t input_size() const;
    size_t hidden_size() const;
    size_t num_layers() const;
    std::string cell() const;
    Weights weights() const;
    State initial_state() const;

    // NaN and infinity in x are refused, because they would stay in the state for ever.

    // x: [input_size]; y: [hidden_size], the last layer's h. Allocates nothing after the first step of a state.
    void step(const float* x, State& state, float* y) const;
    // Steps `count` different streams together; x: [count, input_size], y: [count, hidden_size]. Results are
    // bit-identical to those of single steps.
    void step(const float* x, State* const* states, size_t count, float* y) const;
    // x: [steps, input_size], y: [steps, hidden_size]
    void run(const float* x, size_t steps, State& state, float* y) const;

    struct Impl;

private:
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

// y = x Wᵀ + b
class RNNFAST_API Linear {
public:
    Linear() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }
    Linear(const Tensors& tensors, const std::string& weight, const std::string& bias, Weights weights = Weights::f32);

    size_t in_features() const;
    size_t out_features() const;
    void forward(const float* x, float* y, size_t rows = 1) const;  // x: [rows, in_features], y: [rows, out_features]

    struct Impl;

private:
    const Impl& impl() const;
    std::shared_ptr<const Impl> impl_;
};

}  // namespace v1
}  // namespace rnnfast
