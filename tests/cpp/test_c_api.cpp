// Every C function given NULL, a handle of another kind, too little room or a wrong size returns a status and a
// sentence.
#include "model_files.h"

#include "rnnfast/rnnfast.h"

using namespace rnnfast::tests;

namespace {

struct Objects {
    Objects() {
        const std::string bytes = model_bytes({});
        REQUIRE(rnnfast_model_load_memory(bytes.data(), bytes.size(), RNNFAST_AS_STORED, &model) == RNNFAST_OK);
        REQUIRE(rnnfast_state_new(model, &state) == RNNFAST_OK);
        REQUIRE(rnnfast_sampler_new(0.8, 0, 1.0, 1, &sampler) == RNNFAST_OK);
        path = temporary_path("c");
        write_model(path, {}, metadata_of({}));
        REQUIRE(rnnfast_recurrent_load(path.c_str(), "rnn.", "lstm", RNNFAST_F32, &layers) == RNNFAST_OK);
        REQUIRE(rnnfast_linear_load(path.c_str(), "output.weight", "output.bias", RNNFAST_F32, &linear) == RNNFAST_OK);
    }
    ~Objects() {
        rnnfast_model_free(model);
        rnnfast_state_free(state);
        rnnfast_sampler_free(sampler);
        rnnfast_recurrent_free(layers);
        rnnfast_linear_free(linear);
        unlink(path.c_str());
    }
    Objects(const Objects&) = delete;
    rnnfast_model* model = nullptr;
    rnnfast_state* state = nullptr;
    rnnfast_sampler* sampler = nullptr;
    rnnfast_recurrent* layers = nullptr;
    rnnfast_linear* linear = nullptr;
    std::string path;
};

// The call failed with this status and left a sentence.
void check_refused(rnnfast_status status, rnnfast_status expected = RNNFAST_INVALID_ARGUMENT) {
    CHECK(status == expected);
    CHECK(std::string(rnnfast_last_error()).size() > 8);
}

}  // namespace

TEST_CASE("C: a model steps, scores, samples and generates") {
    Objects o;
    size_t size = 0;
    CHECK(rnnfast_model_vocab_size(o.model, &size) == RNNFAST_OK);
    CHECK(size == 6);
    int32_t ids[3];
    size_t count = 3;
    CHECK(rnnfast_encode(o.model, "abc", 3, ids, &count) == RNNFAST_OK);
    float logits[6], again[12];
    for (const int32_t id : ids) CHECK(rnnfast_step(o.model, id, o.state, logits, 6) == RNNFAST_OK);
    rnnfast_state *first, *second;
    REQUIRE(rnnfast_state_new(o.model, &first) == RNNFAST_OK);
    REQUIRE(rnnfast_state_copy(first, &second) == RNNFAST_OK);
    CHECK(rnnfast_run(o.model, ids, 3, first, again, 6) == RNNFAST_OK);
    CHECK(std::equal(logits, logits + 6, again));
    CHECK(rnnfast_state_reset(first) == RNNFAST_OK);
    for (const int32_t id : ids) {
        const int32_t pair[] = {id, id};
        rnnfast_state* const both[] = {first, second};
        CHECK(rnnfast_step_many(o.model, pair, both, 2, again, 12) == RNNFAST_OK);
    }
    CHECK(std::equal(logits, logits + 6, again + 6));
    double log_p[2];
    CHECK(rnnfast_state_reset(first) == RNNFAST_OK);
    CHECK(rnnfast_score(o.model, ids, 3, first, log_p, 2) == RNNFAST_OK);
    CHECK(log_p[0] < 0);
    int32_t token = -1;
    CHECK(rnnfast_sample(o.sampler, logits, 6, &token) == RNNFAST_OK);
    CHECK((token >= 0 && token < 6));
    again[0] = NAN;
    check_refused(rnnfast_sample(o.sampler, again, 6, &token), RNNFAST_FAILED);  // N7
    CHECK(std::string(rnnfast_last_error()).find("hold NaN") != std::string::npos);
    char text[64];
    size = sizeof text;
    CHECK(rnnfast_generate(o.model, "ab", 5, o.sampler, text, &size) == RNNFAST_OK);
    CHECK(std::strlen(text) + 1 == size);
    char bytes[4096];
    size = sizeof bytes;
    CHECK(rnnfast_state_save(o.state, bytes, &size) == RNNFAST_OK);
    CHECK(rnnfast_state_restore(first, bytes, size) == RNNFAST_OK);
    rnnfast_state_free(first);
    rnnfast_state_free(second);

    size_t input, hidden, num_layers;
    CHECK(rnnfast_recurrent_sizes(o.layers, &input, &hidden, &num_layers) == RNNFAST_OK);
    CHECK((input == 3 && hidden == 5 && num_layers == 2));
    rnnfast_state* stream;
    REQUIRE(rnnfast_recurrent_state_new(o.layers, &stream) == RNNFAST_OK);
    const float x[6] = {1, 2, 3, 4, 5, 6};
    float y[10], z[12];
    CHECK(rnnfast_recurrent_run(o.layers, x, 6, 2, stream, y, 10) == RNNFAST_OK);
    CHECK(rnnfast_linear_sizes(o.linear, &input, &hidden) == RNNFAST_OK);
    CHECK((input == 5 && hidden == 6));
    CHECK(rnnfast_linear_run(o.linear, y, 10, 2, z, 12) == RNNFAST_OK);
    rnnfast_state_free(stream);
}

