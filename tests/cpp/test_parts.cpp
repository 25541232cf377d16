// A sequence computed in parts (as when a step reads the choices of earlier steps) is bit-identical to the whole.
#include "helpers.h"
#include "layers/recurrent.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

constexpr size_t steps = 6, rows = 7, inputs = 5, hidden = 35, fixed_size = 19;
const int64_t ragged[rows] = {2, 6, 1, 4, 6, 3, 5}, shorter[rows] = {2, 5, 1, 4, 5, 3, 5};
const auto x = random_vector(steps * rows * inputs, 1), fixed = random_vector(rows * fixed_size, 2),
           dy = random_vector(steps * rows * hidden, 3), state = random_vector(2 * rows * hidden, 4);

RecurrentOptions options(const std::string& cell) {
    RecurrentOptions o;
    o.cell = cell;
    o.input_size = inputs;
    o.fixed_size = fixed_size;
    o.hidden_size = hidden;
    o.num_layers = 2;
    o.dropout = 0.3f;
    return o;
}

uint64_t bits(const RecurrentOptions& o, const int64_t* lengths, const std::vector<Range>& parts) {
    Recurrent layer(o, 3, active());
    RecurrentTape tape;
    std::vector<float> y(steps * rows * hidden), dx(steps * rows * inputs), last(2 * state.size());
    RecurrentInput input{steps, rows, x.data(), nullptr, lengths, fixed.data()};
    for (const Range& part : parts) {
        input.part = part;
        layer.forward(input, {state.data(), state.data()}, y.data(), {last.data(), last.data() + state.size()}, tape,
                      true, 77);
    }
    layer.backward(tape, dy.data(), {}, dx.data(), {});
    uint64_t hash = hash_bits(dx.data(), dx.size(), hash_bits(y.data(), y.size()));
    hash = hash_bits(last.data(), last.size(), hash);
    for (const Parameter& p : layer.parameters) hash = hash_bits(p.grad.data(), p.size(), hash);
    return hash;
}

}  // namespace

TEST_CASE("a sequence in parts is bit-identical to the whole: outputs, last states and gradients") {
    for (const CellInfo& cell : cells())
        for (const int64_t* lengths : {static_cast<const int64_t*>(nullptr), ragged, shorter})
            for (const bool variational : {false, true}) {
                CAPTURE(std::string(cell.name));
                RecurrentOptions o = options(cell.name);
                o.variational = variational;
                const uint64_t whole = bits(o, lengths, {{0, 0}});
                CHECK(bits(o, lengths, {{0, 6}}) == whole);
                CHECK(bits(o, lengths, {{0, 1}, {1, 4}, {4, 6}}) == whole);
                CHECK(bits(o, lengths, {{0, 1}, {1, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}}) == whole);
            }
}

TEST_CASE("a sequence in parts is refused where a step needs those after it, or is computed again") {
    RecurrentOptions o = options("gru");
    o.bidirectional = true;
    CHECK_THROWS_AS(bits(o, nullptr, {{0, 1}}), std::invalid_argument);
    o = options("gru");
    o.fixed_size = 0;
    o.recompute = true;
    CHECK_THROWS_AS(bits(o, nullptr, {{0, 1}}), std::invalid_argument);
}
