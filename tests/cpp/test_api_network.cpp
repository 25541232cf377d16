// Networks in the public C++ API.
#include "network_files.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "allocations.h"
#include "rnnfast/network.hpp"

using namespace rnnfast::tests;
using rnnfast::Weights;
using Net = rnnfast::v1::Network;
using rnnfast::NetworkData;
using rnnfast::NetworkState;

namespace {

constexpr size_t steps = 6, rows = 3;

Net loaded(const std::string& json, Weights weights = Weights::f32) {
    const std::string bytes = network_bytes(json);
    return Net::load(bytes.data(), bytes.size(), weights);
}

struct Sequences {  // [T, N, 3] and [T, N]
    std::vector<float> x = random_vector(steps * rows * 3, 5);
    std::vector<int32_t> ids;
    Sequences() {
        for (size_t i = 0; i < steps * rows; ++i) ids.push_back(static_cast<int32_t>(rnnfast::random_bits(2, i) % 7));
    }
    // Of one row alone
    std::vector<float> x_of(size_t row) const {
        std::vector<float> own;
        for (size_t t = 0; t < steps; ++t)
            own.insert(own.end(), x.begin() + static_cast<ptrdiff_t>((t * rows + row) * 3),
                       x.begin() + static_cast<ptrdiff_t>((t * rows + row) * 3 + 3));
        return own;
    }
    std::vector<int32_t> ids_of(size_t row) const {
        std::vector<int32_t> own;
        for (size_t t = 0; t < steps; ++t) own.push_back(ids[t * rows + row]);
        return own;
    }
};

std::vector<float> row_of(const std::vector<float>& y, size_t t, size_t row, size_t width) {
    const auto first = y.begin() + static_cast<ptrdiff_t>((t * rows + row) * width);
    return {first, first + static_cast<ptrdiff_t>(width)};
}

}  // namespace

TEST_CASE("a network's file says what it reads and returns") {
    const Net network = loaded(streamed_network);
    REQUIRE(network.inputs().size() == 2);
    CHECK(network.inputs()[0].name == "x");
    CHECK(network.inputs()[0].size == 3);
    CHECK(network.inputs()[1].ids == 7);
    REQUIRE(network.outputs().size() == 2);
    CHECK(network.outputs()[0].name == "tags");
    CHECK(network.outputs()[0].width == 2);
    CHECK(!network.outputs()[0].summary);
    CHECK(network.outputs()[1].summary);
    CHECK(network.output_steps(0, 9) == 9);
    CHECK(network.output_steps(1, 9) == 1);
    CHECK(network.no_stream() == "");
    CHECK_THROWS_AS(network.output_steps(2, 9), std::out_of_range);

    const Net whole = loaded(whole_network, Weights::int8);
    CHECK(whole.weights() == Weights::int8);
    CHECK(whole.output_steps(0, 9) == 7);
    CHECK(whole.output_steps(0, 2) == 0);
    CHECK(contains(whole.no_stream(), "layer \"c\" (conv1d) cannot run one step at a time"));
    CHECK(sentence_of([&] { whole.initial_state(); }) == whole.no_stream());
    CHECK(sentence_of([&] { whole.saved_size(); }) == whole.no_stream());
    CHECK(contains(sentence_of([] { Net().inputs(); }), "load one with Network::load"));
}

TEST_CASE("streams of a network give the bits of whole sequences, alone, together and many steps at a time") {
    const Sequences s;
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
        const Net network = loaded(streamed_network, weights);
        std::vector<float> tags(steps * rows * 2), classes(rows * 4);
        network.run({s.x.data(), s.ids.data()}, {steps, rows}, {tags.data(), classes.data()});

        std::vector<NetworkState> all(rows, network.initial_state());
        std::vector<NetworkState*> pointers;
        for (NetworkState& state : all) pointers.push_back(&state);
        std::vector<float> tag(rows * 2), summary(rows * 4);
        for (size_t t = 0; t < steps; ++t) {
            const NetworkData now[] = {s.x.data() + t * rows * 3, s.ids.data() + t * rows};
            float* const to[] = {tag.data(), t + 1 == steps ? summary.data() : nullptr};
            network.step(now, pointers.data(), rows, to);
            CHECK(std::equal(tag.begin(), tag.end(), tags.begin() + static_cast<ptrdiff_t>(t * rows * 2)));
        }
        CHECK(summary == classes);

        for (size_t row = 0; row < rows; ++row) {
            const std::vector<float> x = s.x_of(row);
            const std::vector<int32_t> ids = s.ids_of(row);
            NetworkState one = network.initial_state(), many = network.initial_state();
            std::vector<float> y(2), z(4), last(4), read(steps * 2), sums(steps * 4);
            for (size_t t = 0; t < steps; ++t) {
                network.step({x.data() + 3 * t, ids.data() + t}, one, {y.data(), z.data()});
                CHECK(y == row_of(tags, t, row, 2));
            }
            CHECK(z == row_of(classes, 0, row, 4));
            const NetworkData inputs[] = {x.data(), ids.data()};
            float* const outputs[] = {read.data(), sums.data()};
            network.read(inputs, steps, many, outputs);
            for (size_t t = 0; t < steps; ++t)
                CHECK(std::equal(read.begin() + static_cast<ptrdiff_t>(2 * t),
                                 read.begin() + static_cast<ptrdiff_t>(2 * t + 2), row_of(tags, t, row, 2).begin()));
            CHECK(std::equal(z.begin(), z.end(), sums.end() - 4));
        }
    }
}

