// The C API: checks what C cannot, catches everything, keeps the sentence, returns a status.
#include "c_api.h"
#include "rnnfast/layers.hpp"

namespace rnnfast::c_api {

namespace {

constexpr size_t longest_error = 512;
thread_local char last_error[longest_error] = "no call has failed";

}  // namespace

rnnfast_status fail(rnnfast_status status, const char* text) {
    std::strncpy(last_error, text, longest_error - 1);
    return status;
}

}  // namespace rnnfast::c_api

using namespace rnnfast::c_api;

struct rnnfast_model : Handle<rnnfast::LanguageModel, Kind::model> {
    using Handle::Handle;
};
struct rnnfast_state : Handle<rnnfast::State, Kind::state> {
    using Handle::Handle;
};
struct rnnfast_sampler : Handle<rnnfast::Sampler, Kind::sampler> {
    using Handle::Handle;
};
struct rnnfast_recurrent : Handle<rnnfast::Recurrent, Kind::recurrent> {
    using Handle::Handle;
};
struct rnnfast_linear : Handle<rnnfast::Linear, Kind::linear> {
    using Handle::Handle;
};

namespace {

const rnnfast::LanguageModel& checked_model(const rnnfast_model* m) {
    return checked(const_cast<rnnfast_model*>(m), "model");
}
rnnfast::State& checked_state(const rnnfast_state* s) { return checked(const_cast<rnnfast_state*>(s), "state"); }

}  // namespace

const char* rnnfast_last_error(void) { return last_error; }
const char* rnnfast_version(void) { return RNNFAST_VERSION; }

