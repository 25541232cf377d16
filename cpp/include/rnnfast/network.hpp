// Networks without Python: load a file of rf.Sequential, rf.Network or an estimator, run whole sequences, or step any
// number of streams on any number of threads.
//
//     const auto network = rnnfast::Network::load("denoiser.safetensors", rnnfast::Weights::int8);
//     rnnfast::NetworkState state = network.initial_state();
//     std::vector<float> y(network.outputs()[0].width);
//     network.step({x}, state, {y.data()});                       // one step, x: [size]
//     network.run({xs}, {steps, rows}, {ys.data()});              // whole sequences, xs: [steps, rows, size]
//
// A network is immutable, so threads share it. A NetworkState belongs to one thread at a time. Results are
// bit-identical to Python's, whole and step by step, alone and in any batch. Wrong arguments throw
// std::invalid_argument or std::out_of_range; bad files throw rnnfast::Error.
#pragma once

#include <initializer_list>

#include "rnnfast/rnnfast.hpp"

namespace rnnfast {
inline namespace v1 {

// What a network reads: `size` numbers a step, or one id from 0 to `ids` - 1. The other one is 0.
struct NetworkInput {
    std::string name;
    size_t size = 0, ids = 0;
};

// What a network returns: `width` numbers a step; from a whole sequence, one step in all if it is a summary.
struct NetworkOutput {
    std::string name;
    size_t width = 0;
    bool summary = false;  // it comes after a pool
};

// The values of one input in a call: numbers or ids.
struct NetworkData {
    NetworkData(const float* numbers) : x(numbers) {}  // implicit: step({x}, state, {y}) should read well
    NetworkData(const int32_t* tokens) : ids(tokens) {}
    const float* x = nullptr;
    const int32_t* ids = nullptr;
};

// The sequences of a call: `rows` of them, side by side, of `steps` steps.
struct NetworkBatch {
    size_t steps = 0, rows = 1;
    // [rows] or null: the steps of each row, 0 to `steps`. What lies beyond has no effect and is 0 in every output.
    const int64_t* lengths = nullptr;
};

// The states of a network's layers in one stream, and the workspace of its steps. Starts as zeros.
class RNNFAST_API NetworkState {
public:
    NetworkState();  // empty; initial_state() of a network returns a usable one
    explicit operator bool() const { return impl_ != nullptr; }
    NetworkState(const NetworkState&);
    NetworkState& operator=(const NetworkState&);
    NetworkState(NetworkState&&) noexcept;
    NetworkState& operator=(NetworkState&&) noexcept;
    ~NetworkState();

    void reset();  // to zeros
    // Makes the workspace of single steps, which the first step makes otherwise: for threads that must not allocate.
    void reserve();
    // The state as bytes, for a file or another process; restore() reads them into a state of the same network. Throws
    // std::domain_error for a state with NaN or infinity, which too-large weights can cause.
    std::vector<uint8_t> save() const;
    void save(void* bytes, size_t capacity) const;  // allocates nothing; capacity: at least saved_size()
    size_t saved_size() const;                      // number of bytes from save()
    void restore(const void* bytes, size_t size);

    struct Impl;
    explicit NetworkState(std::unique_ptr<Impl> impl);
    Impl& impl() const;

private:
    std::unique_ptr<Impl> impl_;
};

class RNNFAST_API Network {
public:
    Network() = default;  // empty
    explicit operator bool() const { return impl_ != nullptr; }

    // Without `weights`, the precision is that of the file. Another precision is computed at load time.
    static Network load(const std::string& path);
    static Network load(const std::string& path, Weights weights);
    // From the bytes of a model file, which are not needed afterwards.
    static Network load(const void* bytes, size_t size);
    static Network load(const void* bytes, size_t size, Weights weights);

    const std::vector<NetworkInput>& inputs() const;
    const std::vector<NetworkOutput>& outputs() const;
    Weights weights() const;

    // Whole sequences, from states of zeros.

    // The steps that output number `output` has for sequences of `steps` steps, and the length of a row of that length;
    // 0: too few go in.
    size_t output_steps(size_t output, size_t steps) const;
    // inputs: for each, numbers [steps, rows, size] or ids [steps, rows]. outputs: for each, [its steps, rows, width],
    // or null if it is not wanted. Any number of threads may call; the call allocates.
    void run(std::initializer_list<NetworkData> inputs, const NetworkBatch& batch,
             std::initializer_list<float*> outputs) const;
    void run(const NetworkData* inputs, const NetworkBatch& batch, float* const* outputs) const;

    // Streams, one step at a time.

    // Why the network cannot run one step at a time, in one sentence that names the layer; empty if it can.
    std::string no_stream() const;
    // Throws std::invalid_argument, with that sentence, if the network cannot.
    NetworkState initial_state() const;
    size_t saved_size() const;  // of a state of this network

    // NaN and infinity in an input are refused, because they would stay in the state for ever. After a pool, the output
    // of a step is that of the sequence so far.

    // One step; inputs: numbers [size] or an id; outputs: [width] each, or null. Allocates and locks nothing after the
    // first step of a state, or reserve(), and makes no system call.
    void step(std::initializer_list<NetworkData> inputs, NetworkState& state,
              std::initializer_list<float*> outputs) const;
    void step(const NetworkData* inputs, NetworkState& state, float* const* outputs) const;
    // Steps `count` streams together; inputs: numbers [count, size] or ids [count]; outputs: [count, width]. Faster
    // than single steps, and bit-identical to them. A repeated state is refused. *states[0] keeps the workspace of the
    // call: after the first of this count, a call allocates nothing.
    void step(const NetworkData* inputs, NetworkState* const* states, size_t count, float* const* outputs) const;
    // Readies what the next step of these states on this thread needs: after it, the step allocates nothing and causes
    // no page fault. Takes a step, and puts the states back.
    void prefault(NetworkState& state) const;
    void prefault(NetworkState* const* states, size_t count) const;
    // `steps` steps of one stream; inputs: numbers [steps, size] or ids [steps]; outputs: [steps, width].
    void read(const NetworkData* inputs, size_t steps, NetworkState& state, float* const* outputs) const;

    struct Impl;
    explicit Network(std::shared_ptr<const Impl> impl);

private:
    const Impl& impl() const;
    void advance(const NetworkData* inputs, const NetworkBatch& batch, NetworkState* const* states,
                 float* const* outputs) const;
    std::shared_ptr<const Impl> impl_;
};

}  // namespace v1
}  // namespace rnnfast