TEST_CASE("C: NULL is refused everywhere") {
    Objects o;
    size_t size = 6;
    int32_t id = 1;
    float logits[6];
    double log_p[6];
    char text[8];
    rnnfast_model* model;
    rnnfast_state* state;
    rnnfast_recurrent* layers;
    rnnfast_linear* linear;
    check_refused(rnnfast_model_load(nullptr, RNNFAST_F32, &model));
    check_refused(rnnfast_model_load(o.path.c_str(), RNNFAST_F32, nullptr));
    check_refused(rnnfast_model_load_memory(nullptr, 5, RNNFAST_F32, &model));
    check_refused(rnnfast_model_load_memory("x", 1, RNNFAST_F32, nullptr));
    check_refused(rnnfast_model_vocab_size(nullptr, &size));
    check_refused(rnnfast_model_vocab_size(o.model, nullptr));
    check_refused(rnnfast_encode(nullptr, "a", 1, &id, &size));
    check_refused(rnnfast_encode(o.model, nullptr, 1, &id, &size));
    check_refused(rnnfast_encode(o.model, "a", 1, &id, nullptr));
    check_refused(rnnfast_encode(o.model, "a", 1, nullptr, &size), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_decode(nullptr, &id, 1, text, &size));
    check_refused(rnnfast_decode(o.model, nullptr, 1, text, &size));
    check_refused(rnnfast_decode(o.model, &id, 1, nullptr, &size), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_decode(o.model, &id, 1, text, nullptr));
    check_refused(rnnfast_state_new(nullptr, &state));
    check_refused(rnnfast_state_new(o.model, nullptr));
    check_refused(rnnfast_state_copy(nullptr, &state));
    check_refused(rnnfast_state_copy(o.state, nullptr));
    check_refused(rnnfast_state_reset(nullptr));
    check_refused(rnnfast_state_save(nullptr, text, &size));
    check_refused(rnnfast_state_save(o.state, text, nullptr));
    check_refused(rnnfast_state_restore(nullptr, text, 8));
    check_refused(rnnfast_state_restore(o.state, nullptr, 8));
    check_refused(rnnfast_step(nullptr, 1, o.state, logits, 6));
    check_refused(rnnfast_step(o.model, 1, nullptr, logits, 6));
    check_refused(rnnfast_step(o.model, 1, o.state, nullptr, 6));
    rnnfast_state* const one[] = {o.state};
    rnnfast_state* const none[] = {nullptr};
    check_refused(rnnfast_step_many(nullptr, &id, one, 1, logits, 6));
    check_refused(rnnfast_step_many(o.model, nullptr, one, 1, logits, 6));
    check_refused(rnnfast_step_many(o.model, &id, nullptr, 1, logits, 6));
    check_refused(rnnfast_step_many(o.model, &id, none, 1, logits, 6));
    check_refused(rnnfast_step_many(o.model, &id, one, 1, nullptr, 6));
    check_refused(rnnfast_step_many(o.model, &id, one, 0, logits, 6));
    check_refused(rnnfast_run(nullptr, &id, 1, o.state, logits, 6));
    check_refused(rnnfast_run(o.model, nullptr, 1, o.state, logits, 6));
    check_refused(rnnfast_run(o.model, &id, 1, nullptr, logits, 6));
    check_refused(rnnfast_run(o.model, &id, 1, o.state, nullptr, 6));
    const int32_t two[] = {1, 2};
    check_refused(rnnfast_score(nullptr, two, 2, o.state, log_p, 6));
    check_refused(rnnfast_score(o.model, nullptr, 2, o.state, log_p, 6));
    check_refused(rnnfast_score(o.model, two, 2, nullptr, log_p, 6));
    check_refused(rnnfast_score(o.model, two, 2, o.state, nullptr, 6));
    check_refused(rnnfast_sampler_new(1, 0, 1.0, 0, nullptr));
    check_refused(rnnfast_sample(nullptr, logits, 6, &id));
    check_refused(rnnfast_sample(o.sampler, nullptr, 6, &id));
    check_refused(rnnfast_sample(o.sampler, logits, 6, nullptr));
    check_refused(rnnfast_generate(nullptr, "a", 1, o.sampler, text, &size));
    check_refused(rnnfast_generate(o.model, nullptr, 1, o.sampler, text, &size));
    check_refused(rnnfast_generate(o.model, "a", 1, nullptr, text, &size));
    check_refused(rnnfast_generate(o.model, "a", 1, o.sampler, text, nullptr));
    check_refused(rnnfast_recurrent_load(nullptr, "", "lstm", RNNFAST_F32, &layers));
    check_refused(rnnfast_recurrent_load(o.path.c_str(), nullptr, "lstm", RNNFAST_F32, &layers));
    check_refused(rnnfast_recurrent_load(o.path.c_str(), "rnn.", nullptr, RNNFAST_F32, &layers));
    check_refused(rnnfast_recurrent_load(o.path.c_str(), "rnn.", "lstm", RNNFAST_F32, nullptr));
    check_refused(rnnfast_recurrent_sizes(nullptr, &size, nullptr, nullptr));
    check_refused(rnnfast_recurrent_state_new(nullptr, &state));
    check_refused(rnnfast_recurrent_state_new(o.layers, nullptr));
    check_refused(rnnfast_recurrent_run(nullptr, logits, 3, 1, o.state, logits, 6));
    check_refused(rnnfast_recurrent_run(o.layers, nullptr, 3, 1, o.state, logits, 6));
    check_refused(rnnfast_recurrent_run(o.layers, logits, 3, 1, nullptr, logits, 6));
    check_refused(rnnfast_recurrent_run(o.layers, logits, 3, 1, o.state, nullptr, 6));
    check_refused(rnnfast_linear_load(nullptr, "output.weight", nullptr, RNNFAST_F32, &linear));
    check_refused(rnnfast_linear_load(o.path.c_str(), nullptr, nullptr, RNNFAST_F32, &linear));
    check_refused(rnnfast_linear_load(o.path.c_str(), "output.weight", nullptr, RNNFAST_F32, nullptr));
    check_refused(rnnfast_linear_sizes(nullptr, &size, nullptr));
    check_refused(rnnfast_linear_run(nullptr, logits, 5, 1, logits, 6));
    check_refused(rnnfast_linear_run(o.linear, nullptr, 5, 1, logits, 6));
    check_refused(rnnfast_linear_run(o.linear, logits, 5, 1, nullptr, 6));
    rnnfast_model_free(nullptr);
    rnnfast_state_free(nullptr);
    rnnfast_sampler_free(nullptr);
    rnnfast_recurrent_free(nullptr);
    rnnfast_linear_free(nullptr);
}