rnnfast_status rnnfast_set_num_threads(int threads) {
    return guarded([&] {
        rnnfast::set_num_threads(threads);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_model_load(const char* path, int weights, rnnfast_model** model) {
    return guarded([&] {
        given(model, "the place for the model") = nullptr;
        const std::string name = &given(path, "path");
        *model =
            new rnnfast_model(weights == RNNFAST_AS_STORED ? rnnfast::LanguageModel::load(name)
                                                           : rnnfast::LanguageModel::load(name, precision(weights)));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_model_load_memory(const void* bytes, size_t size, int weights, rnnfast_model** model) {
    return guarded([&] {
        given(model, "the place for the model") = nullptr;
        *model = new rnnfast_model(weights == RNNFAST_AS_STORED
                                       ? rnnfast::LanguageModel::load(bytes, size)
                                       : rnnfast::LanguageModel::load(bytes, size, precision(weights)));
        return RNNFAST_OK;
    });
}

void rnnfast_model_free(rnnfast_model* model) {
    if (model && model->tag == Kind::model) delete model;
}

rnnfast_status rnnfast_model_vocab_size(const rnnfast_model* model, size_t* size) {
    return guarded([&] {
        given(size, "size") = checked_model(model).vocab_size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_encode(const rnnfast_model* model, const char* text, size_t size, int32_t* ids, size_t* count) {
    return guarded([&] {
        given(count, "count");
        if (!text && size) refuse("text is NULL");
        const auto found = checked_model(model).vocab().encode({text, size});
        if (*count < found.size() || (!ids && !found.empty())) return too_small(count, found.size(), "ids");
        if (!found.empty()) std::memcpy(ids, found.data(), found.size() * sizeof(int32_t));
        *count = found.size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_decode(const rnnfast_model* model, const int32_t* ids, size_t count, char* text, size_t* size) {
    return guarded([&] {
        given(size, "size");
        if (count) given(ids, "ids");
        return give_text(checked_model(model).vocab().decode(ids, count), text, size);
    });
}

rnnfast_status rnnfast_state_new(const rnnfast_model* model, rnnfast_state** state) {
    return guarded([&] {
        given(state, "the place for the state") = nullptr;
        *state = new rnnfast_state(checked_model(model).initial_state());
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_state_copy(const rnnfast_state* from, rnnfast_state** state) {
    return guarded([&] {
        given(state, "the place for the state") = nullptr;
        *state = new rnnfast_state(checked_state(from));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_state_reset(rnnfast_state* state) {
    return guarded([&] {
        checked_state(state).reset();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_state_save(const rnnfast_state* state, void* bytes, size_t* size) {
    return guarded([&] {
        const auto saved = checked_state(state).save();
        if (given(size, "size") < saved.size() || !bytes) return too_small(size, saved.size(), "bytes");
        std::memcpy(bytes, saved.data(), saved.size());
        *size = saved.size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_state_restore(rnnfast_state* state, const void* bytes, size_t size) {
    return guarded([&] {
        checked_state(state).restore(bytes, size);
        return RNNFAST_OK;
    });
}

void rnnfast_state_free(rnnfast_state* state) {
    if (state && state->tag == Kind::state) delete state;
}

rnnfast_status rnnfast_step(const rnnfast_model* model, int32_t token, rnnfast_state* state, float* logits,
                            size_t size) {
    return guarded([&] {
        const auto& m = checked_model(model);
        if (const rnnfast_status room = check_room(size, m.vocab_size(), "logits")) return room;
        m.step(token, checked_state(state), logits);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_step_many(const rnnfast_model* model, const int32_t* tokens, rnnfast_state* const* states,
                                 size_t count, float* logits, size_t size) {
    return guarded([&] {
        const auto& m = checked_model(model);
        if (const rnnfast_status room = check_room(size, product(count, m.vocab_size(), "count"), "logits"))
            return room;
        if (count) given(states, "states");
        thread_local std::vector<rnnfast::State*> all;  // grows at a thread's first call
        all.resize(count);
        for (size_t i = 0; i < count; ++i) all[i] = &checked_state(states[i]);
        m.step(tokens, all.data(), count, logits);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_run(const rnnfast_model* model, const int32_t* tokens, size_t count, rnnfast_state* state,
                           float* logits, size_t size) {
    return guarded([&] {
        const auto& m = checked_model(model);
        if (const rnnfast_status room = check_room(size, m.vocab_size(), "logits")) return room;
        m.run(tokens, count, checked_state(state), logits);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_score(const rnnfast_model* model, const int32_t* tokens, size_t count, rnnfast_state* state,
                             double* log_probabilities, size_t size) {
    return guarded([&] {
        const auto& m = checked_model(model);
        if (const rnnfast_status room = check_room(size, count ? count - 1 : 0, "log_probabilities")) return room;
        m.score(tokens, count, checked_state(state), log_probabilities);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_sampler_new(double temperature, size_t top_k, double top_p, uint64_t seed,
                                   rnnfast_sampler** sampler) {
    return guarded([&] {
        given(sampler, "the place for the sampler") = nullptr;
        *sampler = new rnnfast_sampler(temperature, top_k, seed, top_p);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_sample(rnnfast_sampler* sampler, const float* logits, size_t size, int32_t* token) {
    return guarded([&] {
        given(token, "token");
        *token = checked(sampler, "sampler").sample(logits, size);
        return RNNFAST_OK;
    });
}

void rnnfast_sampler_free(rnnfast_sampler* sampler) {
    if (sampler && sampler->tag == Kind::sampler) delete sampler;
}

rnnfast_status rnnfast_generate(const rnnfast_model* model, const char* prompt, size_t length, rnnfast_sampler* sampler,
                                char* text, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(checked_model(model).generate(&given(prompt, "prompt"), length, checked(sampler, "sampler")),
                         text, size);
    });
}

rnnfast_status rnnfast_recurrent_load(const char* path, const char* prefix, const char* cell, int weights,
                                      rnnfast_recurrent** layers) {
    return guarded([&] {
        given(layers, "the place for the layers") = nullptr;
        const auto file = rnnfast::Tensors::open(&given(path, "path"));
        *layers = new rnnfast_recurrent(file, prefix ? prefix : "", &given(cell, "cell"), precision(weights));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_sizes(const rnnfast_recurrent* layers, size_t* input, size_t* hidden,
                                       size_t* num_layers) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_recurrent*>(layers), "layers");
        if (input) *input = l.input_size();
        if (hidden) *hidden = l.hidden_size();
        if (num_layers) *num_layers = l.num_layers();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_state_new(const rnnfast_recurrent* layers, rnnfast_state** state) {
    return guarded([&] {
        given(state, "the place for the state") = nullptr;
        *state = new rnnfast_state(checked(const_cast<rnnfast_recurrent*>(layers), "layers").initial_state());
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_recurrent_run(const rnnfast_recurrent* layers, const float* x, size_t x_size, size_t steps,
                                     rnnfast_state* state, float* y, size_t y_size) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_recurrent*>(layers), "layers");
        const size_t wanted = product(steps, l.input_size(), "steps");
        if (x_size != wanted)
            refuse("x has " + std::to_string(x_size) + " floats, expected " + std::to_string(wanted) +
                   " (steps times input)");
        if (const rnnfast_status room = check_room(y_size, product(steps, l.hidden_size(), "steps"), "y")) return room;
        l.run(x, steps, checked_state(state), y);
        return RNNFAST_OK;
    });
}

void rnnfast_recurrent_free(rnnfast_recurrent* layers) {
    if (layers && layers->tag == Kind::recurrent) delete layers;
}

rnnfast_status rnnfast_linear_load(const char* path, const char* weight, const char* bias, int weights,
                                   rnnfast_linear** linear) {
    return guarded([&] {
        given(linear, "the place for the layer") = nullptr;
        const auto file = rnnfast::Tensors::open(&given(path, "path"));
        *linear = new rnnfast_linear(file, &given(weight, "weight"), bias ? bias : "", precision(weights));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_linear_sizes(const rnnfast_linear* linear, size_t* input, size_t* output) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_linear*>(linear), "linear");
        if (input) *input = l.in_features();
        if (output) *output = l.out_features();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_linear_run(const rnnfast_linear* linear, const float* x, size_t x_size, size_t rows, float* y,
                                  size_t y_size) {
    return guarded([&] {
        const auto& l = checked(const_cast<rnnfast_linear*>(linear), "linear");
        const size_t wanted = product(rows, l.in_features(), "rows");
        if (x_size != wanted)
            refuse("x has " + std::to_string(x_size) + " floats, expected " + std::to_string(wanted) +
                   " (rows times inputs)");
        if (const rnnfast_status room = check_room(y_size, product(rows, l.out_features(), "rows"), "y")) return room;
        l.forward(x, y, rows);
        return RNNFAST_OK;
    });
}

void rnnfast_linear_free(rnnfast_linear* linear) {
    if (linear && linear->tag == Kind::linear) delete linear;
}
