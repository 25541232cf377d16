// The public C++ classes: checks at the boundary, then one call into the core.
#include "api/api.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "api/states.h"
#include "models/language_model_file.h"
#include "rnnfast/rnnfast.h"
#include "runtime/check.h"
#include "runtime/finite.h"
#include "runtime/log.h"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

std::string version() { return RNNFAST_VERSION; }
int abi_version() { return RNNFAST_ABI_VERSION; }
std::string instruction_set() { return active().name; }
void set_num_threads(int threads) { core::set_num_threads(threads); }
int num_threads() { return core::num_threads(); }

Executor::~Executor() = default;
Allocator::~Allocator() = default;

void set_executor(Executor* executor) {
    const auto execute = [](void* user, size_t threads, Executor::Run run, void* job) {
        static_cast<Executor*>(user)->execute(threads, run, job);
    };
    core::set_team_source(executor ? core::TeamSource{execute, executor} : core::TeamSource{});
}

void set_allocator(Allocator* allocator) {
    const auto allocate = [](void* user, size_t bytes, size_t alignment) {
        return static_cast<Allocator*>(user)->allocate(bytes, alignment);
    };
    const auto release = [](void* user, void* memory) { static_cast<Allocator*>(user)->release(memory); };
    core::set_memory_source(allocator ? core::MemorySource{allocate, release, allocator} : core::MemorySource{});
}

void set_log(Log log, void* user) { core::set_log(log, user); }

void refuse_empty(const char* what, const char* how) {
    refuse({"this ", what, " is empty: it was default-constructed or moved ", "from; ", how});
}

void check_pointer(const void* p, const char* what) {
    if (!p) refuse({what, " is null: expected memory for it"});
}

std::string_view checked_bytes(const void* bytes, size_t size) {
    check_pointer(bytes, "the model's bytes");
    return {static_cast<const char*>(bytes), size};
}

Weights checked(Weights weights) {
    switch (weights) {
        case Weights::f32:
        case Weights::bf16:
        case Weights::int8:
            return weights;
    }
    refuse({"weights is ", std::to_string(static_cast<int>(weights)),
            ": expected Weights::f32, Weights::bf16 or Weights::int8"});
}

