// Networks in the C API.
#include "network_files.h"

#include <algorithm>

#include "allocations.h"
#include "rnnfast/network.hpp"
#include "rnnfast/rnnfast.h"

using namespace rnnfast::tests;

namespace {

void check_refused(rnnfast_status status, rnnfast_status expected = RNNFAST_INVALID_ARGUMENT) {
    CHECK(status == expected);
    CHECK(std::string(rnnfast_last_error()).size() > 8);
}

struct Objects {
    Objects() {
        const std::string bytes = network_bytes(streamed_network), other = network_bytes(whole_network);
        REQUIRE(rnnfast_network_load_memory(bytes.data(), bytes.size(), RNNFAST_AS_STORED, &network) == RNNFAST_OK);
        REQUIRE(rnnfast_network_load_memory(other.data(), other.size(), RNNFAST_BF16, &whole) == RNNFAST_OK);
        REQUIRE(rnnfast_network_state_new(network, &state) == RNNFAST_OK);
    }
    ~Objects() {
        rnnfast_network_free(network);
        rnnfast_network_free(whole);
        rnnfast_network_state_free(state);
    }
    Objects(const Objects&) = delete;
    rnnfast_network *network = nullptr, *whole = nullptr;
    rnnfast_network_state* state = nullptr;
};

const std::vector<float> x = random_vector(2 * 3 * 3, 5);
const int32_t ids[] = {1, 2, 3, 4, 5, 6};

}  // namespace