TEST_CASE("what lies beyond a row's length has no effect on a network") {
    const Net network = loaded(whole_network);
    Sequences s;
    const int64_t lengths[] = {6, 3, 0};
    std::vector<float> y(4 * rows * 2), again(y);
    network.run({s.x.data()}, {steps, rows, lengths}, {y.data()});
    s.x[(3 * rows + 1) * 3] = 1e30f;  // row 1, step 3
    network.run({s.x.data()}, {steps, rows, lengths}, {again.data()});
    CHECK(y == again);
    CHECK(row_of(y, 0, 1, 2) != std::vector<float>(2));
    CHECK(row_of(y, 1, 1, 2) == std::vector<float>(2));
    CHECK(row_of(y, 0, 2, 2) == std::vector<float>(2));
    const int64_t too_long[] = {7, 3, 0};
    CHECK(contains(sentence_of([&] { network.run({s.x.data()}, {steps, rows, too_long}, {y.data()}); }),
                   "lengths[0] is 7"));
}

TEST_CASE("a network's steps allocate nothing") {
    const Sequences s;
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
        const Net network = loaded(streamed_network, weights);
        NetworkState state = network.initial_state();
        state.reserve();
        float y[2], z[4];
        std::vector<uint8_t> saved(state.saved_size());
        const long before = allocations;
        for (size_t t = 0; t < steps; ++t) network.step({s.x.data() + 3 * t, s.ids.data() + t}, state, {y, z});
        state.save(saved.data(), saved.size());
        state.restore(saved.data(), saved.size());
        state.reset();
        CHECK(allocations == before);
        NetworkState copy = state;
        const long then = allocations;
        network.step({s.x.data(), s.ids.data()}, copy, {y, z});
        CHECK(allocations == then);

        std::vector<NetworkState> all(rows, network.initial_state());
        std::vector<NetworkState*> pointers;
        for (NetworkState& one : all) pointers.push_back(&one);
        const NetworkData inputs[] = {s.x.data(), s.ids.data()};
        std::vector<float> tags(rows * 2);
        float* const outputs[] = {tags.data(), nullptr};
        network.step(inputs, pointers.data(), rows, outputs);
        const long warm = allocations;
        network.step(inputs, pointers.data(), rows, outputs);
        CHECK(allocations == warm);
    }
}

TEST_CASE("a network's state continues from a copy and from saved bytes, and damaged bytes are refused") {
    const Net network = loaded(streamed_network);
    const Sequences s;
    float y[2], again[2];
    NetworkState state = network.initial_state();
    for (size_t t = 0; t < 3; ++t) network.step({s.x.data() + 3 * t, s.ids.data() + t}, state, {y, nullptr});
    NetworkState copy = state, restored = network.initial_state();
    std::vector<uint8_t> bytes = state.save();
    CHECK(bytes.size() == network.saved_size());
    restored.restore(bytes.data(), bytes.size());
    CHECK(restored.save() == bytes);
    network.step({s.x.data() + 9, s.ids.data() + 3}, state, {y, nullptr});
    for (NetworkState* other : {&copy, &restored}) {
        network.step({s.x.data() + 9, s.ids.data() + 3}, *other, {again, nullptr});
        CHECK(std::equal(y, y + 2, again));
    }
    state.reset();
    CHECK(state.save() == network.initial_state().save());

    const auto refused = [&](const std::vector<uint8_t>& wrong) {
        return sentence_of([&] { restored.restore(wrong.data(), wrong.size()); });
    };
    const std::vector<uint8_t> before = restored.save();
    for (size_t size = 1; size < bytes.size(); ++size)
        CHECK(
            contains(refused({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)}), "are not a saved state"));
    std::vector<uint8_t> other = bytes;
    other[8] ^= 1;
    CHECK(contains(refused(other), "r: lstm 2x21"));
    other = bytes;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(other.data() + other.size() - 4, &nan, 4);
    CHECK(contains(refused(other), "NaN"));
    CHECK(restored.save() == before);
    CHECK(contains(sentence_of([&] { state.save(other.data(), 5); }), "has 5 bytes, expected"));

    const Net another = loaded(R"({"inputs":[{"name":"x","size":3}],"layers":[
                               {"name":"r","type":"recurrent","cell":"gru","hidden_size":2}]})");
    CHECK(contains(sentence_of([&] { another.step({s.x.data()}, state, {y}); }), "belongs to another network"));
    NetworkState moved = std::move(state);
    CHECK(!state);
    CHECK(contains(sentence_of([&] { state.save(); }), "this NetworkState is empty"));
}

