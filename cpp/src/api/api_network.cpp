// The public networks: checks at the boundary, then one call into the core.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "files/model_file.h"
#include "models/network_file.h"
#include "runtime/finite.h"
#include "runtime/fork.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "api/api_network.h"
#include "api/states.h"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

namespace {

// A saved state: this constant, a hash of what the states of the layers are, then their h, c and x without padding.
constexpr char state_magic[8] = {'r', 'n', 'n', 'f', 'n', 's', '0', '1'};
struct StateHeader {
    char magic[8];
    uint64_t layout;
};

// Calls body(floats of a row, their number) for every saved row, in order.
template <class Body>
void for_each_row(std::vector<StreamState>& layers, Body body) {
    for (StreamState& s : layers) {
        for (size_t l = 0; l < s.layers; ++l) body(s.h.data() + l * s.hidden, s.hidden);
        for (size_t l = 0; s.c.size() && l < s.layers; ++l) body(s.c.data() + l * s.padded(), s.hidden);
        if (const size_t carried = s.carried_inputs()) body(s.x.data(), carried);
    }
}

std::string described(const StreamState& s) {
    const std::string shape = joined({s.cell ? s.cell->name : "state", " ", s.layers, "x", s.hidden});
    return s.carried_inputs() ? joined({shape, "+", s.carried_inputs()}) : shape;
}

uint64_t fnv1a(const std::string& text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return hash;
}

}  // namespace

StreamLayout::StreamLayout(const core::Network& network) : refusal(network.no_stream()) {
    if (!refusal.empty()) return;
    zero = network.initial_states(1);
    one_step = network.stream_sizes(1);
    inputs = network.inputs().size();
    bytes = sizeof(StateHeader);
    for_each_row(zero, [&](const float*, size_t size) { bytes += size * sizeof(float); });
    const std::vector<size_t> positions = network.with_state();
    for (size_t i = 0; i < zero.size(); ++i)
        description += joined({i ? ", " : "", network.layer_name(positions[i]), ": ", described(zero[i])});
    hash = fnv1a(description);
}

