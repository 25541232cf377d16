// The public C++ classes: checks at the border, then one call inwards.
#include "api.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace rnnfast {
inline namespace v1 {

std::string version() { return RNNFAST_VERSION; }
std::string instruction_set() { return active().name; }
void set_num_threads(int threads) { internal::set_threads(threads); }
int num_threads() { return internal::threads(); }

Vocabulary::Vocabulary(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
size_t Vocabulary::size() const { return impl_->tokens.size(); }
std::vector<int32_t> Vocabulary::encode(std::string_view text) const { return impl_->tokens.encode(text); }
std::string Vocabulary::decode(const std::vector<int32_t>& ids) const { return decode(ids.data(), ids.size()); }
std::string Vocabulary::decode(const int32_t* ids, size_t count) const { return impl_->tokens.decode(ids, count); }
std::string Vocabulary::tokenizer() const { return impl_->tokens.tokenizer(); }
std::string Vocabulary::token(int32_t id) const {
    if (id < 0 || static_cast<size_t>(id) >= size())
        throw std::out_of_range("token id " + std::to_string(id) + ": expected 0 to " + std::to_string(size()) +
                                " less one (the vocabulary)");
    return std::string(impl_->tokens.token(static_cast<size_t>(id)));
}

namespace {

// A saved state: this, the cell's name, three sizes, then h and c without padding.
constexpr char state_magic[8] = {'r', 'n', 'n', 'f', 's', 't', '0', '1'};
constexpr size_t cell_bytes = 16;
struct StateHeader {
    char magic[8];
    char cell[cell_bytes];
    uint64_t layers, hidden, has_c;
};

StateHeader header_of(const StreamState& s) {
    StateHeader header{};
    std::memcpy(header.magic, state_magic, sizeof state_magic);
    std::strncpy(header.cell, s.cell->name, cell_bytes - 1);
    header.layers = s.layers;
    header.hidden = s.hidden;
    header.has_c = s.cell->has_c;
    return header;
}

size_t saved_size(const StreamState& s) {
    return sizeof(StateHeader) + s.layers * s.hidden * sizeof(float) * (s.cell->has_c ? 2 : 1);
}

// Calls body(floats of a row, how many) for every row that is saved, in order.
template <class Body>
void for_each_row(StreamState& s, Body body) {
    for (size_t l = 0; l < s.layers; ++l) body(s.h.data() + l * s.hidden, s.hidden);
    for (size_t l = 0; l < s.layers && s.cell->has_c; ++l) body(s.c.data() + l * s.padded(), s.hidden);
}

std::string described(const StreamState& s) {
    return std::string(s.cell->name) + " of " + std::to_string(s.layers) + " layers of " + std::to_string(s.hidden);
}

void check_fits(const StreamState& state, const StreamStack& stack) {
    if (state.cell != &stack.cell() || state.layers != stack.layers() || state.hidden != stack.hidden_size())
        throw std::invalid_argument("the state is of another model: it is of a " + described(state) +
                                    ", the model is a " + described(stack.initial_state()) +
                                    "; make it with this model's initial_state()");
}

// Streams of a call over several states, in the memory of the first.
StreamState* const* gather(State* const* states, size_t count, const StreamStack& stack) {
    if (!states || count == 0) throw std::invalid_argument("no states: expected at least one");
    for (size_t i = 0; i < count; ++i)
        if (!states[i]) throw std::invalid_argument("states[" + std::to_string(i) + "] is null");
    std::vector<StreamState*>& together = states[0]->impl().together;
    together.resize(count);
    for (size_t i = 0; i < count; ++i) {
        together[i] = &states[i]->impl().stream;
        check_fits(*together[i], stack);
    }
    return together.data();
}

std::unique_ptr<State::Impl> new_state(const StreamStack& stack) {
    auto impl = std::make_unique<State::Impl>();
    impl->stream = stack.initial_state();
    return impl;
}

void check_pointer(const void* p, const char* what) {
    if (!p) throw std::invalid_argument(std::string(what) + " is null: expected memory for it");
}

}  // namespace

State::State(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
State::State(State&&) noexcept = default;
State& State::operator=(State&&) noexcept = default;
State::~State() = default;

State::State(const State& other) : impl_(std::make_unique<Impl>()) { *this = other; }
State& State::operator=(const State& other) {
    if (this == &other) return *this;
    const StreamState& from = other.impl().stream;
    if (!impl_) impl_ = std::make_unique<Impl>();
    StreamState& to = impl_->stream;
    if (!to.fits(from)) to = StreamState(*from.cell, from.layers, from.hidden);
    std::copy_n(from.h.data(), from.h.size(), to.h.data());
    std::copy_n(from.c.data(), from.c.size(), to.c.data());
    return *this;
}

State::Impl& State::impl() const {
    if (!impl_) throw std::invalid_argument("this state was moved from; make another with initial_state()");
    return *impl_;
}

void State::reset() {
    impl().stream.h.zero();
    impl().stream.c.zero();
}

std::vector<uint8_t> State::save() const {
    StreamState& s = impl().stream;
    std::vector<uint8_t> bytes(saved_size(s));
    const StateHeader header = header_of(s);
    std::memcpy(bytes.data(), &header, sizeof header);
    uint8_t* at = bytes.data() + sizeof header;
    for_each_row(s, [&](float* row, size_t size) {
        std::memcpy(at, row, size * sizeof(float));
        at += size * sizeof(float);
    });
    return bytes;
}

void State::restore(const void* bytes, size_t size) {
    StreamState& s = impl().stream;
    check_pointer(bytes, "the saved state");
    const StateHeader header = header_of(s);
    if (size != saved_size(s) || std::memcmp(bytes, &header, sizeof header) != 0)
        throw std::invalid_argument("these " + std::to_string(size) + " bytes are no saved state of a " + described(s) +
                                    ", which takes " + std::to_string(saved_size(s)) +
                                    " bytes; they were cut short, or saved from another model");
    const auto* at = static_cast<const uint8_t*>(bytes) + sizeof header;
    for (size_t i = 0; i < size - sizeof header; i += sizeof(float)) {
        uint32_t number;
        std::memcpy(&number, at + i, sizeof number);
        if ((number & 0x7f800000u) == 0x7f800000u)
            throw std::invalid_argument("the saved state holds NaN or infinity; it was damaged");
    }
    for_each_row(s, [&](float* row, size_t numbers) {
        std::memcpy(row, at, numbers * sizeof(float));
        at += numbers * sizeof(float);
    });
}

const float* State::hidden(size_t layer) const {
    const StreamState& s = impl().stream;
    if (layer >= s.layers)
        throw std::out_of_range("layer " + std::to_string(layer) + ": the state has " + std::to_string(s.layers));
    return s.h.data() + layer * s.hidden;
}

struct Sampler::Impl {
    internal::TokenSampler sampler;
};
Sampler::Sampler(double temperature, size_t top_k, uint64_t seed, double top_p)
    : impl_(new Impl{internal::TokenSampler(internal::TokenSamplerOptions{temperature, top_k, seed, top_p})}) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;
int32_t Sampler::sample(const std::vector<float>& logits) { return sample(logits.data(), logits.size()); }
int32_t Sampler::sample(const float* logits, size_t size) {
    if (!impl_) throw std::invalid_argument("this sampler was moved from");
    if (!logits || size == 0) throw std::invalid_argument("no logits: expected one for each token of the vocabulary");
    return impl_->sampler.sample(logits, size);
}

struct LanguageModel::Impl {
    Impl(LanguageModelFile&& file, Weights weights)
        : network(file, weights, active()),
          vocabulary(std::make_shared<Vocabulary::Impl>(Vocabulary::Impl{std::move(file.tokens)})) {}
    TokenNetwork network;
    Vocabulary vocabulary;
};

LanguageModel::LanguageModel(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

namespace {

std::string_view checked_bytes(const void* bytes, size_t size) {
    check_pointer(bytes, "the model's bytes");
    return {static_cast<const char*>(bytes), size};
}

}  // namespace

LanguageModel LanguageModel::load(const std::string& path) {
    LanguageModelFile file(SafetensorsFile::open(path));
    const Weights weights = file.weights;
    return LanguageModel(std::make_shared<const Impl>(std::move(file), weights));
}
LanguageModel LanguageModel::load(const std::string& path, Weights weights) {
    return LanguageModel(std::make_shared<const Impl>(LanguageModelFile(SafetensorsFile::open(path)), weights));
}
LanguageModel LanguageModel::load(const void* bytes, size_t size) {
    LanguageModelFile file(SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory"));
    const Weights weights = file.weights;
    return LanguageModel(std::make_shared<const Impl>(std::move(file), weights));
}
LanguageModel LanguageModel::load(const void* bytes, size_t size, Weights weights) {
    return LanguageModel(std::make_shared<const Impl>(
        LanguageModelFile(SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory")), weights));
}

const Vocabulary& LanguageModel::vocab() const { return impl_->vocabulary; }
size_t LanguageModel::vocab_size() const { return impl_->network.vocabulary(); }
size_t LanguageModel::hidden_size() const { return impl_->network.stack().hidden_size(); }
size_t LanguageModel::num_layers() const { return impl_->network.stack().layers(); }
std::string LanguageModel::cell() const { return impl_->network.stack().cell().name; }
Weights LanguageModel::weights() const { return impl_->network.weights(); }
State LanguageModel::initial_state() const { return State(new_state(impl_->network.stack())); }

void LanguageModel::step(int32_t token, State& state, std::vector<float>& logits) const {
    logits.resize(vocab_size());
    step(token, state, logits.data());
}

void LanguageModel::step(int32_t token, State& state, float* logits) const {
    State* states[] = {&state};
    step(&token, states, 1, logits);
}

void LanguageModel::step(const int32_t* tokens, State* const* states, size_t count, float* logits) const {
    StreamState* const* streams = gather(states, count, impl_->network.stack());
    check_pointer(tokens, "tokens");
    check_pointer(logits, "logits");
    impl_->network.check_ids(tokens, count);
    impl_->network.step(tokens, streams, count, logits, states[0]->impl().memory);
}

void LanguageModel::run(const std::vector<int32_t>& tokens, State& state, std::vector<float>& logits) const {
    logits.resize(vocab_size());
    run(tokens.data(), tokens.size(), state, logits.data());
}

void LanguageModel::run(const int32_t* tokens, size_t count, State& state, float* logits) const {
    State::Impl& s = state.impl();
    check_fits(s.stream, impl_->network.stack());
    check_pointer(logits, "logits");
    if (!tokens || count == 0) throw std::invalid_argument("no tokens: expected at least one to read");
    impl_->network.check_ids(tokens, count);
    impl_->network.run(tokens, count, s.stream, logits, s.memory);
}

std::vector<double> LanguageModel::score(const std::vector<int32_t>& tokens, State& state) const {
    std::vector<double> log_probabilities(tokens.empty() ? 0 : tokens.size() - 1);
    if (tokens.size() < 2) throw std::invalid_argument("fewer than two tokens: expected one to read and one to score");
    score(tokens.data(), tokens.size(), state, log_probabilities.data());
    return log_probabilities;
}

void LanguageModel::score(const int32_t* tokens, size_t count, State& state, double* log_probabilities) const {
    State::Impl& s = state.impl();
    check_fits(s.stream, impl_->network.stack());
    if (!tokens || count < 2)
        throw std::invalid_argument("fewer than two tokens: expected one to read and one to score");
    check_pointer(log_probabilities, "log_probabilities");
    impl_->network.check_ids(tokens, count);
    impl_->network.score(tokens, count, s.stream, log_probabilities, s.memory);
}

std::vector<int32_t> LanguageModel::generate(const std::vector<int32_t>& prompt, size_t length, Sampler& sampler,
                                             State& state) const {
    if (prompt.empty()) throw std::invalid_argument("the prompt is empty: expected at least one token to start from");
    std::vector<float> logits;
    run(prompt, state, logits);
    std::vector<int32_t> ids;
    for (size_t i = 0; i < length; ++i) {
        if (i) step(ids.back(), state, logits);
        ids.push_back(sampler.sample(logits));
    }
    return ids;
}

std::string LanguageModel::generate(std::string_view prompt, size_t length, Sampler& sampler) const {
    const std::vector<int32_t> read = vocab().encode(prompt);
    State state = initial_state();
    int32_t last = read.empty() ? 0 : read.back();
    std::string text;
    for (const int32_t id : generate(read, length, sampler, state)) {
        // Decoded as a pair: whether a space comes before a word depends on the token before it.
        const int32_t pair[] = {last, id};
        text += vocab().decode(pair, 2).substr(vocab().decode(pair, 1).size());
        last = id;
    }
    return text;
}

struct Tensors::Impl {
    std::string bytes;  // of a file in memory
    SafetensorsFile file;
};

Tensors::Tensors(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

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
    for (const auto& [name, tensor] : impl_->file.tensors()) all.push_back(name);
    return all;
}

namespace {

const TensorView& tensor_named(const SafetensorsFile& file, const std::string& name) {
    const auto found = file.tensors().find(name);
    if (found != file.tensors().end()) return found->second;
    std::string names;
    for (const auto& [other, tensor] : file.tensors())
        if (names.size() < 200) names += (names.empty() ? "" : ", ") + other;
    throw std::invalid_argument(file.name() + ": no tensor " + name + "; it has " + names);
}

std::vector<size_t> matrix_shape(const SafetensorsFile& file, const std::string& name) {
    const TensorView& tensor = tensor_named(file, name);
    if (tensor.shape.size() != 2 || tensor.size == 0)
        throw std::invalid_argument(file.name() + ": " + name + " is no matrix of weights");
    return tensor.shape;
}

}  // namespace

std::vector<size_t> Tensors::shape(const std::string& name) const { return tensor_named(impl_->file, name).shape; }

std::vector<float> Tensors::values(const std::string& name) const {
    const TensorView& tensor = tensor_named(impl_->file, name);
    Buffer buffer;
    const float* values = tensor_values(impl_->file, name, tensor.shape, buffer);
    return {values, values + tensor.size};
}

struct Recurrent::Impl {
    StreamStack stack;
};

Recurrent::Recurrent(const Tensors& tensors, const std::string& prefix, const std::string& cell_name, Weights weights) {
    const SafetensorsFile& file = tensors.impl().file;
    const CellInfo& cell = cell_named(cell_name);
    const size_t gate_rows = matrix_shape(file, prefix + "weight_hh_l0")[0], hidden = gate_rows / cell.gates;
    if (hidden * cell.gates != gate_rows)
        throw std::invalid_argument(prefix + "weight_hh_l0 has " + std::to_string(gate_rows) +
                                    " rows, no multiple of the " + std::to_string(cell.gates) + " gates of a " +
                                    cell.name);
    if (file.tensors().count(prefix + "weight_ih_l0_reverse"))
        throw std::invalid_argument(prefix + ": runs in both directions; a stream has no end to run back from");
    auto impl = std::make_shared<Impl>();
    impl->stack = StreamStack(active(), cell, hidden, weights);
    Buffer buffers[4];
    for (size_t layer = 0;; ++layer) {
        const std::string end = "_l" + std::to_string(layer), ih = prefix + "weight_ih" + end;
        if (layer && !file.tensors().count(ih)) break;
        const size_t inputs = matrix_shape(file, ih)[1];
        if (layer && inputs != hidden)
            throw std::invalid_argument(ih + " reads " + std::to_string(inputs) + " numbers, the layer below gives " +
                                        std::to_string(hidden));
        check_packed_size(file, ih, inputs, GateOrder{cell.gates, hidden}.columns());
        const bool bias = file.tensors().count(prefix + "bias_ih" + end) != 0;
        impl->stack.add_layer({tensor_values(file, ih, {gate_rows, inputs}, buffers[0]),
                               tensor_values(file, prefix + "weight_hh" + end, {gate_rows, hidden}, buffers[1]),
                               bias ? tensor_values(file, prefix + "bias_ih" + end, {gate_rows}, buffers[2]) : nullptr,
                               bias ? tensor_values(file, prefix + "bias_hh" + end, {gate_rows}, buffers[3]) : nullptr},
                              inputs, false);
    }
    impl_ = std::move(impl);
}

size_t Recurrent::input_size() const { return impl_->stack.input_size(); }
size_t Recurrent::hidden_size() const { return impl_->stack.hidden_size(); }
size_t Recurrent::num_layers() const { return impl_->stack.layers(); }
State Recurrent::initial_state() const { return State(new_state(impl_->stack)); }

void Recurrent::step(const float* x, State& state, float* y) const { run(x, 1, state, y); }

void Recurrent::step(const float* x, State* const* states, size_t count, float* y) const {
    StreamState* const* streams = gather(states, count, impl_->stack);
    check_pointer(x, "x");
    check_pointer(y, "y");
    StreamInput input;
    input.x = x;
    input.rows = count;
    impl_->stack.run(input, streams, y, states[0]->impl().memory);
}

void Recurrent::run(const float* x, size_t steps, State& state, float* y) const {
    State::Impl& s = state.impl();
    check_fits(s.stream, impl_->stack);
    check_pointer(x, "x");
    check_pointer(y, "y");
    if (steps == 0) throw std::invalid_argument("no steps: expected at least one");
    StreamInput input;
    input.x = x;
    input.steps = steps;
    StreamState* streams[] = {&s.stream};
    impl_->stack.run(input, streams, y, s.memory);
}

struct Linear::Impl {
    PackedLinear packed;
};

Linear::Linear(const Tensors& tensors, const std::string& weight, const std::string& bias, Weights weights) {
    const SafetensorsFile& file = tensors.impl().file;
    const std::vector<size_t> shape = matrix_shape(file, weight);
    check_packed_size(file, weight, shape[1], shape[0]);
    Buffer buffer, bias_buffer;
    auto impl = std::make_shared<Impl>();
    impl->packed = PackedLinear(active(), weights, shape[1], shape[0]);
    impl->packed.pack(tensor_values(file, weight, shape, buffer),
                      bias.empty() ? nullptr : tensor_values(file, bias, {shape[0]}, bias_buffer));
    impl_ = std::move(impl);
}

size_t Linear::in_features() const { return impl_->packed.inputs(); }
size_t Linear::out_features() const { return impl_->packed.outputs(); }

void Linear::forward(const float* x, float* y, size_t rows) const {
    check_pointer(x, "x");
    check_pointer(y, "y");
    thread_local Buffer scratch;  // grows at a thread's first call
    impl_->packed.forward(x, in_features(), rows, y, scratch, most_threads(rows));
}

}  // namespace v1
}  // namespace rnnfast
