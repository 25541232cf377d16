// Every C function given NULL, a handle of another kind, too little room or a wrong size returns a status and a
// sentence.
#include <algorithm>
#include <tuple>

#include "model_files.h"
#include "runtime/dispatch.h"

#include "api/c_api.h"

using namespace rnnfast::tests;

namespace {

struct Objects {
    Objects() {
        const std::string bytes = model_bytes({});
        REQUIRE(rnnfast_model_load_memory(bytes.data(), bytes.size(), RNNFAST_AS_STORED, &model) == RNNFAST_OK);
        REQUIRE(rnnfast_state_new(model, &state) == RNNFAST_OK);
        REQUIRE(rnnfast_sampler_new(0.8, 0, 1.0, 1, &sampler) == RNNFAST_OK);
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
    }
    Objects(const Objects&) = delete;
    rnnfast_model* model = nullptr;
    rnnfast_state* state = nullptr;
    rnnfast_sampler* sampler = nullptr;
    rnnfast_recurrent* layers = nullptr;
    rnnfast_linear* linear = nullptr;
    const TemporaryFile path{"c"};
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
    CHECK(std::string(rnnfast_last_error()).find("have NaN") != std::string::npos);
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

TEST_CASE("C: handles of another kind, small capacities and wrong sizes are refused") {
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

TEST_CASE("C: a state that occurs twice in a batched step is refused [R7]") {
    Objects o;
    rnnfast_state* const twice[] = {o.state, o.state};
    const int32_t tokens[] = {1, 2};
    float logits[12];
    check_refused(rnnfast_step_many(o.model, tokens, twice, 2, logits, 12));
    CHECK(std::string(rnnfast_last_error()).find("states[1] is also states[0]") == 0);
    rnnfast_state* layer_state;
    REQUIRE(rnnfast_recurrent_state_new(o.layers, &layer_state) == RNNFAST_OK);
    rnnfast_state* const layer_twice[] = {layer_state, layer_state};
    const float x[6] = {};
    check_refused(rnnfast_recurrent_step_many(o.layers, x, 6, layer_twice, 2, logits, 10));
    rnnfast_state_free(layer_state);
}

TEST_CASE("C: NaN in a layer's input is refused [R10]") {
    Objects o;
    rnnfast_state* state;
    REQUIRE(rnnfast_recurrent_state_new(o.layers, &state) == RNNFAST_OK);
    const float x[] = {0, NAN, 0};
    float y[5];
    check_refused(rnnfast_recurrent_run(o.layers, x, 3, 1, state, y, 5));
    rnnfast_state_free(state);
}

TEST_CASE("C: the error for an unknown precision lists the known ones [R10] [R13]") {
    Objects o;
    rnnfast_model* model;
    rnnfast_translator* translator;
    rnnfast_recurrent* layers;
    for (const int weights : {77, -2, 3}) {
        check_refused(rnnfast_model_load(o.path.c_str(), weights, &model));
        CHECK(std::string(rnnfast_last_error()) == "weights is " + std::to_string(weights) +
                                                       ": expected RNNFAST_AS_STORED, RNNFAST_F32, RNNFAST_BF16 or "
                                                       "RNNFAST_INT8");
        check_refused(rnnfast_model_load_memory("x", 1, weights, &model));
        check_refused(rnnfast_translator_load(o.path.c_str(), weights, &translator));
        check_refused(rnnfast_recurrent_load(o.path.c_str(), "rnn.", "lstm", weights, &layers));
    }
    check_refused(rnnfast_recurrent_load(o.path.c_str(), "rnn.", "lstm", RNNFAST_AS_STORED, &layers));
    CHECK(std::string(rnnfast_last_error()) == "weights is -1: expected RNNFAST_F32, RNNFAST_BF16 or RNNFAST_INT8");
}

TEST_CASE("C: the properties of a model and of the library can be read [R11]") {
    Objects o;
    size_t vocabulary, hidden, layers, size = 16;
    CHECK(rnnfast_model_sizes(o.model, &vocabulary, &hidden, &layers) == RNNFAST_OK);
    CHECK(vocabulary == 6);
    CHECK(hidden == 5);
    CHECK(layers == 2);
    CHECK(rnnfast_model_sizes(o.model, nullptr, nullptr, nullptr) == RNNFAST_OK);
    char text[16];
    CHECK(rnnfast_model_cell(o.model, text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == "lstm");
    CHECK(size == 5);
    check_refused(rnnfast_model_cell(o.model, nullptr, &size), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_model_cell(nullptr, text, &size));
    check_refused(rnnfast_model_cell(o.model, text, nullptr));
    check_refused(rnnfast_model_sizes(nullptr, nullptr, nullptr, nullptr));
    int weights = 9, threads = 0;
    CHECK(rnnfast_model_weights(o.model, &weights) == RNNFAST_OK);
    CHECK(weights == RNNFAST_F32);
    check_refused(rnnfast_model_weights(o.model, nullptr));
    size = 16;
    CHECK(rnnfast_token(o.model, 2, text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == "b");
    check_refused(rnnfast_token(o.model, 6, text, &size), RNNFAST_OUT_OF_RANGE);
    CHECK(std::string(rnnfast_last_error()) == "token id 6: expected 0 to 5 (the vocabulary)");
    size = 16;
    CHECK(rnnfast_tokenizer(o.model, text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == "char");
    check_refused(rnnfast_tokenizer(o.model, text, nullptr));
    CHECK(rnnfast_num_threads(&threads) == RNNFAST_OK);
    CHECK(threads >= 1);
    check_refused(rnnfast_num_threads(nullptr));
    size = 16;
    CHECK(rnnfast_instruction_set(text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == rnnfast::active().name);
    check_refused(rnnfast_instruction_set(text, nullptr));

    float before[5], h[5], logits[6];
    size = 5;
    CHECK(rnnfast_state_hidden(o.state, 1, before, &size) == RNNFAST_OK);
    CHECK(rnnfast_step(o.model, 1, o.state, logits, 6) == RNNFAST_OK);
    CHECK(rnnfast_state_hidden(o.state, 1, h, &size) == RNNFAST_OK);
    CHECK(before[0] == 0);
    CHECK(h[0] != 0);
    size = 4;
    check_refused(rnnfast_state_hidden(o.state, 1, h, &size), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(size == 5);
    check_refused(rnnfast_state_hidden(o.state, 2, h, &size), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_state_hidden(nullptr, 0, h, &size));
    check_refused(rnnfast_state_hidden(o.state, 0, h, nullptr));
    std::vector<char> bytes(1000);
    size_t saved = 0;
    size = bytes.size();
    CHECK(rnnfast_state_size(o.state, &saved) == RNNFAST_OK);
    CHECK(rnnfast_state_save(o.state, bytes.data(), &size) == RNNFAST_OK);
    CHECK(size == saved);
    check_refused(rnnfast_state_size(o.state, nullptr));
}

TEST_CASE("C: tensors are listed and read, and layers made of them in memory [R11]") {
    Objects o;
    const std::string bytes = read_bytes(o.path);
    rnnfast_tensors *tensors, *opened;
    REQUIRE(rnnfast_tensors_parse(bytes.data(), bytes.size(), &tensors) == RNNFAST_OK);
    REQUIRE(rnnfast_tensors_open(o.path.c_str(), &opened) == RNNFAST_OK);
    size_t count = 0, other = 0, size = 64, shape[8], dimensions = 8, room = 18;
    CHECK(rnnfast_tensors_count(tensors, &count) == RNNFAST_OK);
    CHECK(rnnfast_tensors_count(opened, &other) == RNNFAST_OK);
    CHECK(count == 11);
    CHECK(other == 11);
    char name[64];
    CHECK(rnnfast_tensors_name(tensors, 0, name, &size) == RNNFAST_OK);
    CHECK(std::string(name) == "embedding.weight");
    check_refused(rnnfast_tensors_name(tensors, 11, name, &size), RNNFAST_OUT_OF_RANGE);
    CHECK(rnnfast_tensors_shape(tensors, name, shape, &dimensions) == RNNFAST_OK);
    CHECK(dimensions == 2);
    CHECK(shape[0] == 6);
    CHECK(shape[1] == 3);
    float table[18];
    CHECK(rnnfast_tensors_values(tensors, name, table, &room) == RNNFAST_OK);
    room = 17;
    check_refused(rnnfast_tensors_values(tensors, name, table, &room), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(room == 18);
    dimensions = 1;
    check_refused(rnnfast_tensors_shape(tensors, name, shape, &dimensions), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_tensors_shape(tensors, "no", shape, &dimensions));
    check_refused(rnnfast_tensors_values(tensors, "no", table, &room));

    rnnfast_recurrent* layers;
    rnnfast_linear* linear;
    REQUIRE(rnnfast_recurrent_new(tensors, "rnn.", "lstm", RNNFAST_F32, &layers) == RNNFAST_OK);
    REQUIRE(rnnfast_linear_new(tensors, "output.weight", "output.bias", RNNFAST_F32, &linear) == RNNFAST_OK);
    rnnfast_tensors_free(tensors);
    rnnfast_tensors_free(opened);
    rnnfast_state *first, *second, *alone;
    REQUIRE(rnnfast_recurrent_state_new(layers, &first) == RNNFAST_OK);
    REQUIRE(rnnfast_recurrent_state_new(layers, &second) == RNNFAST_OK);
    REQUIRE(rnnfast_recurrent_state_new(layers, &alone) == RNNFAST_OK);
    rnnfast_state* const both[] = {first, second};
    float y[10], h[5], logits[6], expected[6];
    CHECK(rnnfast_recurrent_step_many(layers, table + 3, 6, both, 2, y, 10) == RNNFAST_OK);
    CHECK(rnnfast_recurrent_run(layers, table + 6, 3, 1, alone, h, 5) == RNNFAST_OK);
    CHECK(std::equal(h, h + 5, y + 5));
    CHECK(rnnfast_linear_run(linear, h, 5, 1, logits, 6) == RNNFAST_OK);
    CHECK(rnnfast_step(o.model, 2, o.state, expected, 6) == RNNFAST_OK);
    CHECK(std::equal(logits, logits + 6, expected));
    check_refused(rnnfast_recurrent_step_many(layers, table, 5, both, 2, y, 10));
    check_refused(rnnfast_recurrent_step_many(layers, table, 6, both, 2, y, 9), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_recurrent_step_many(layers, nullptr, 6, both, 2, y, 10));
    check_refused(rnnfast_recurrent_step_many(layers, table, 6, nullptr, 2, y, 10));
    check_refused(rnnfast_recurrent_step_many(layers, table, 0, both, 0, y, 10));
    check_refused(rnnfast_recurrent_step_many(nullptr, table, 6, both, 2, y, 10));
    for (rnnfast_state* state : {first, second, alone}) rnnfast_state_free(state);
    rnnfast_recurrent_free(layers);
    rnnfast_linear_free(linear);

    check_refused(rnnfast_tensors_open(nullptr, &tensors));
    check_refused(rnnfast_tensors_open("/nowhere", &tensors), RNNFAST_BAD_FILE);
    check_refused(rnnfast_tensors_open(o.path.c_str(), nullptr));
    check_refused(rnnfast_tensors_parse(nullptr, 8, &tensors));
    check_refused(rnnfast_tensors_parse("x", 1, nullptr));
    check_refused(rnnfast_tensors_count(nullptr, &count));
    check_refused(rnnfast_tensors_name(nullptr, 0, name, &size));
    check_refused(rnnfast_recurrent_new(nullptr, "rnn.", "lstm", RNNFAST_F32, &layers));
    check_refused(rnnfast_linear_new(nullptr, "output.weight", nullptr, RNNFAST_F32, &linear));
    check_refused(rnnfast_tensors_count(reinterpret_cast<rnnfast_tensors*>(o.model), &count));
    rnnfast_tensors_free(nullptr);
}

TEST_CASE("C: generation stops, is cancelled, and continues from saved bytes [R11]") {
    Objects o;
    rnnfast_generate_options options;
    REQUIRE(rnnfast_generate_defaults(&options) == RNNFAST_OK);
    CHECK(options.max_length == 256);
    options.max_length = 30;
    const int32_t prompt[] = {1, 2};
    std::vector<int32_t> seen, ids(30), again(30);
    options.user_data = &seen;
    options.on_token = [](int32_t token, void* data) {
        auto* all = static_cast<std::vector<int32_t>*>(data);
        all->push_back(token);
        return all->size() == 12 ? 1 : 0;
    };
    std::vector<char> state(1000), sampler(1000);
    size_t count = 30, state_size = 1000, sampler_size = 1000;
    CHECK(rnnfast_generate_ids(o.model, prompt, 2, &options, o.sampler, o.state, ids.data(), &count) == RNNFAST_OK);
    CHECK(count == 12);
    ids.resize(count);
    CHECK(ids == seen);
    CHECK(rnnfast_state_save(o.state, state.data(), &state_size) == RNNFAST_OK);
    CHECK(rnnfast_sampler_save(o.sampler, sampler.data(), &sampler_size) == RNNFAST_OK);

    // The rest, here and elsewhere
    options.on_token = nullptr;
    std::vector<int32_t> rest(30), elsewhere(30);
    Objects other;
    CHECK(rnnfast_state_restore(other.state, state.data(), state_size) == RNNFAST_OK);
    CHECK(rnnfast_sampler_restore(other.sampler, sampler.data(), sampler_size) == RNNFAST_OK);
    rnnfast_sampler* copy;
    REQUIRE(rnnfast_sampler_copy(o.sampler, &copy) == RNNFAST_OK);
    rnnfast_state* state_copy;
    REQUIRE(rnnfast_state_copy(o.state, &state_copy) == RNNFAST_OK);
    for (const auto& [s, st, out] : {std::tuple{o.sampler, o.state, &rest},
                                     {other.sampler, other.state, &elsewhere},
                                     {copy, state_copy, &again}}) {
        count = 30;
        CHECK(rnnfast_generate_ids(o.model, &ids.back(), 1, &options, s, st, out->data(), &count) == RNNFAST_OK);
        CHECK(count == 30);
    }
    CHECK(rest == elsewhere);
    CHECK(rest == again);
    rnnfast_sampler_free(copy);
    rnnfast_state_free(state_copy);

    options.stop = &rest[3];
    options.stop_count = 1;
    count = 30;
    CHECK(rnnfast_state_restore(other.state, state.data(), state_size) == RNNFAST_OK);
    CHECK(rnnfast_sampler_restore(other.sampler, sampler.data(), sampler_size) == RNNFAST_OK);
    CHECK(rnnfast_generate_ids(o.model, &ids.back(), 1, &options, other.sampler, other.state, again.data(), &count) ==
          RNNFAST_OK);
    CHECK(count == static_cast<size_t>(std::find(rest.begin(), rest.end(), rest[3]) - rest.begin()));

    const int32_t outside = 6;
    options.stop = &outside;
    count = 30;
    check_refused(rnnfast_generate_ids(o.model, prompt, 2, &options, o.sampler, o.state, ids.data(), &count),
                  RNNFAST_OUT_OF_RANGE);
    options.stop = nullptr;
    check_refused(rnnfast_generate_ids(o.model, prompt, 2, &options, o.sampler, o.state, again.data(), &count));
    options.stop_count = 0;
    count = 29;
    check_refused(rnnfast_generate_ids(o.model, prompt, 2, &options, o.sampler, o.state, again.data(), &count),
                  RNNFAST_BUFFER_TOO_SMALL);
    CHECK(count == 30);
    check_refused(rnnfast_generate_ids(o.model, prompt, 0, &options, o.sampler, o.state, again.data(), &count));
    check_refused(rnnfast_generate_ids(o.model, nullptr, 2, &options, o.sampler, o.state, again.data(), &count));
    check_refused(rnnfast_generate_ids(nullptr, prompt, 2, &options, o.sampler, o.state, again.data(), &count));
    check_refused(rnnfast_generate_ids(o.model, prompt, 2, &options, nullptr, o.state, again.data(), &count));
    check_refused(rnnfast_generate_ids(o.model, prompt, 2, &options, o.sampler, nullptr, again.data(), &count));
    check_refused(rnnfast_generate_ids(o.model, prompt, 2, &options, o.sampler, o.state, again.data(), nullptr));
    options.struct_size = 0;
    check_refused(rnnfast_generate_ids(o.model, prompt, 2, &options, o.sampler, o.state, again.data(), &count));
    check_refused(rnnfast_generate_defaults(nullptr));
    check_refused(rnnfast_sampler_copy(nullptr, &copy));
    check_refused(rnnfast_sampler_save(o.sampler, nullptr, &sampler_size), RNNFAST_BUFFER_TOO_SMALL);
    check_refused(rnnfast_sampler_restore(o.sampler, nullptr, 3));
    for (size_t size = 0; size < sampler_size; ++size)
        check_refused(rnnfast_sampler_restore(o.sampler, sampler.data(), size));
}

TEST_CASE("C: an unknown instruction set has its own status [R13]") {
    const auto status = rnnfast::c_api::guarded([]() -> rnnfast_status {
        rnnfast::kernels_named("banana");
        return RNNFAST_OK;
    });
    check_refused(status, RNNFAST_UNSUPPORTED_CPU);
    CHECK(std::string(rnnfast_last_error()).find("RNNFAST_ISA=banana: no such instruction set") == 0);
}