Vocabulary::Vocabulary(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const Vocabulary::Impl& Vocabulary::impl() const { return held(impl_, "Vocabulary", "take a model's vocab()"); }
size_t Vocabulary::size() const { return impl().tokens.size(); }
std::vector<int32_t> Vocabulary::encode(std::string_view text) const {
    const TokenTable& tokens = impl().tokens;
    if (text.size()) check_pointer(text.data(), "the text");
    return tokens.encode(text);
}
std::string Vocabulary::decode(const std::vector<int32_t>& ids) const { return decode(ids.data(), ids.size()); }
std::string Vocabulary::decode(const int32_t* ids, size_t count) const {
    const TokenTable& tokens = impl().tokens;
    if (count) check_pointer(ids, "ids");
    return tokens.decode(ids, count);
}
std::string Vocabulary::tokenizer() const { return impl().tokens.tokenizer(); }
std::string Vocabulary::token(int32_t id) const {
    const TokenTable& tokens = impl().tokens;
    if (!tokens.size())
        refuse_index({"token id ", std::to_string(id), ": the model has no vocabulary; use the ids themselves"});
    check_id(id, {tokens.size()});
    return std::string(tokens.token(static_cast<size_t>(id)));
}

namespace {

// A saved state: this constant, the cell's name, three sizes, then h, c and, with a window of two steps, x, without
// padding.
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

size_t size_of(const StreamState& s) {
    return sizeof(StateHeader) + sizeof(float) * (s.layers * s.hidden * (s.cell->has_c ? 2 : 1) + s.x.size());
}

// Calls body(floats of a row, their number) for every saved row, in order.
template <class Body>
void for_each_row(StreamState& s, Body body) {
    for (size_t l = 0; l < s.layers; ++l) body(s.h.data() + l * s.hidden, s.hidden);
    for (size_t l = 0; l < s.layers && s.cell->has_c; ++l) body(s.c.data() + l * s.padded(), s.hidden);
    if (s.x.size()) body(s.x.data(), s.x.size());
}

std::string described(const StreamShape& s) {
    return std::string(s.cell->name) + " of " + std::to_string(s.layers) + " layers of " + std::to_string(s.hidden) +
           (s.carried_inputs ? " and " + std::to_string(s.carried_inputs) + " carried inputs" : "");
}

}  // namespace

void check_fits(const StreamState& state, const StreamShape& shape) {
    if (state.shape() != shape)
        refuse({"the state belongs to another model: it is of a ", described(state.shape()), ", the model is a ",
                described(shape), "; make it with this model's initial_state()"});
}

StreamState* const* gather(State* const* states, size_t count, const StreamShape& shape) {
    check_states(states, count, [&](const State::Impl& state) { check_fits(state.stream, shape); });
    std::vector<StreamState*>& together = states[0]->impl().together;
    together.resize(count);
    each_once(states, count, [&](size_t i, State::Impl& state) { together[i] = &state.stream; });
    return together.data();
}

std::unique_ptr<State::Impl> new_state(const StreamShape& shape, const OneStep& one_step) {
    auto impl = std::make_unique<State::Impl>();
    impl->stream = StreamState(shape);
    impl->one_step = one_step;
    return impl;
}

State::State() = default;
State::State(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
State::State(State&&) noexcept = default;
State& State::operator=(State&&) noexcept = default;
State::~State() = default;

State::State(const State& other) { *this = other; }
State& State::operator=(const State& other) {
    if (this == &other) return *this;
    if (!other) {
        impl_.reset();
        return *this;
    }
    const Impl& from = other.impl();
    if (!impl_) impl_ = std::make_unique<Impl>();
    impl_->stream.assign(from.stream);
    impl_->one_step = from.one_step;
    // The copy of a warm state is also warm. Other states stay small: only the first of a batch needs a workspace.
    if (!from.together.empty()) {
        impl_->workspace.reserve(*from.one_step);
        impl_->together.reserve(1);
    }
    return *this;
}

State::Impl& State::impl() const {
    if (!impl_) refuse_empty("State", "make one with initial_state()");
    return *impl_;
}

void State::reset() {
    impl().stream.h.zero();
    impl().stream.c.zero();
    impl().stream.x.zero();
}

size_t State::saved_size() const { return size_of(impl().stream); }

std::vector<uint8_t> State::save() const {
    StreamState& s = impl().stream;
    const auto rows = [&](auto body) { for_each_row(s, body); };
    check_can_be_saved(rows);
    std::vector<uint8_t> bytes(size_of(s));
    const StateHeader header = header_of(s);
    std::memcpy(bytes.data(), &header, sizeof header);
    save_rows(rows, bytes.data() + sizeof header);
    return bytes;
}

void State::restore(const void* bytes, size_t size) {
    StreamState& s = impl().stream;
    check_pointer(bytes, "the saved state");
    const StateHeader header = header_of(s);
    if (size != size_of(s) || std::memcmp(bytes, &header, sizeof header) != 0)
        refuse({"these ", size, " bytes are not a saved state of a ", described(s.shape()), ", which has ", size_of(s),
                " bytes; they are truncated, or of another model"});
    restore_rows([&](auto body) { for_each_row(s, body); }, static_cast<const uint8_t*>(bytes) + sizeof header,
                 size - sizeof header);
}

size_t State::hidden_size() const { return impl().stream.hidden; }
size_t State::num_layers() const { return impl().stream.layers; }

const float* State::hidden(size_t layer) const {
    const StreamState& s = impl().stream;
    if (layer >= s.layers) refuse_index({"layer ", layer, ": the state has ", s.layers});
    return s.h.data() + layer * s.hidden;
}

struct Sampler::Impl {
    core::Sampler sampler;
};
Sampler::Sampler(double temperature, size_t top_k, uint64_t seed, double top_p)
    : Sampler(SamplerOptions{temperature, top_k, seed, top_p}) {}
Sampler::Sampler(const SamplerOptions& options) : impl_(new Impl{core::Sampler(options)}) {}
Sampler::Sampler(const Sampler& other) { *this = other; }
Sampler& Sampler::operator=(const Sampler& other) {
    if (this != &other) impl_ = other ? std::make_unique<Impl>(*other.impl_) : nullptr;
    return *this;
}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;
Sampler::Impl& Sampler::impl() const {
    if (!impl_) refuse({"this Sampler is empty: it was moved from; make a new one"});
    return *impl_;
}
void Sampler::read(const int32_t* tokens, size_t count) {
    core::Sampler& sampler = impl().sampler;
    if (count) check_pointer(tokens, "tokens");
    sampler.read(tokens, count);
}
int32_t Sampler::sample(const std::vector<float>& logits) { return sample(logits.data(), logits.size()); }
int32_t Sampler::sample(const float* logits, size_t size) {
    core::Sampler& sampler = impl().sampler;
    if (!logits || size == 0) refuse({"no logits: expected one for each token of the vocabulary"});
    return sampler.sample(logits, size);
}
std::vector<uint8_t> Sampler::save() const { return impl().sampler.save(); }
void Sampler::restore(const void* bytes, size_t size) {
    check_pointer(bytes, "the saved sampler");
    auto restored = std::make_unique<Impl>(Impl{core::Sampler::restored(bytes, size)});
    impl_ = std::move(restored);
}

struct LanguageModel::Impl {
    Impl(LanguageModelFile&& file, Weights weights)
        : model(file, weights, active()),
          one_step(std::make_shared<NetworkWorkspace::Sizes>(model.one_step())),
          vocabulary(std::make_shared<Vocabulary::Impl>(Vocabulary::Impl{std::move(file.tokens)})) {}
    core::LanguageModel model;
    OneStep one_step;
    Vocabulary vocabulary;
};

LanguageModel::LanguageModel(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
const LanguageModel::Impl& LanguageModel::impl() const {
    return held(impl_, "LanguageModel", "load one with LanguageModel::load");
}

LanguageModel LanguageModel::load(const std::string& path) {
    LanguageModelFile file(SafetensorsFile::open(path));
    const Weights weights = file.options.weights;
    return LanguageModel(std::make_shared<const Impl>(std::move(file), weights));
}
LanguageModel LanguageModel::load(const std::string& path, Weights weights) {
    return LanguageModel(
        std::make_shared<const Impl>(LanguageModelFile(SafetensorsFile::open(path)), checked(weights)));
}
LanguageModel LanguageModel::load(const void* bytes, size_t size) {
    LanguageModelFile file(SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory"));
    const Weights weights = file.options.weights;
    return LanguageModel(std::make_shared<const Impl>(std::move(file), weights));
}
LanguageModel LanguageModel::load(const void* bytes, size_t size, Weights weights) {
    return LanguageModel(std::make_shared<const Impl>(
        LanguageModelFile(SafetensorsFile::view(checked_bytes(bytes, size), "the model in memory")), checked(weights)));
}

const Vocabulary& LanguageModel::vocab() const { return impl().vocabulary; }
size_t LanguageModel::vocab_size() const { return impl().model.options().vocabulary; }
size_t LanguageModel::hidden_size() const { return impl().model.options().hidden_size; }
size_t LanguageModel::num_layers() const { return impl().model.options().num_layers; }
std::string LanguageModel::cell() const { return impl().model.cell().name; }
Weights LanguageModel::weights() const { return impl().model.options().weights; }
State LanguageModel::initial_state() const { return State(new_state(impl().model.stream_shape(), impl().one_step)); }

void LanguageModel::step(int32_t token, State& state, std::vector<float>& logits) const {
    logits.resize(vocab_size());
    step(token, state, logits.data());
}

void LanguageModel::step(int32_t token, State& state, float* logits) const {
    State* states[] = {&state};
    step(&token, states, 1, logits);
}

void LanguageModel::step(const int32_t* tokens, State* const* states, size_t count, float* logits) const {
    const core::LanguageModel& model = impl().model;
    StreamState* const* streams = gather(states, count, model.stream_shape());
    check_pointer(tokens, "tokens");
    check_pointer(logits, "logits");
    model.step(tokens, streams, count, logits, states[0]->impl().workspace, most_threads(count));
}

void LanguageModel::prefault(State& state) const {
    State* const states[] = {&state};
    prefault(states, 1);
}

void LanguageModel::prefault(State* const* states, size_t count) const {
    const StreamShape shape = impl().model.stream_shape();
    std::vector<State> before;
    check_states(states, count, [&](const State::Impl& state) { check_fits(state.stream, shape); });
    for (size_t i = 0; i < count; ++i) before.push_back(*states[i]);
    std::vector<float> logits(count * vocab_size());
    step(std::vector<int32_t>(count).data(), states, count, logits.data());
    for (size_t i = 0; i < count; ++i) *states[i] = before[i];
}

void LanguageModel::run(const std::vector<int32_t>& tokens, State& state, std::vector<float>& logits) const {
    logits.resize(vocab_size());
    run(tokens.data(), tokens.size(), state, logits.data());
}

void LanguageModel::run(const int32_t* tokens, size_t count, State& state, float* logits) const {
    const core::LanguageModel& model = impl().model;
    State::Impl& s = state.impl();
    check_fits(s.stream, model.stream_shape());
    check_pointer(logits, "logits");
    if (!tokens || count == 0) refuse({"no tokens: expected at least one to read"});
    model.run(tokens, count, s.stream, logits, s.workspace);
}

std::vector<double> LanguageModel::score(const std::vector<int32_t>& tokens, State& state) const {
    std::vector<double> log_probabilities(tokens.empty() ? 0 : tokens.size() - 1);
    if (tokens.size() < 2) refuse({"fewer than two tokens: expected one to read and one to score"});
    score(tokens.data(), tokens.size(), state, log_probabilities.data());
    return log_probabilities;
}

void LanguageModel::score(const int32_t* tokens, size_t count, State& state, double* log_probabilities) const {
    const core::LanguageModel& model = impl().model;
    State::Impl& s = state.impl();
    check_fits(s.stream, model.stream_shape());
    if (!tokens || count < 2) refuse({"fewer than two tokens: expected one to read and one to score"});
    check_pointer(log_probabilities, "log_probabilities");
    model.score(tokens, count, s.stream, log_probabilities, s.workspace);
}

std::vector<int32_t> LanguageModel::generate(const std::vector<int32_t>& prompt, const GenerateOptions& options,
                                             Sampler& sampler, State& state) const {
    impl().model.check_ids(options.stop.data(), options.stop.size());
    if (prompt.empty()) refuse({"the prompt is empty: expected at least one token to start from"});
    std::vector<float> logits;
    run(prompt, state, logits);
    sampler.read(prompt.data(), prompt.size());
    LargestMemory largest;
    const auto read = [&](int32_t token) {  // the logits that the next draw depends on
        State::Impl& s = state.impl();
        check_fits(s.stream, impl().model.stream_shape());
        impl().model.step(token, s.stream, sampler.impl().sampler.reads_largest(), logits.data(), s.workspace, largest,
                          most_threads(1));
    };
    std::vector<int32_t> ids;
    while (ids.size() < options.max_length) {
        if (!ids.empty()) read(ids.back());
        const int32_t id = sampler.sample(logits);
        if (std::find(options.stop.begin(), options.stop.end(), id) != options.stop.end()) break;
        ids.push_back(id);
        if (options.on_token && !options.on_token(id)) break;
    }
    return ids;
}

std::vector<int32_t> LanguageModel::generate(const std::vector<int32_t>& prompt, size_t length, Sampler& sampler,
                                             State& state) const {
    GenerateOptions options;
    options.max_length = length;
    return generate(prompt, options, sampler, state);
}

std::string LanguageModel::generate(std::string_view prompt, const GenerateOptions& options, Sampler& sampler) const {
    const std::vector<int32_t> read = vocab().encode(prompt);
    State state = initial_state();
    int32_t last = read.empty() ? 0 : read.back();
    std::string text;
    for (const int32_t id : generate(read, options, sampler, state)) {
        // Decoded as a pair: whether a space comes before a word depends on the token before it.
        const int32_t pair[] = {last, id};
        text += vocab().decode(pair, 2).substr(vocab().decode(pair, 1).size());
        last = id;
    }
    // A space at the end of the prompt that is not a token already separates the words.
    const auto ends_blank = [](std::string_view t) {
        return !t.empty() && std::strchr(" \t\n\v\f\r", t.back()) && t.back();
    };
    if (ends_blank(prompt) && !ends_blank(vocab().decode(&read.back(), 1)))
        text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
    return text;
}

std::string LanguageModel::generate(std::string_view prompt, size_t length, Sampler& sampler) const {
    GenerateOptions options;
    options.max_length = length;
    return generate(prompt, options, sampler);
}

}  // namespace v1
}  // namespace rnnfast