TEST_CASE("C: handles of another kind, little room and wrong sizes are refused") {
    Objects o;
    auto* const not_a_model = reinterpret_cast<rnnfast_model*>(o.state);
    auto* const not_a_state = reinterpret_cast<rnnfast_state*>(o.model);
    auto* const not_a_sampler = reinterpret_cast<rnnfast_sampler*>(o.model);
    auto* const not_layers = reinterpret_cast<rnnfast_recurrent*>(o.model);
    auto* const not_linear = reinterpret_cast<rnnfast_linear*>(o.model);
    const int32_t minus_one = -1;
    size_t size = 6;
    int32_t id = 1;
    float logits[6];
    double log_p[6];
    char text[8];
    check_refused(rnnfast_model_vocab_size(not_a_model, &size));
    check_refused(rnnfast_step(not_a_model, 1, o.state, logits, 6));
    check_refused(rnnfast_step(o.model, 1, not_a_state, logits, 6));
    check_refused(rnnfast_state_reset(not_a_state));
    check_refused(rnnfast_sample(not_a_sampler, logits, 6, &id));
    check_refused(rnnfast_recurrent_sizes(not_layers, &size, nullptr, nullptr));
    check_refused(rnnfast_linear_sizes(not_linear, &size, nullptr));
    rnnfast_model_free(not_a_model);  // does nothing: the handle is no model
    CHECK(rnnfast_state_reset(o.state) == RNNFAST_OK);

    check_refused(rnnfast_step(o.model, 1, o.state, logits, 5), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_run(o.model, &id, 1, o.state, logits, 5), RNNFAST_BUFFER_TOO_SMALL);
    rnnfast_state* const states[] = {o.state};
    check_refused(rnnfast_step_many(o.model, &id, states, 1, logits, 5), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_step_many(o.model, &id, states, static_cast<size_t>(-1), logits, 6));
    const int32_t three[] = {1, 2, 3};
    check_refused(rnnfast_score(o.model, three, 3, o.state, log_p, 1), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_score(o.model, three, 0, o.state, log_p, 1));
    size = 1;
    check_refused(rnnfast_encode(o.model, "abc", 3, &id, &size), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(size == 3);
    size = 3;
    check_refused(rnnfast_decode(o.model, three, 3, text, &size), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(size == 4);
    size = 1;
    check_refused(rnnfast_state_save(o.state, text, &size), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_state_restore(o.state, text, 8));
    size = 2;
    check_refused(rnnfast_generate(o.model, "a", 20, o.sampler, text, &size), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_recurrent_run(o.layers, logits, 4, 1, o.state, logits, 6));
    check_refused(rnnfast_recurrent_run(o.layers, logits, 3, 1, o.state, logits, 4), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_recurrent_run(o.layers, logits, 0, 0, o.state, logits, 4));
    check_refused(rnnfast_linear_run(o.linear, logits, 4, 1, logits, 6));
    check_refused(rnnfast_linear_run(o.linear, logits, 5, 1, logits, 5), RNNFAST_BUFFER_TOO_SMALL);

    check_refused(rnnfast_step(o.model, 6, o.state, logits, 6), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_decode(o.model, &minus_one, 1, text, &size), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_encode(o.model, "\xff", 1, &id, &size));
    check_refused(rnnfast_generate(o.model, "", 1, o.sampler, text, &size));
    rnnfast_model* model;
    rnnfast_sampler* sampler;
    check_refused(rnnfast_model_load("/nowhere/at/all", RNNFAST_F32, &model), RNNFAST_BAD_FILE);
    CHECK(model == nullptr);
    check_refused(rnnfast_model_load_memory("short", 5, RNNFAST_F32, &model), RNNFAST_BAD_FILE);
    check_refused(rnnfast_model_load(o.path.c_str(), 9, &model));
    check_refused(rnnfast_sampler_new(-1, 0, 1.0, 0, &sampler));
    check_refused(rnnfast_sampler_new(NAN, 0, 1.0, 0, &sampler));
    check_refused(rnnfast_set_num_threads(0));
    const float bad[] = {NAN, NAN};
    check_refused(rnnfast_sample(o.sampler, bad, 2, &id), RNNFAST_FAILED);
}
