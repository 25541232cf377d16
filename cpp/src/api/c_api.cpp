// The C API: checks what C cannot check, catches all exceptions, keeps the message, and returns a status.
#include "api/c_api.h"

#include "runtime/buffer.h"
#include "runtime/log.h"
#include "runtime/parallel.h"

namespace rnnfast::c_api {

namespace {

constexpr size_t longest_error = 512;
thread_local char last_error[longest_error] = "no call has failed";
rnnfast_log c_log = nullptr;

}  // namespace

rnnfast_status fail(rnnfast_status status, const char* text) {
    std::strncpy(last_error, text, longest_error - 1);
    return status;
}

rnnfast_status status_of_exception() noexcept {
    try {
        throw;
    } catch (const rnnfast::UnsupportedCpu& error) {
        return fail(RNNFAST_UNSUPPORTED_CPU, error.what());
    } catch (const rnnfast::Error& error) {
        return fail(RNNFAST_BAD_FILE, error.what());
    } catch (const std::out_of_range& error) {
        return fail(RNNFAST_OUT_OF_RANGE, error.what());
    } catch (const std::invalid_argument& error) {
        return fail(RNNFAST_INVALID_ARGUMENT, error.what());
    } catch (const std::bad_alloc&) {
        return fail(RNNFAST_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception& error) {
        return fail(RNNFAST_FAILED, error.what());
    } catch (...) {
        return fail(RNNFAST_FAILED, "an exception of an unknown type");
    }
}

rnnfast_status too_small(size_t* room, size_t needed, const char* what) {
    const std::string text =
        std::string(what) + " has room for " + std::to_string(*room) + ", " + std::to_string(needed) + " are needed";
    *room = needed;
    return fail(RNNFAST_BUFFER_TOO_SMALL, text.c_str());
}

rnnfast_status give_text(const std::string& from, char* text, size_t* size) {
    return give(from.c_str(), from.size() + 1, text, size, "text");
}

Weights precision(int weights) {
    switch (weights) {
        case RNNFAST_F32:
            return Weights::f32;
        case RNNFAST_BF16:
            return Weights::bf16;
        case RNNFAST_INT8:
            return Weights::int8;
        case RNNFAST_AS_STORED:
            break;
    }
    refuse({"weights is ", std::to_string(weights), ": expected RNNFAST_F32, RNNFAST_BF16 or RNNFAST_INT8"});
}

void check_loadable(int weights) {
    if (weights < RNNFAST_AS_STORED || weights > RNNFAST_INT8)
        refuse({"weights is ", std::to_string(weights),
                ": expected RNNFAST_AS_STORED, RNNFAST_F32, RNNFAST_BF16 or RNNFAST_INT8"});
}

State* const* checked_states(rnnfast_state* const* states, size_t count) {
    if (count) given(states, "states");
    thread_local std::vector<State*> all;
    all.resize(count);
    for (size_t i = 0; i < count; ++i) all[i] = &checked_state(states[i]);
    return all.data();
}

}  // namespace rnnfast::c_api

using namespace rnnfast::c_api;

namespace {

const rnnfast::LanguageModel& checked_model(const rnnfast_model* m) {
    return checked(const_cast<rnnfast_model*>(m), "model");
}
rnnfast::Sampler& checked_sampler(const rnnfast_sampler* s) {
    return checked(const_cast<rnnfast_sampler*>(s), "sampler");
}

}  // namespace

const char* rnnfast_last_error(void) { return last_error; }
const char* rnnfast_version(void) { return RNNFAST_VERSION; }
int rnnfast_abi_version(void) { return RNNFAST_ABI_VERSION; }

rnnfast_status rnnfast_set_num_threads(int threads) {
    return guarded([&] {
        rnnfast::set_num_threads(threads);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_set_executor(rnnfast_execute execute, void* user) {
    rnnfast::core::set_team_source({execute, user});
    return RNNFAST_OK;
}

rnnfast_status rnnfast_set_allocator(rnnfast_allocate allocate, rnnfast_release release, void* user) {
    return guarded([&] {
        if (!allocate != !release) refuse({"allocate and release must both be functions, or both NULL"});
        rnnfast::core::set_memory_source({allocate, release, user});
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_set_log(rnnfast_log log, void* user) {
    c_log = log;
    const auto write = [](void* of_user, rnnfast::LogLevel level, const char* message) noexcept {
        c_log(of_user, static_cast<int>(level), message);
    };
    rnnfast::core::set_log(log ? write : rnnfast::Log{}, user);
    return RNNFAST_OK;
}

rnnfast_status rnnfast_num_threads(int* threads) {
    return guarded([&] {
        given(threads, "threads") = rnnfast::num_threads();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_instruction_set(char* name, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(rnnfast::instruction_set(), name, size);
    });
}

rnnfast_status rnnfast_model_load(const char* path, int weights, rnnfast_model** model) {
    return guarded([&] {
        given(model, "the place for the model") = nullptr;
        const std::string name = &given(path, "path");
        *model =
            new rnnfast_model(load_as(weights, [&](auto... as) { return rnnfast::LanguageModel::load(name, as...); }));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_model_load_memory(const void* bytes, size_t size, int weights, rnnfast_model** model) {
    return guarded([&] {
        given(model, "the place for the model") = nullptr;
        *model = new rnnfast_model(
            load_as(weights, [&](auto... as) { return rnnfast::LanguageModel::load(bytes, size, as...); }));
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

rnnfast_status rnnfast_model_sizes(const rnnfast_model* model, size_t* vocabulary, size_t* hidden, size_t* num_layers) {
    return guarded([&] {
        const auto& m = checked_model(model);
        if (vocabulary) *vocabulary = m.vocab_size();
        if (hidden) *hidden = m.hidden_size();
        if (num_layers) *num_layers = m.num_layers();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_model_cell(const rnnfast_model* model, char* cell, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(checked_model(model).cell(), cell, size);
    });
}

rnnfast_status rnnfast_model_weights(const rnnfast_model* model, int* weights) {
    return guarded([&] {
        given(weights, "weights") = static_cast<int>(checked_model(model).weights());
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_token(const rnnfast_model* model, int32_t id, char* text, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(checked_model(model).vocab().token(id), text, size);
    });
}

rnnfast_status rnnfast_tokenizer(const rnnfast_model* model, char* text, size_t* size) {
    return guarded([&] {
        given(size, "size");
        return give_text(checked_model(model).vocab().tokenizer(), text, size);
    });
}

rnnfast_status rnnfast_encode(const rnnfast_model* model, const char* text, size_t size, int32_t* ids, size_t* count) {
    return guarded([&] {
        given(count, "count");
        if (!text && size) refuse({"text is NULL"});
        const auto found = checked_model(model).vocab().encode({text, size});
        return give(found.data(), found.size(), ids, count, "ids");
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
        return give(saved.data(), saved.size(), static_cast<uint8_t*>(bytes), size, "bytes");
    });
}

rnnfast_status rnnfast_state_restore(rnnfast_state* state, const void* bytes, size_t size) {
    return guarded([&] {
        checked_state(state).restore(bytes, size);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_state_size(const rnnfast_state* state, size_t* size) {
    return guarded([&] {
        given(size, "size") = checked_state(state).saved_size();
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_state_hidden(const rnnfast_state* state, size_t layer, float* hidden, size_t* size) {
    return guarded([&] {
        const rnnfast::State& s = checked_state(state);
        return give(s.hidden(layer), s.hidden_size(), hidden, size, "hidden");
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
        m.step(tokens, checked_states(states, count), count, logits);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_model_prefault(const rnnfast_model* model, rnnfast_state* const* states, size_t count) {
    return guarded([&] {
        checked_model(model).prefault(checked_states(states, count), count);
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
        *token = checked_sampler(sampler).sample(logits, size);
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_sampler_copy(const rnnfast_sampler* from, rnnfast_sampler** sampler) {
    return guarded([&] {
        given(sampler, "the place for the sampler") = nullptr;
        *sampler = new rnnfast_sampler(static_cast<const rnnfast::Sampler&>(checked_sampler(from)));
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_sampler_save(const rnnfast_sampler* sampler, void* bytes, size_t* size) {
    return guarded([&] {
        const auto saved = checked_sampler(sampler).save();
        return give(saved.data(), saved.size(), static_cast<uint8_t*>(bytes), size, "bytes");
    });
}

rnnfast_status rnnfast_sampler_restore(rnnfast_sampler* sampler, const void* bytes, size_t size) {
    return guarded([&] {
        checked_sampler(sampler).restore(bytes, size);
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
        return give_text(checked_model(model).generate(&given(prompt, "prompt"), length, checked_sampler(sampler)),
                         text, size);
    });
}

rnnfast_status rnnfast_generate_defaults(rnnfast_generate_options* options) {
    return guarded([&] {
        const rnnfast::GenerateOptions o;
        given(options, "options") = {sizeof(rnnfast_generate_options), o.max_length, nullptr, 0, nullptr, nullptr};
        return RNNFAST_OK;
    });
}

rnnfast_status rnnfast_generate_ids(const rnnfast_model* model, const int32_t* prompt, size_t count,
                                    const rnnfast_generate_options* options, rnnfast_sampler* sampler,
                                    rnnfast_state* state, int32_t* ids, size_t* id_count) {
    return guarded([&] {
        const auto& m = checked_model(model);
        given(id_count, "id_count");
        if (count) given(prompt, "prompt");
        rnnfast::GenerateOptions o;
        if (options) {
            if (options->struct_size != sizeof *options)
                refuse({"options has struct_size ", options->struct_size, ", expected ", sizeof *options,
                        ": fill it in with rnnfast_generate_defaults"});
            o.max_length = options->max_length;
            if (options->stop_count) {
                given(options->stop, "options' stop");
                o.stop.assign(options->stop, options->stop + options->stop_count);
            }
            if (options->on_token)
                o.on_token = [options](int32_t token) { return options->on_token(token, options->user_data) == 0; };
        }
        // Checked before sampling, because a sampled token cannot be undone.
        if (*id_count < o.max_length || (!ids && o.max_length)) return too_small(id_count, o.max_length, "ids");
        const auto found = m.generate(count ? std::vector<int32_t>(prompt, prompt + count) : std::vector<int32_t>(), o,
                                      checked_sampler(sampler), checked_state(state));
        return give(found.data(), found.size(), ids, id_count, "ids");
    });
}