TEST_CASE("a restored window holds at most the steps it can hold, whatever the bytes say") {
    const Net network = loaded(R"({"inputs":[{"name":"x","size":1}],"layers":[
        {"name":"l","type":"linear","out_features":1},
        {"name":"w","type":"pool_windows","function":"max","kernel_size":3,"before":2}]})");
    NetworkState state = network.initial_state();
    float x = 1, first, y;
    network.step({&x}, state, {&first});
    for (const float count : {-5.0f, -0.5f, 0.0f, 1.0f, 2.5f, 1e30f}) {
        std::vector<uint8_t> bytes = network.initial_state().save();
        std::memcpy(bytes.data() + bytes.size() - 4, &count, 4);
        state.restore(bytes.data(), bytes.size());
        network.step({&x}, state, {&y});
        CHECK(y ==
              (count < 1 ? first : std::max(first, 0.0f)));  // the steps before were zeros, as far as there were any
    }
}

TEST_CASE("wrong inputs of a network are refused in one sentence") {
    const Net network = loaded(streamed_network);
    const Sequences s;
    NetworkState state = network.initial_state();
    float y[2];
    const float* none = nullptr;
    const int32_t* no_ids = nullptr;
    const auto refusal = [&](std::initializer_list<NetworkData> inputs) {
        return sentence_of([&] { network.step(inputs, state, {y, nullptr}); });
    };
    CHECK(contains(refusal({s.x.data()}), "1 inputs, expected 2"));
    CHECK(contains(refusal({s.ids.data(), s.x.data()}), "input \"x\" reads numbers"));
    CHECK(contains(refusal({s.x.data(), s.x.data()}), "input \"tokens\" reads ids"));
    CHECK(contains(refusal({none, s.ids.data()}), "which is null"));
    CHECK(contains(refusal({s.x.data(), no_ids}), "which is null"));
    CHECK(contains(sentence_of([&] { network.step({s.x.data(), s.ids.data()}, state, {y}); }), "1 outputs"));
    const float nan[] = {0, std::numeric_limits<float>::quiet_NaN(), 0};
    CHECK(contains(refusal({nan, s.ids.data()}), "input \"x\" has NaN or infinity at step 0, stream 0, number 1"));
    const int32_t seven = 7;
    CHECK_THROWS_AS(network.step({s.x.data(), &seven}, state, {y, nullptr}), std::out_of_range);
    NetworkState* const twice[] = {&state, &state};
    const NetworkData inputs[] = {s.x.data(), s.ids.data()};
    float two[4];
    float* const outputs[] = {two, nullptr};
    CHECK(contains(sentence_of([&] { network.step(inputs, twice, 2, outputs); }), "states[1] is also states[0]"));
    CHECK(contains(sentence_of([&] { network.step(inputs, twice, 0, outputs); }), "no states"));
    CHECK(contains(sentence_of([&] { network.read(inputs, 0, state, outputs); }), "no steps"));
    CHECK(contains(sentence_of([&] { network.run({s.x.data(), s.ids.data()}, {0, 1}, {y, nullptr}); }), "no steps"));
    CHECK(state.save() == network.initial_state().save());

    const std::string model = model_bytes({});
    try {
        Net::load(model.data(), model.size());
        FAIL("a language model was loaded as a network");
    } catch (const rnnfast::Error& error) {
        CHECK(contains(error.what(), "load it as a LanguageModel"));
    }
}