NetworkState::NetworkState() = default;
NetworkState::NetworkState(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NetworkState::NetworkState(NetworkState&&) noexcept = default;
NetworkState& NetworkState::operator=(NetworkState&&) noexcept = default;
NetworkState::~NetworkState() = default;

NetworkState::Impl::Impl(std::shared_ptr<const StreamLayout> of) : layout(std::move(of)) { assign(layout->zero); }

void NetworkState::Impl::assign(const std::vector<StreamState>& from) {
    layers.resize(from.size());
    at.resize(from.size());
    for (size_t i = 0; i < from.size(); ++i) {
        layers[i].assign(from[i]);
        at[i] = &layers[i];
    }
}

void NetworkState::Impl::reserve() {
    workspace.reserve(layout->one_step);
    signals.reserve(layout->inputs);
    warm = true;
}

NetworkState::NetworkState(const NetworkState& other) { *this = other; }
NetworkState& NetworkState::operator=(const NetworkState& other) {
    if (this == &other) return *this;
    if (!other) {
        impl_.reset();
        return *this;
    }
    const Impl& from = other.impl();
    if (!impl_) impl_ = std::make_unique<Impl>(from.layout);
    impl_->layout = from.layout;
    impl_->assign(from.layers);
    if (from.warm) impl_->reserve();
    return *this;
}

NetworkState::Impl& NetworkState::impl() const {
    if (!impl_) refuse_empty("NetworkState", "make one with initial_state()");
    return *impl_;
}

void NetworkState::reset() {
    for (StreamState& state : impl().layers) state.set(nullptr, nullptr);
}
void NetworkState::reserve() { impl().reserve(); }
size_t NetworkState::saved_size() const { return impl().layout->bytes; }

std::vector<uint8_t> NetworkState::save() const {
    std::vector<uint8_t> bytes(saved_size());
    save(bytes.data(), bytes.size());
    return bytes;
}

void NetworkState::save(void* bytes, size_t capacity) const {
    Impl& s = impl();
    check_pointer(bytes, "the place for the state");
    if (capacity < s.layout->bytes)
        refuse({"the place for the state has ", capacity, " bytes, expected ", s.layout->bytes, ": ask saved_size()"});
    const auto rows = [&](auto body) { for_each_row(s.layers, body); };
    check_can_be_saved(rows);
    StateHeader header{};
    std::memcpy(header.magic, state_magic, sizeof state_magic);
    header.layout = s.layout->hash;
    auto* at = static_cast<uint8_t*>(bytes);
    std::memcpy(at, &header, sizeof header);
    save_rows(rows, at + sizeof header);
}

void NetworkState::restore(const void* bytes, size_t size) {
    Impl& s = impl();
    check_pointer(bytes, "the saved state");
    StateHeader header{};
    if (size == s.layout->bytes) std::memcpy(&header, bytes, sizeof header);
    if (std::memcmp(header.magic, state_magic, sizeof state_magic) != 0 || header.layout != s.layout->hash)
        refuse({"these ", size, " bytes are not a saved state of this network, ", "which has ", s.layout->bytes,
                " bytes for ", s.layout->description, "; they are truncated, or of another network"});
    restore_rows([&](auto body) { for_each_row(s.layers, body); }, static_cast<const uint8_t*>(bytes) + sizeof header,
                 size - sizeof header);
}

struct Network::Impl {
    explicit Impl(std::unique_ptr<core::Network> made)
        : network(std::move(made)), layout(std::make_shared<StreamLayout>(*network)) {
        for (const core::NetworkInput& i : network->inputs()) inputs.push_back({i.name, i.size, i.ids});
        for (size_t i = 0; i < network->outputs(); ++i)
            outputs.push_back({network->output_name(i), network->output_width(i), network->output_summarizes(i)});
    }
    std::unique_ptr<const core::Network> network;
    std::shared_ptr<const StreamLayout> layout;
    std::vector<NetworkInput> inputs;
    std::vector<NetworkOutput> outputs;
    mutable Pool<NetworkTape> tapes;  // of whole sequences
};

Network::Network(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Network::Impl& Network::impl() const { return held(impl_, "Network", "load one with Network::load"); }

Network network_in(const NetworkFile& file, Weights weights) {
    return Network(std::make_shared<const Network::Impl>(network_of(file, weights, active())));
}

namespace {

NetworkFile in_memory(const void* bytes, size_t size) {
    return NetworkFile(SafetensorsFile::view(checked_bytes(bytes, size), "the network in memory"));
}

}  // namespace

Network Network::load(const std::string& path) {
    const NetworkFile file(SafetensorsFile::open(path));
    return network_in(file, file.description.weights);
}
Network Network::load(const std::string& path, Weights weights) {
    return network_in(NetworkFile(SafetensorsFile::open(path)), checked(weights));
}
Network Network::load(const void* bytes, size_t size) {
    const NetworkFile file = in_memory(bytes, size);
    return network_in(file, file.description.weights);
}
Network Network::load(const void* bytes, size_t size, Weights weights) {
    return network_in(in_memory(bytes, size), checked(weights));
}

const std::vector<NetworkInput>& Network::inputs() const { return impl().inputs; }
const std::vector<NetworkOutput>& Network::outputs() const { return impl().outputs; }
Weights Network::weights() const { return impl().network->weights(); }
std::string Network::no_stream() const { return impl().layout->refusal; }
size_t Network::saved_size() const {
    if (!no_stream().empty()) refuse({no_stream()});
    return impl().layout->bytes;
}

NetworkState Network::initial_state() const {
    if (!no_stream().empty()) refuse({no_stream()});
    return NetworkState(std::make_unique<NetworkState::Impl>(impl().layout));
}

size_t Network::output_steps(size_t output, size_t steps) const {
    if (output >= impl().outputs.size()) refuse_index({"output ", output, ": the network has ", impl().outputs.size()});
    return impl().network->output_steps(output, steps);
}

namespace {

template <class Given, class Wanted>
void check_count(const Given& given, const Wanted& wanted, const char* what) {
    if (given.size() != wanted.size())
        refuse({given.size(), " ", what, ", expected ", wanted.size(), ": one for each of the network's"});
}

// The inputs of a call, as the core reads them.
void set_signals(const std::vector<NetworkInput>& wanted, const NetworkData* given, const NetworkBatch& batch,
                 std::vector<Signal>& signals) {
    check_pointer(given, "the list of inputs");
    signals.resize(wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) {
        const bool right = wanted[i].ids ? given[i].ids && !given[i].x : given[i].x && !given[i].ids;
        if (!right && batch.rows)
            refuse({"input ", json_quoted(wanted[i].name), " reads ", (wanted[i].ids ? "ids" : "numbers"),
                    ", expected a pointer to them", (given[i].x || given[i].ids ? "" : ", which is null")});
        signals[i] = {batch.steps, batch.rows, 0, given[i].x, given[i].ids, batch.lengths};
    }
}

// A NaN would stay in the state and reach the output of every later step.
void check_finite(const std::vector<NetworkInput>& wanted, const std::vector<Signal>& signals) {
    for (size_t i = 0; i < wanted.size(); ++i) {
        const Signal& s = signals[i];
        const size_t width = wanted[i].size, size = s.places() * width, at = first_not_finite(s.x, size);
        if (at == size) continue;
        refuse({"input ", json_quoted(wanted[i].name), " has NaN or infinity at step ", at / (s.rows * width),
                ", stream ", at / width % s.rows, ", number ", at % width, ": fill in missing values first"});
    }
}

void check_fits(const NetworkState::Impl& state, const StreamLayout& layout) {
    if (state.layout.get() != &layout && state.layout->description != layout.description)
        refuse({"the state belongs to another network: it is of ", state.layout->description, ", this network has ",
                layout.description, "; make it with this network's initial_state()"});
}

// The states of a call over several streams, layer by layer, in the memory of the first.
StreamState* const* gather(NetworkState* const* states, size_t count, const StreamLayout& layout) {
    check_states(states, count, [&](const NetworkState::Impl& state) { check_fits(state, layout); });
    if (count == 1) return states[0]->impl().at.data();
    const size_t layers = layout.zero.size();
    std::vector<StreamState*>& together = states[0]->impl().together;
    together.resize(count * layers);
    each_once(states, count, [&](size_t i, NetworkState::Impl& state) {
        for (size_t l = 0; l < layers; ++l) together[l * count + i] = &state.layers[l];
    });
    return together.data();
}

}  // namespace

// What step and read share: `states` of as many streams as the batch has rows.
void Network::advance(const NetworkData* inputs, const NetworkBatch& batch, NetworkState* const* states,
                      float* const* outputs) const {
    const Impl& n = impl();
    if (!n.layout->refusal.empty()) refuse({n.layout->refusal});
    StreamState* const* streams = gather(states, batch.rows, *n.layout);
    check_pointer(outputs, "the list of outputs");
    NetworkState::Impl& first = states[0]->impl();
    set_signals(n.inputs, inputs, batch, first.signals);
    check_finite(n.inputs, first.signals);
    first.warm = true;
    const size_t threads = batch.steps > 1 ? all_threads : most_threads(batch.rows);
    n.network->run(first.signals.data(), streams, first.workspace, threads);
    for (size_t i = 0; i < n.outputs.size(); ++i) {
        const Signal& y = n.network->output(first.workspace, i);
        if (outputs[i]) std::copy_n(y.x, y.size(), outputs[i]);
    }
}

void Network::step(const NetworkData* inputs, NetworkState& state, float* const* outputs) const {
    NetworkState* const states[] = {&state};
    advance(inputs, {1, 1}, states, outputs);
}
void Network::step(std::initializer_list<NetworkData> inputs, NetworkState& state,
                   std::initializer_list<float*> outputs) const {
    check_count(inputs, impl().inputs, "inputs");
    check_count(outputs, impl().outputs, "outputs");
    step(inputs.begin(), state, outputs.begin());
}
void Network::step(const NetworkData* inputs, NetworkState* const* states, size_t count, float* const* outputs) const {
    advance(inputs, {1, count}, states, outputs);
}
void Network::prefault(NetworkState& state) const {
    NetworkState* const states[] = {&state};
    prefault(states, 1);
}
void Network::prefault(NetworkState* const* states, size_t count) const {
    const Impl& n = impl();
    gather(states, count, *n.layout);  // checks them
    const size_t bytes = n.layout->bytes;
    std::vector<uint8_t> before(count * bytes);
    for (size_t i = 0; i < count; ++i) states[i]->save(before.data() + i * bytes, bytes);
    size_t widest = 0;
    for (const NetworkInput& input : n.inputs) widest = std::max(widest, input.size);
    const std::vector<float> zeros(count * widest);
    const std::vector<int32_t> ids(count);
    std::vector<NetworkData> inputs;
    for (const NetworkInput& input : n.inputs) inputs.push_back(input.ids ? ids.data() : NetworkData(zeros.data()));
    step(inputs.data(), states, count, std::vector<float*>(n.outputs.size()).data());
    for (size_t i = 0; i < count; ++i) states[i]->restore(before.data() + i * bytes, bytes);
}
void Network::read(const NetworkData* inputs, size_t steps, NetworkState& state, float* const* outputs) const {
    if (steps == 0) refuse({"no steps: expected at least one"});
    NetworkState* const states[] = {&state};
    advance(inputs, {steps, 1}, states, outputs);
}

void Network::run(const NetworkData* inputs, const NetworkBatch& batch, float* const* outputs) const {
    const Impl& n = impl();
    check_pointer(outputs, "the list of outputs");
    std::vector<Signal> signals;
    set_signals(n.inputs, inputs, batch, signals);
    Pool<NetworkTape>::Loan tape(n.tapes);
    n.network->forward({signals.data()}, *tape, false, 0);
    for (size_t i = 0; i < n.outputs.size(); ++i) {
        const Signal& y = n.network->output(*tape, i);
        if (outputs[i]) std::copy_n(y.x, y.size(), outputs[i]);
    }
}
void Network::run(std::initializer_list<NetworkData> inputs, const NetworkBatch& batch,
                  std::initializer_list<float*> outputs) const {
    check_count(inputs, impl().inputs, "inputs");
    check_count(outputs, impl().outputs, "outputs");
    run(inputs.begin(), batch, outputs.begin());
}

}  // namespace v1
}  // namespace rnnfast
