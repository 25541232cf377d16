// The public layers on tensors of a file: checks at the boundary, then one call into the core.
#include <cstring>
#include <map>
#include <stdexcept>

#include "files/model_file.h"
#include "runtime/finite.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "api/api.h"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

struct Tensors::Impl {
    std::string bytes;  // of a file in memory
    SafetensorsFile file;
};

Tensors::Tensors(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Tensors::Impl& Tensors::impl() const { return held(impl_, "Tensors", "open a file with Tensors::open"); }

Tensors Tensors::open(const std::string& path) {
    auto impl = std::make_shared<Impl>();
    impl->file = SafetensorsFile::open(path);
    return Tensors(std::move(impl));
}

Tensors Tensors::parse(const void* bytes, size_t size) {
    auto impl = std::make_shared<Impl>();
    impl->bytes = checked_bytes(bytes, size);
    impl->file = SafetensorsFile::view(impl->bytes, "the tensors in memory");
    return Tensors(std::move(impl));
}

std::vector<std::string> Tensors::names() const {
    std::vector<std::string> all;
    for (const auto& [name, tensor] : impl().file.tensors()) all.push_back(name);
    return all;
}

namespace {

const TensorView& tensor_named(const SafetensorsFile& file, const std::string& name) {
    const auto found = file.tensors().find(name);
    if (found != file.tensors().end()) return found->second;
    std::string names;
    for (const auto& [other, tensor] : file.tensors())
        if (names.size() < 200) names += (names.empty() ? "" : ", ") + other;
    refuse({file.name(), ": no tensor ", name, "; it has ", names});
}

std::vector<size_t> matrix_shape(const SafetensorsFile& file, const std::string& name) {
    const TensorView& tensor = tensor_named(file, name);
    if (tensor.shape.size() != 2 || tensor.size == 0) refuse({file.name(), ": ", name, " is not a weight matrix"});
    return tensor.shape;
}

}  // namespace

std::vector<size_t> Tensors::shape(const std::string& name) const { return tensor_named(impl().file, name).shape; }

std::vector<float> Tensors::values(const std::string& name) const {
    const TensorView& tensor = tensor_named(impl().file, name);
    Buffer buffer;
    const float* values = tensor_values(impl().file, name, tensor.shape, buffer);
    return {values, values + tensor.size};
}

struct Recurrent::Impl {
    core::Recurrent layers;
    OneStep one_step = {};
};

namespace {

// PyTorch's names of one layer's tensors.
constexpr const char* kinds[] = {"weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l", "weight_c_l"};

// The layers that have a tensor, by number; refuses, by name, what this library does not compute.
size_t count_layers(const SafetensorsFile& file, const std::string& prefix) {
    std::map<size_t, std::string> found;  // layer -> one of its tensors
    for (const auto& [name, tensor] : file.tensors()) {
        if (name.compare(0, prefix.size(), prefix) != 0) continue;
        const std::string own = name.substr(prefix.size());
        if (own.compare(0, 11, "weight_hr_l") == 0)
            refuse({file.name(), ": ", name, " projects the hidden state (proj_size), which ",
                    "is not supported; convert the module with rf.from_torch in Python, or train without proj_size"});
        for (const char* kind : kinds) {
            const size_t length = std::strlen(kind);
            if (own.compare(0, length, kind) != 0) continue;
            size_t digits = length;
            while (digits < own.size() && own[digits] >= '0' && own[digits] <= '9') ++digits;
            if (own.substr(digits) == "_reverse")
                refuse({file.name(), ": ", name, " is of a backward direction, which a ", "stream cannot run"});
            if (digits == length || digits != own.size() || digits > length + 6) continue;
            found.emplace(std::stoul(own.substr(length)), name);
        }
    }
    size_t layers = 0;
    for (const auto& [layer, name] : found) {
        if (layer != layers)
            refuse({file.name(), ": has ", name, ", but no ", prefix, "weight_ih_l", layers, ": a layer is missing"});
        ++layers;
    }
    return layers;
}

// H of the first layer, from the matrix whose shape holds it.
size_t hidden_size_of(const SafetensorsFile& file, const std::string& prefix, const CellInfo& cell) {
    if (!cell.recurrent && file.tensors().count(prefix + "weight_hh_l0"))
        refuse({file.name(), ": has ", prefix, "weight_hh_l0, but a ", cell.name,
                " has no recurrent product; is the file of another cell?"});
    if (cell.state_reads.count) {
        const std::string name = prefix + "weight_c_l0";
        const std::vector<size_t>& shape = tensor_named(file, name).shape;
        if (shape.size() != 1 || shape[0] == 0 || shape[0] % cell.state_reads.count)
            refuse({file.name(), ": ", name, " is no vector of ", cell.state_reads.count, " numbers a hidden unit"});
        return shape[0] / cell.state_reads.count;
    }
    const std::string name = prefix + (cell.recurrent ? "weight_hh_l0" : "weight_ih_l0");
    const std::vector<size_t> shape = matrix_shape(file, name);
    const size_t hidden = shape[0] / cell.gates;
    if (hidden * cell.gates == shape[0] && (!cell.recurrent || shape[1] == hidden)) return hidden;
    refuse({file.name(), ": ", name, " has shape [", shape[0], ", ", shape[1], "]; a ", cell.name, " has ", cell.gates,
            (cell.gates == 1 ? " gate" : " gates"), ", so ",
            (cell.recurrent ? "[" + std::to_string(cell.gates * shape[1]) + ", " + std::to_string(shape[1]) + "] is"
                            : "a multiple of " + std::to_string(cell.gates) + " rows is"),
            " expected; is the file of another cell?"});
}

}  // namespace

Recurrent::Recurrent(const Tensors& tensors, const std::string& prefix, const std::string& cell_name, Weights weights) {
    const SafetensorsFile& file = tensors.impl().file;
    const CellInfo& cell = cell_named(cell_name);
    checked(weights);
    const size_t layers = std::max<size_t>(1, count_layers(file, prefix));
    const size_t hidden = hidden_size_of(file, prefix, cell);
    const auto has = [&](const std::string& name) { return file.tensors().count(name) != 0; };
    const bool bias = has(prefix + "bias_ih_l0");
    RecurrentOptions options;
    options.cell = cell.name;
    options.input_size = matrix_shape(file, prefix + "weight_ih_l0")[1];
    options.hidden_size = hidden;
    options.num_layers = layers;
    options.bias = bias;
    options.weights = weights;
    for (size_t layer = 0; layer < layers; ++layer) {
        const std::string end = "_l" + std::to_string(layer), ih = prefix + "weight_ih" + end;
        const size_t inputs = matrix_shape(file, ih)[1];
        if (layer && inputs != hidden)
            refuse({file.name(), ": ", ih, " reads ", inputs, " numbers, the layer below gives ", hidden});
        for (const char* one : {"bias_ih", "bias_hh"})
            if ((cell.recurrent || one == std::string_view("bias_ih")) && has(prefix + one + end) != bias)
                refuse({file.name(), ": ", prefix, one, end, " is ",
                        (bias ? "missing, but " : "there, but there is no "), prefix, "bias_ih_l0",
                        (bias ? " is there" : ""), ": expected both biases in all layers, or in none"});
        check_packed_size(file, ih, inputs, GateOrder{cell.reading(inputs, hidden).gates, hidden}.columns(), weights);
    }
    auto impl = std::make_shared<Impl>(Impl{{options, std::nullopt, active(), prefix}});
    impl->layers.pack([&](const Parameter& p, Buffer& buffer) { return tensor_values(file, p.name, p.shape, buffer); },
                      false);
    auto one_step = std::make_shared<NetworkWorkspace::Sizes>();
    one_step->cover(stream_sizes(impl->layers.stack(), 1));
    impl->one_step = std::move(one_step);
    impl_ = std::move(impl);
}

const Recurrent::Impl& Recurrent::impl() const { return held(impl_, "Recurrent", "make one from Tensors"); }
size_t Recurrent::input_size() const { return impl().layers.options().input_size; }
size_t Recurrent::hidden_size() const { return impl().layers.options().hidden_size; }
size_t Recurrent::num_layers() const { return impl().layers.options().num_layers; }
std::string Recurrent::cell() const { return impl().layers.cell().name; }
Weights Recurrent::weights() const { return impl().layers.options().weights; }
State Recurrent::initial_state() const { return State(new_state(impl().layers.stack(), impl().one_step)); }

namespace {

// One NaN would stay in the state for ever and give NaN for every later step.
void check_finite(const float* x, size_t steps, size_t rows, size_t inputs) {
    const size_t size = steps * rows * inputs, at = first_not_finite(x, size);
    if (at == size) return;
    refuse({"x has NaN or infinity at step ", at / (rows * inputs), ", stream ", at / inputs % rows, ", input ",
            at % inputs, ": fill in missing values first"});
}

}  // namespace

void Recurrent::step(const float* x, State& state, float* y) const { run(x, 1, state, y); }

void Recurrent::step(const float* x, State* const* states, size_t count, float* y) const {
    const Stack stack = impl().layers.stack();
    StreamState* const* streams = gather(states, count, stack);
    check_pointer(x, "x");
    check_pointer(y, "y");
    check_finite(x, 1, count, stack.input_size());
    RecurrentInput input;
    input.x = x;
    input.steps = 1;
    input.rows = count;
    stream_run(stack, input, streams, y, states[0]->impl().workspace, most_threads(count));
}

void Recurrent::run(const float* x, size_t steps, State& state, float* y) const {
    const Stack stack = impl().layers.stack();
    State* states[] = {&state};
    StreamState* const* streams = gather(states, 1, stack);
    check_pointer(x, "x");
    check_pointer(y, "y");
    if (steps == 0) refuse({"no steps: expected at least one"});
    check_finite(x, steps, 1, stack.input_size());
    RecurrentInput input;
    input.x = x;
    input.steps = steps;
    input.rows = 1;
    stream_run(stack, input, streams, y, state.impl().workspace, 1);
}

struct Linear::Impl {
    PackedLinear packed;
};

Linear::Linear(const Tensors& tensors, const std::string& weight, const std::string& bias, Weights weights) {
    const SafetensorsFile& file = tensors.impl().file;
    const std::vector<size_t> shape = matrix_shape(file, weight);
    check_packed_size(file, weight, shape[1], shape[0], checked(weights));
    Buffer buffer, bias_buffer;
    auto impl = std::make_shared<Impl>();
    impl->packed = PackedLinear(active(), weights, shape[1], shape[0]);
    impl->packed.pack(tensor_values(file, weight, shape, buffer),
                      bias.empty() ? nullptr : tensor_values(file, bias, {shape[0]}, bias_buffer));
    impl_ = std::move(impl);
}

const Linear::Impl& Linear::impl() const { return held(impl_, "Linear", "make one from Tensors"); }
size_t Linear::in_features() const { return impl().packed.inputs(); }
size_t Linear::out_features() const { return impl().packed.outputs(); }

void Linear::forward(const float* x, float* y, size_t rows) const {
    const PackedLinear& packed = impl().packed;
    if (rows == 0) return;
    check_pointer(x, "x");
    check_pointer(y, "y");
    thread_local Buffer scratch;  // grows at the first call of a thread
    packed.forward(x, packed.inputs(), rows, y, scratch, most_threads(rows));
}

}  // namespace v1
}  // namespace rnnfast