TEST_CASE("C: a network says what it reads and returns, and what its buffers need") {
    Objects o;
    size_t inputs, outputs, number, other, size = 16;
    CHECK(rnnfast_network_counts(o.network, &inputs, &outputs) == RNNFAST_OK);
    CHECK(inputs == 2);
    CHECK(outputs == 2);
    CHECK(rnnfast_network_counts(o.network, nullptr, nullptr) == RNNFAST_OK);
    CHECK(rnnfast_network_input(o.network, 0, &number, &other) == RNNFAST_OK);
    CHECK(number == 3);
    CHECK(other == 0);
    CHECK(rnnfast_network_input(o.network, 1, &number, &other) == RNNFAST_OK);
    CHECK(number == 0);
    CHECK(other == 7);
    int summary = 9, weights = 9;
    CHECK(rnnfast_network_output(o.network, 1, &number, &summary) == RNNFAST_OK);
    CHECK(number == 4);
    CHECK(summary == 1);
    char text[16];
    CHECK(rnnfast_network_input_name(o.network, 1, text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == "tokens");
    size = 2;
    check_refused(rnnfast_network_output_name(o.network, 0, text, &size), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(size == 5);
    CHECK(rnnfast_network_output_name(o.network, 0, text, &size) == RNNFAST_OK);
    CHECK(std::string(text) == "tags");
    CHECK(rnnfast_network_output_steps(o.whole, 0, 9, &number) == RNNFAST_OK);
    CHECK(number == 7);
    CHECK(rnnfast_network_weights(o.whole, &weights) == RNNFAST_OK);
    CHECK(weights == RNNFAST_BF16);
    size = 16;
    CHECK(rnnfast_network_no_stream(o.network, text, &size) == RNNFAST_OK);
    CHECK(text[0] == 0);
    std::vector<char> sentence(400);
    size = sentence.size();
    CHECK(rnnfast_network_no_stream(o.whole, sentence.data(), &size) == RNNFAST_OK);
    CHECK(contains(sentence.data(), "conv1d"));
    rnnfast_network_state* none;
    check_refused(rnnfast_network_state_new(o.whole, &none));
    CHECK(none == nullptr);
    CHECK(rnnfast_abi_version() == RNNFAST_ABI_VERSION);
    CHECK(rnnfast::abi_version() == RNNFAST_ABI_VERSION);
}

TEST_CASE("C: a network runs sequences and streams with the bits of C++") {
    Objects o;
    const std::string bytes = network_bytes(streamed_network);
    const auto expected = rnnfast::v1::Network::load(bytes.data(), bytes.size());
    std::vector<float> tags(12), classes(8), y(12), z(8);
    expected.run({x.data(), ids}, {3, 2}, {tags.data(), classes.data()});
    const rnnfast_batch batch = {3, 2, nullptr};
    const rnnfast_values all[] = {{x.data(), nullptr, 18}, {nullptr, ids, 6}};
    const rnnfast_result to[] = {{y.data(), 12}, {z.data(), 8}};
    CHECK(rnnfast_network_run(o.network, all, 2, &batch, to, 2) == RNNFAST_OK);
    CHECK(y == tags);
    CHECK(z == classes);

    rnnfast_network_state* second;
    REQUIRE(rnnfast_network_state_copy(o.state, &second) == RNNFAST_OK);
    rnnfast_network_state* const both[] = {o.state, second};
    for (size_t t = 0; t < 3; ++t) {
        const rnnfast_values now[] = {{x.data() + 6 * t, nullptr, 6}, {nullptr, ids + 2 * t, 2}};
        const rnnfast_result step[] = {{y.data(), 4}, {nullptr, 0}};
        CHECK(rnnfast_network_step_many(o.network, now, 2, both, 2, step, 2) == RNNFAST_OK);
        CHECK(std::equal(y.begin(), y.begin() + 4, tags.begin() + static_cast<ptrdiff_t>(4 * t)));
    }
    CHECK(rnnfast_network_state_reset(second) == RNNFAST_OK);
    CHECK(rnnfast_network_state_reset(o.state) == RNNFAST_OK);
    CHECK(rnnfast_network_state_reserve(o.state) == RNNFAST_OK);
    const rnnfast_values three[] = {{x.data(), nullptr, 9}, {nullptr, ids, 3}};
    std::vector<float> sums(12);
    const rnnfast_result read_sums[] = {{y.data(), 6}, {sums.data(), 12}};
    CHECK(rnnfast_network_read(o.network, three, 2, 3, second, read_sums, 2) == RNNFAST_OK);
    float one[2];
    const rnnfast_values now[] = {{x.data(), nullptr, 3}, {nullptr, ids, 1}};
    const rnnfast_result step[] = {{one, 2}, {nullptr, 0}};
    CHECK(rnnfast_network_step(o.network, now, 2, o.state, step, 2) == RNNFAST_OK);
    CHECK(std::equal(one, one + 2, y.begin()));
    const long before = allocations;
    for (int i = 0; i < 3; ++i) CHECK(rnnfast_network_step(o.network, now, 2, o.state, step, 2) == RNNFAST_OK);
    CHECK(allocations == before);

    size_t size = 0, needed = 0;
    CHECK(rnnfast_network_state_bytes(o.network, &needed) == RNNFAST_OK);
    check_refused(rnnfast_network_state_save(o.state, nullptr, &size), RNNFAST_BUFFER_TOO_SMALL);
    CHECK(size == needed);
    std::vector<char> saved(needed);
    CHECK(rnnfast_network_state_save(o.state, saved.data(), &size) == RNNFAST_OK);
    CHECK(rnnfast_network_state_restore(second, saved.data(), size) == RNNFAST_OK);
    check_refused(rnnfast_network_state_restore(second, saved.data(), size - 1));
    rnnfast_network_state_free(second);
}

TEST_CASE("C: wrong arguments of a network leave a status and a sentence") {
    Objects o;
    float y[12], z[8];
    size_t size = 16;
    int number;
    char text[16];
    rnnfast_network* network;
    rnnfast_network_state* state;
    const rnnfast_batch batch = {3, 2, nullptr}, huge = {static_cast<size_t>(-1), 2, nullptr}, none = {0, 2, nullptr};
    const rnnfast_values all[] = {{x.data(), nullptr, 18}, {nullptr, ids, 6}};
    const rnnfast_values few[] = {{x.data(), nullptr, 17}, {nullptr, ids, 6}};
    const rnnfast_values swapped[] = {{nullptr, ids, 18}, {x.data(), nullptr, 6}};
    const rnnfast_result to[] = {{y, 12}, {z, 8}}, small[] = {{y, 12}, {z, 7}};
    check_refused(rnnfast_network_run(nullptr, all, 2, &batch, to, 2));
    check_refused(rnnfast_network_run(o.network, nullptr, 2, &batch, to, 2));
    check_refused(rnnfast_network_run(o.network, all, 1, &batch, to, 2));
    check_refused(rnnfast_network_run(o.network, all, 2, nullptr, to, 2));
    check_refused(rnnfast_network_run(o.network, all, 2, &huge, to, 2));
    check_refused(rnnfast_network_run(o.network, all, 2, &none, to, 2));
    check_refused(rnnfast_network_run(o.network, few, 2, &batch, to, 2));
    check_refused(rnnfast_network_run(o.network, swapped, 2, &batch, to, 2));
    check_refused(rnnfast_network_run(o.network, all, 2, &batch, nullptr, 2));
    check_refused(rnnfast_network_run(o.network, all, 2, &batch, to, 1));
    check_refused(rnnfast_network_run(o.network, all, 2, &batch, small, 2), RNNFAST_BUFFER_TOO_SMALL);
    const rnnfast_values now[] = {{x.data(), nullptr, 3}, {nullptr, ids, 1}};
    check_refused(rnnfast_network_step(nullptr, now, 2, o.state, to, 2));
    check_refused(rnnfast_network_step(o.network, now, 2, nullptr, to, 2));
    check_refused(rnnfast_network_step(o.network, all, 2, o.state, to, 2));
    check_refused(rnnfast_network_step(o.network, now, 2, o.state, nullptr, 2));
    rnnfast_network_state* const twice[] = {o.state, o.state};
    rnnfast_network_state* const nobody[] = {nullptr};
    const rnnfast_values two[] = {{x.data(), nullptr, 6}, {nullptr, ids, 2}};
    check_refused(rnnfast_network_step_many(o.network, two, 2, twice, 2, to, 2));
    check_refused(rnnfast_network_step_many(o.network, now, 2, nobody, 1, to, 2));
    check_refused(rnnfast_network_step_many(o.network, now, 2, nullptr, 1, to, 2));
    check_refused(rnnfast_network_step_many(o.network, now, 2, twice, static_cast<size_t>(-1), to, 2));
    check_refused(rnnfast_network_read(o.network, now, 2, 0, o.state, to, 2));
    check_refused(rnnfast_network_read(nullptr, now, 2, 1, o.state, to, 2));
    check_refused(rnnfast_network_load(nullptr, RNNFAST_F32, &network));
    check_refused(rnnfast_network_load("/nowhere", RNNFAST_F32, &network), RNNFAST_BAD_FILE);
    check_refused(rnnfast_network_load("/nowhere", 9, &network));
    check_refused(rnnfast_network_load("/nowhere", RNNFAST_F32, nullptr));
    check_refused(rnnfast_network_load_memory(nullptr, 5, RNNFAST_F32, &network));
    check_refused(rnnfast_network_load_memory("short", 5, RNNFAST_F32, &network), RNNFAST_BAD_FILE);
    check_refused(rnnfast_network_counts(nullptr, &size, &size));
    check_refused(rnnfast_network_weights(o.network, nullptr));
    check_refused(rnnfast_network_input(o.network, 2, &size, &size), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_network_output(o.network, 2, &size, &number), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_network_input_name(o.network, 2, text, &size), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_network_input_name(o.network, 0, text, nullptr));
    check_refused(rnnfast_network_output_name(nullptr, 0, text, &size));
    check_refused(rnnfast_network_output_steps(o.network, 5, 1, &size), RNNFAST_OUT_OF_RANGE);
    check_refused(rnnfast_network_output_steps(o.network, 0, 1, nullptr));
    check_refused(rnnfast_network_no_stream(nullptr, text, &size));
    check_refused(rnnfast_network_state_bytes(o.whole, &size));
    check_refused(rnnfast_network_state_new(nullptr, &state));
    check_refused(rnnfast_network_state_new(o.network, nullptr));
    check_refused(rnnfast_network_state_new(reinterpret_cast<rnnfast_network*>(o.state), &state));
    check_refused(rnnfast_network_state_copy(nullptr, &state));
    check_refused(rnnfast_network_state_reset(nullptr));
    check_refused(rnnfast_network_state_reserve(reinterpret_cast<rnnfast_network_state*>(o.network)));
    check_refused(rnnfast_network_state_save(o.state, text, nullptr));
    check_refused(rnnfast_network_state_restore(o.state, nullptr, 8));
    rnnfast_network_free(nullptr);
    rnnfast_network_state_free(nullptr);
    rnnfast_network_free(reinterpret_cast<rnnfast_network*>(o.state));  // does nothing: of another kind
    CHECK(rnnfast_network_state_reset(o.state) == RNNFAST_OK);
}
